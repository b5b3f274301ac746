"""Both sides of many contracts over real databases; chunks are only counted, so 5 GB cost nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.chunkstore import ChunkStore, MemoryChunkStore, Usage
from sovereign_node.services.contract_book import agreement_statements, begin_accrual, contract_row
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.customer_books import CustomerBooks
from sovereign_node.services.money.desk import MoneyDesk
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.services.money.provider_meter import ProviderMeter
from sovereign_node.services.money.tally import Tally
from sovereign_node.store import State, open_state
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.prices import LIST_PRICES, MONTH_S
from sovereign_protocols.market.terms import ContractTerms, countersign, sign_terms
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import MeterReport, Receipt
from sovereign_protocols.settle.signed import Signed, parse_signed

GB: Final = 10**9
_EMPTY: Final = Usage(10**15, 0, 0, 0, 0, 0, 0)


class CountedStore(MemoryChunkStore):
    """A chunk store of which only the counters are real."""

    def __init__(self) -> None:
        super().__init__()
        self.usages: dict[bytes, Usage] = {}

    def usage(self, contract_id: bytes) -> Usage:
        """See ChunkStore."""
        return self.usages.get(contract_id, _EMPTY)


class Sides:
    """A provider and a customer.

    Args:
        provider: its state.
        customer: its state.
    """

    def __init__(self, provider: State, customer: State) -> None:
        self.now = int(time.time())
        self._states = {"provider": provider, "customer": customer}
        self._keys = {role: SigningKey.generate() for role in self._states}
        self._identities = {role: os.urandom(32) for role in self._states}
        self._store = CountedStore()
        self._tallies: dict[bytes, Tally] = {}
        self._books = {
            role: MoneyBook(state, is_provider=role == "provider") for role, state in self._states.items()
        }
        self.meter = self.meter_over(self._store)
        notes = NoteKeeper(provider, self._identities["provider"], self._keys["provider"], self._clock, self._books)
        self._desk = MoneyDesk(
            device_key=self._keys["provider"],
            state=provider,
            book=self._books["provider"],
            meter=self.meter,
            notes=notes,
            clock=self._clock,
        )
        self._customer = CustomerBooks(
            customer, self._books["customer"], self._keys["customer"], self._clock, tally=self._tallies.__getitem__
        )
        self._caller = Caller(self._identities["customer"], self._keys["customer"].public)

    def _clock(self) -> int:
        return self.now

    def meter_over(self, store: ChunkStore) -> ProviderMeter:
        """Make a meter of the provider that follows another chunk store."""
        return ProviderMeter(
            self._states["provider"], store, self._books["provider"], self._keys["provider"], self._clock
        )

    def open(self, **changes: Any) -> bytes:
        """Open a contract at list price on both sides; returns its id."""
        terms = ContractTerms(
            customer_identity=self._identities["customer"],
            customer_device=self._keys["customer"].public,
            provider_identity=self._identities["provider"],
            provider_device=self._keys["provider"].public,
            capacity_bytes=10 * GB,
            start_at=self.now,
            end_at=self.now + 12 * MONTH_S,
            price_per_gb_month=LIST_PRICES.micro_vibe_per_gb_month,
            price_per_gb_transfer=LIST_PRICES.micro_vibe_per_gb_transfer,
            nonce=os.urandom(16),
            credit_limit=20_000_000,
        )
        signed = sign_terms(replace(terms, **changes), self._keys["customer"])
        agreement = countersign(signed, self._keys["provider"])
        for role, state in self._states.items():
            row = contract_row(agreement, role, ContractState.ACTIVE, at=self.now)
            with state.transaction():
                state.contracts.save(row, agreement_statements(agreement, at=self.now))
                begin_accrual(state, agreement, is_provider=role == "provider", network_id=NETWORK_ID_MAIN)
        return agreement.contract_id

    def put(self, contract_id: bytes, size_bytes: int) -> None:
        """Store one chunk, as the customer and the chunk store count it."""
        self._store.usages[contract_id] = replace(
            _EMPTY, size_bytes=size_bytes, chunks=1, received_bytes=size_bytes
        )
        self._tallies[contract_id] = Tally(sent_bytes=size_bytes, sent_chunks=1)

    def take_receipts(self, contract_id: bytes) -> None:
        """Let the customer believe the receipts that the provider shows."""
        answer = self._desk.handle(self._caller, m.ReceiptQuery(contract_id, 0))
        assert isinstance(answer, m.ReceiptList)
        self._customer.take_receipts(contract_id, [parse_signed(raw, Receipt) for raw in answer.receipts])

    def ask_report(self, contract_id: bytes) -> Signed[MeterReport]:
        """Let the customer ask for the report of this moment."""
        answer = self._desk.handle(self._caller, m.ReportQuery(contract_id))
        assert isinstance(answer, m.ReportAnswer)
        return parse_signed(answer.report, MeterReport)

    def pay(self, item: tuple[bytes, Signed[MeterReport]]) -> m.VoucherKept:
        """Let the customer agree with a report, sign the voucher, and hand it in."""
        contract_id, report = item
        voucher = self._customer.settle_report(contract_id, report)
        assert voucher is not None
        answer = self._desk.handle(self._caller, m.VoucherNote(voucher.raw))
        assert isinstance(answer, m.VoucherKept)
        tally = self._tallies[contract_id]
        self._customer.note_turn(contract_id, tally, agreed=True, acknowledged=True)
        return answer


@contextmanager
def open_sides(folder: Path) -> Iterator[Sides]:
    """Serve the block with both sides over new databases below a folder."""
    with ExitStack() as stack:
        states = []
        for role in ("provider", "customer"):
            (folder / role).mkdir(parents=True)
            states.append(stack.enter_context(open_state(folder / role / "state.sqlite")))
        yield Sides(*states)
