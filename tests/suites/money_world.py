"""Both sides of many contracts over real databases and real settlement streams, with a clock that tests move.

Chunks are only counted, so 5 GB cost nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing
from market_world import CUSTOMER, GB, NOW, PROVIDER, Node, World

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.chunkstore import UnknownContractError, Usage
from sovereign_node.services.contract_book import agreement_statements, begin_accrual, contract_row
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.bounds import OtherDevices
from sovereign_node.services.money.customer_books import CustomerBooks
from sovereign_node.services.money.desk import MoneyDesk
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.services.money.overdue import Overdue
from sovereign_node.services.money.provider_meter import ProviderMeter
from sovereign_node.services.money.tally import Tally
from sovereign_node.services.money.turns import Turn
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.prices import UptimeCount
from sovereign_protocols.market.terms import Agreement, BonusPayer, countersign, sign_terms
from sovereign_protocols.requests.shell import Introduction, open_client, serve_requests
from sovereign_protocols.settle.messages import PROTOCOL
from sovereign_protocols.settle.shell import SettlementClient

MONTH_WINDOWS = 4320


class CountedStore:
    """The counters of a chunk store, set by tests."""

    def __init__(self) -> None:
        self.usages: dict[bytes, Usage] = {}

    def usage(self, contract_id: bytes) -> Usage:
        try:
            return self.usages[contract_id]
        except KeyError:
            raise UnknownContractError(contract_id.hex()) from None

    def flush_counters(self) -> None:
        return

    def drop_contract(self, contract_id: bytes) -> None:
        del self.usages[contract_id]

    def add(self, contract_id: bytes, *, live: int = 0, chunks: int = 0, received: int = 0, sent: int = 0) -> None:
        """Change the counters of a contract."""
        known = self.usages.get(contract_id) or Usage(10**12, 0, 0, 0, 0, 0, 0)
        self.usages[contract_id] = dataclasses.replace(
            known,
            size_bytes=known.size_bytes + live,
            chunks=known.chunks + chunks,
            received_bytes=known.received_bytes + received,
            sent_bytes=known.sent_bytes + sent,
        )


class MoneyWorld:
    """A provider and a customer.

    Args:
        folder: for databases.
        states: of the provider and of the customer.
        uptime: windows that both sides' observers counted.
    """

    def __init__(self, provider: State, customer: State, uptime: UptimeCount | None = None) -> None:
        self.now = NOW
        self.states = {"provider": provider, "customer": customer}
        self.uptime = uptime or UptimeCount(0, 0, 0)
        self.store = CountedStore()
        self.tallies: dict[bytes, Tally] = {}
        self.market = World()
        self.made = 0
        self.others = OtherDevices()

        def clock() -> int:
            return self.now

        self.books = {
            role: MoneyBook(state, is_provider=role == "provider", uptime=lambda *_: self.uptime)
            for role, state in self.states.items()
        }
        self.meter = ProviderMeter(provider, self.store, self.books["provider"], PROVIDER.device_key, clock)
        self.overdue = Overdue(provider, self.store, self.books["provider"], PROVIDER.device_key, clock)
        self.notes = {
            role: NoteKeeper(
                self.states[role],
                node.identity,
                node.device_key,
                clock,
                self.books,
                on_counted=self.meter.look_again,
            )
            for role, node in (("provider", PROVIDER), ("customer", CUSTOMER))
        }
        self.customer = CustomerBooks(
            customer,
            self.books["customer"],
            CUSTOMER.device_key,
            clock,
            tally=lambda contract_id: self.tallies.get(contract_id, Tally()),
            others=lambda: self.others,
        )
        self.desk = MoneyDesk(
            device_key=PROVIDER.device_key,
            state=provider,
            book=self.books["provider"],
            meter=self.meter,
            notes=self.notes["provider"],
            clock=clock,
        )

    def open(self, **changes: object) -> bytes:
        """Open a contract of 5 GB at list price on both sides."""
        terms = dataclasses.replace(
            self.market.terms(nonce=self.made),
            **{
                "bonus_payer": BonusPayer.CUSTOMER,
                "bonus_permille": 1500,
                "credit_limit": 20_000_000,
                "start_at": self.now,
                "end_at": self.now + 12 * 2_592_000,
                **changes,
            },  # type: ignore[arg-type]
        )
        self.made += 1
        agreement = countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key)
        self.save(agreement)
        return agreement.contract_id

    def save(self, agreement: Agreement) -> None:
        """Put a revision in force on both sides."""
        for role, state in self.states.items():
            row = contract_row(agreement, role, ContractState.ACTIVE, at=self.now)
            state.contracts.save(row, agreement_statements(agreement, at=self.now))
            begin_accrual(state, agreement, is_provider=role == "provider", network_id=NETWORK_ID_MAIN)

    def put(self, contract_id: bytes, size: int, *, chunks: int = 1, moved: int | None = None) -> None:
        """Store chunks, as the customer and the chunk store count them."""
        moved = size if moved is None else moved
        self.store.add(contract_id, live=size, chunks=chunks, received=moved)
        known = self.tallies.get(contract_id, Tally())
        self.tallies[contract_id] = dataclasses.replace(
            known,
            sent_bytes=known.sent_bytes + max(size, moved),
            sent_chunks=known.sent_chunks + chunks,
        )

    def row(self, contract_id: bytes, role: str = "provider") -> Contract:
        found = self.states[role].contracts.get(contract_id)
        assert found is not None
        return found

    @asynccontextmanager
    async def client(self, node: Node = CUSTOMER) -> AsyncIterator[SettlementClient]:
        """Serve the block with a conversation of the customer, or of another node, with the provider."""
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve() -> None:
            await serve_requests(
                theirs,
                self.desk,
                PROTOCOL,
                Introduction(PROVIDER.certificate, lambda: self.now),
                node.device_key.public,
            )

        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                async with open_client(
                    SettlementClient,
                    ours,
                    Introduction(node.certificate, lambda: self.now),
                    PROVIDER.device_key.public,
                ) as client:
                    yield client
            except Exception as error:  # noqa: BLE001 - raised again outside of the nursery
                failure = error
        if failure is not None:
            raise failure

    async def turn(self, *contract_ids: bytes, is_asked: bool = False) -> bool:
        """Let the customer take a turn; returns whether both sides agree everywhere."""
        agreed = True
        async with self.client() as client:
            for contract_id in contract_ids:
                contract = self.row(contract_id, "customer")
                turn = Turn(
                    client,
                    contract,
                    self.customer,
                    self.notes["customer"],
                    self.states["customer"],
                    lambda: self.now,
                )
                agreed &= await turn.run(is_asked)
        return agreed

    async def wait(self, seconds: int, *contract_ids: bytes, step_s: int = 86_400) -> bool:
        """Let time pass in steps in which both sides look at the clock."""
        agreed = True
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + step_s, until)
            self.meter.run_once()
            self.overdue.run_once()
            agreed &= await self.turn(*contract_ids)
        return agreed


def databases(folder: Path) -> tuple[Path, Path]:
    """Name the databases of both sides."""
    return folder / "provider.sqlite", folder / "customer.sqlite"


__all__ = ["CUSTOMER", "GB", "NOW", "PROVIDER", "MoneyWorld", "databases"]
