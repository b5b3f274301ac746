"""One conversation of a customer's device with a provider: receipts, statement, report, voucher, notes, notices."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.money.bounds import OverMeteredError
from sovereign_node.services.money.customer_books import CustomerBooks
from sovereign_node.services.money.notes import NoteKeeper, credit_due_key
from sovereign_node.services.money.overdue import keep_act
from sovereign_node.services.money.tally import Tally
from sovereign_node.services.peer_finder import PeerFinder, unreachable
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.acts import ActKind, SignedAct
from sovereign_protocols.market.lifecycle import ContractEvent, ContractState, advance, can_advance
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.shell import Introduction, open_client
from sovereign_protocols.settle.bodies import CreditNote, Voucher
from sovereign_protocols.settle.messages import MAX_RECEIPTS, PROTOCOL_ID
from sovereign_protocols.settle.shell import SettlementClient
from sovereign_protocols.settle.signed import Signed

log = structlog.get_logger(__name__)

#: Periods that one turn may close, and pages of receipts that it may read; the next turn goes on.
MAX_STEPS = 400
#: How often a provider is asked for gifts that no own audit announces.
CREDITS_EVERY_S = 7 * 86_400


class Turns:
    """Speaks with providers as their customer.

    Args:
        state: this node's state.
        introduction: of this device, as of now.
        finder: reaches providers.
        books: decides.
        notes: credit notes.
        clock: wall time.
    """

    def __init__(
        self,
        state: State,
        introduction: Callable[[], Introduction],
        finder: PeerFinder,
        books: CustomerBooks,
        notes: NoteKeeper,
        clock: Clock,
    ) -> None:
        self._state = state
        self._introduction = introduction
        self._finder = finder
        self._books = books
        self._notes = notes
        self._clock = clock
        self._locks: dict[bytes, trio.Lock] = {}

    @asynccontextmanager
    async def session(self, device: bytes) -> AsyncIterator[SettlementClient]:
        """Serve the block with a conversation about money.

        Args:
            device: public key of the other side's device.

        Raises:
            NodeError: unreachable, or it refuses.
        """
        peer_id = peer_id_from_public_key(device)
        stream = await self._finder.open_stream(peer_id, PROTOCOL_ID)
        try:
            async with open_client(SettlementClient, stream, self._introduction(), device) as client:
                yield client
        except RefusedError as error:
            raise refusal_in_words(error, peer_id) from error
        except ProtocolError as error:
            raise unreachable(peer_id) from error

    async def take(self, contract: Contract, *, is_asked: bool = False) -> bool:
        """Bring both sides of one contract together.

        Args:
            contract: in which this identity is the customer.
            is_asked: pay whatever is owed, even if no voucher is due.

        Returns:
            Whether both sides agree and nothing that is due is left.

        Raises:
            NodeError: the provider cannot be reached, or refuses.
        """
        lock = self._locks.setdefault(contract.contract_id, trio.Lock())
        async with lock, self.session(contract.provider_device) as client:
            done = await Turn(client, contract, self._books, self._notes, self._state, self._clock).run(is_asked)
        return done

    async def hand_in_transfer(self, contract: Contract, tally: Tally) -> None:
        """Sign what this device moved, for the provider to show to the own device that pays.

        Raises:
            NodeError: the provider cannot be reached, or refuses.
        """
        receipt = await trio.to_thread.run_sync(self._books.sign_transfer, contract.contract_id, tally)
        async with self.session(contract.provider_device) as client:
            await client.send_transfer(receipt)

    async def recover(self, contract: Contract, shown: tuple[bytes, ...]) -> None:
        """Take over what a provider holds of this device's vouchers, after the state was restored."""
        new_lane = 1 + secrets.randbelow(65_535)
        await trio.to_thread.run_sync(self._books.recover, contract.contract_id, shown, new_lane)


class Turn:
    """The steps of one conversation about one contract.

    Args:
        client: open conversation.
        contract: in which this identity is the customer.
        books: decides.
        notes: credit notes.
        state: this node's state.
        clock: wall time.
    """

    def __init__(
        self,
        client: SettlementClient,
        contract: Contract,
        books: CustomerBooks,
        notes: NoteKeeper,
        state: State,
        clock: Clock,
    ) -> None:
        self._client = client
        self._contract = contract
        self._id = contract.contract_id
        self._books = books
        self._notes = notes
        self._state = state
        self._clock = clock
        self._voucher: Signed[Voucher] | None = None

    async def run(self, is_asked: bool) -> bool:
        """See Turns.take."""
        tally = await trio.to_thread.run_sync(self._books.tally, self._id)
        has_sent = await self._hand_in_voucher()
        await self._hand_in_notes()
        await self._read_notices()
        await self._take_credits(is_asked)
        if self._books.bounds.is_shared:
            transfers = await self._client.transfers(self._id)
            await trio.to_thread.run_sync(self._books.bounds.take, self._id, transfers)
        try:
            agreed = await self._agree(is_asked)
        except OverMeteredError as error:
            if error.may_follow:
                log.info("receipts_awaited", contract_id=self._id.hex(), reason=error.what)
                await trio.to_thread.run_sync(self._books.bounds.note_missing, self._id)
            else:
                await self._object(error.what)
            agreed = False
        if agreed:
            await trio.to_thread.run_sync(self._books.bounds.note_complete, self._id)
        voucher = self._voucher
        if voucher is not None:
            await self._client.send_voucher(voucher)
        sent = has_sent or voucher is not None
        await trio.to_thread.run_sync(
            lambda: self._books.note_turn(self._id, tally, agreed=agreed, acknowledged=sent)
        )
        return agreed

    async def _hand_in_voucher(self) -> bool:
        """Send the newest voucher again if it may not have arrived."""
        voucher = await trio.to_thread.run_sync(self._books.unacknowledged, self._id)
        if voucher is not None:
            await self._client.send_voucher(voucher)
        return voucher is not None

    async def _hand_in_notes(self) -> None:
        for note in await trio.to_thread.run_sync(self._notes.waiting, self._id):
            if note.body.payer == self._contract.customer_identity:
                await hand_in_note(self._client, self._notes, note)

    async def _take_credits(self, is_asked: bool) -> None:
        """Sign what the provider gives back, and hand the signature in."""
        if not is_asked and not await trio.to_thread.run_sync(self._may_be_credited):
            return
        for note in await self._client.credits(self._id):
            own = await trio.to_thread.run_sync(self._notes.accept, self._contract, note)
            await self._client.credit(own)
        await trio.to_thread.run_sync(self._note_credits)

    def _may_be_credited(self) -> bool:
        """Tell whether an audit failed since the provider was asked last; once a week ask anyway. Blocks."""
        if self._state.meta.get(credit_due_key(self._id)) is not None:
            return True
        asked_at = int(self._state.meta.get(_credits_key(self._id)) or self._contract.started_at)
        return self._clock() - asked_at >= CREDITS_EVERY_S

    def _note_credits(self) -> None:
        with self._state.transaction():
            self._state.meta.set(_credits_key(self._id), str(self._clock()))
            self._state.meta.delete(credit_due_key(self._id))

    async def _read_notices(self) -> None:
        for act in await self._client.notices(self._id):
            await trio.to_thread.run_sync(self._keep_notice, act)

    def _keep_notice(self, act: SignedAct) -> None:
        """Keep a notice; a new one is told in the audit log."""
        row = self._state.contracts.get(self._id)
        assert row is not None
        with self._state.transaction():
            known = {item.statement_hash for item in self._state.contracts.statements(self._id)}
            keep_act(self._state, act, row, self._clock())
            state = ContractState(row.state)
            is_exit = act.act.kind is ActKind.EXIT and can_advance(state, ContractEvent.EXIT_NOTICE)
            if is_exit and act.statement_hash not in known:
                moved = advance(state, ContractEvent.EXIT_NOTICE)
                self._state.contracts.set_state(self._id, moved.value, self._clock())
            if act.statement_hash not in known:
                self._state.audit.record(
                    "provider", f"notice_{act.act.kind.value}", self._id.hex(), "ok", at=self._clock()
                )

    async def _agree(self, is_asked: bool) -> bool:
        """Take receipts, statements and a report until both sides stand at the same point; False if they cannot."""
        given_up = await trio.to_thread.run_sync(self._books.given_up, self._id)
        for _ in range(MAX_STEPS):
            if not await self._take_receipts():
                if not await self._take_statement():
                    return False
                continue
            if await trio.to_thread.run_sync(self._books.book.period_end, self._id) <= self._clock():
                if not await self._take_statement():
                    return False
                continue
            if self._contract.state == "closed":
                return await self._finish()
            report = await self._client.report(self._id)
            seq, content_hash = await trio.to_thread.run_sync(self._books.newest_receipt, self._id)
            if report.body.inputs != content_hash:
                # Something changed between the two questions, perhaps more than once: the provider must show the
                # receipt that it named, not end with it.
                if await self._take_receipts() and not await trio.to_thread.run_sync(
                    self._books.has_receipt, self._id, seq, report.body.inputs
                ):
                    raise OverMeteredError("the report rests on receipts that are not shown")
                continue
            try:
                self._voucher = await trio.to_thread.run_sync(
                    lambda signed=report: self._books.settle_report(self._id, signed, given_up, is_asked=is_asked)
                )
            except OverMeteredError as error:
                if error.may_follow:
                    raise
                dispute = await trio.to_thread.run_sync(self._books.dispute, self._id, report)
                await self._client.dispute(dispute)
                log.warning("meter_disputed", contract_id=self._id.hex(), reason=error.what)
                return False
            return True
        return False

    async def _finish(self) -> bool:
        """Agree with the last statement of a contract that both parties closed."""
        done = await self._take_statement()
        self._voucher = await trio.to_thread.run_sync(lambda: self._books.next_voucher(self._id, is_asked=True))
        if done:
            await trio.to_thread.run_sync(self._state.meta.set, final_key(self._id), "1")
        return done

    async def _take_receipts(self) -> bool:
        """Read what is new; False if the next receipt belongs to the next period."""
        for _ in range(MAX_STEPS):
            seq, _hash = await trio.to_thread.run_sync(self._books.newest_receipt, self._id)
            page = await self._client.receipts(self._id, seq)
            taken = await trio.to_thread.run_sync(self._books.take_receipts, self._id, page)
            if taken < len(page):
                return False
            if len(page) < MAX_RECEIPTS:
                return True
        return True

    async def _take_statement(self) -> bool:
        """Agree with the statement of the period that ended; False if there is none yet, or it differs."""
        period = await trio.to_thread.run_sync(lambda: len(self._books.book.statements(self._id)))
        try:
            theirs = await self._client.statement(self._id, period)
        except RefusedError as error:
            if error.reason is Reason.STATE:
                return False
            raise
        try:
            own = await trio.to_thread.run_sync(self._books.take_statement, self._id, theirs)
        except RefusedError as error:
            log.warning("statement_refused", contract_id=self._id.hex(), period=period, **error.data)
            await self._note_trouble("statement_refused")
            return False
        await self._client.cosign(own)
        return True

    async def _object(self, reason: str) -> None:
        """Hand in the own figures against a report, because receipts already cannot be true."""
        report = await self._client.report(self._id)
        dispute = await trio.to_thread.run_sync(self._books.dispute, self._id, report)
        await self._client.dispute(dispute)
        log.warning("meter_disputed", contract_id=self._id.hex(), reason=reason)

    async def _note_trouble(self, action: str) -> None:
        await trio.to_thread.run_sync(
            lambda: self._state.audit.record("node", action, self._id.hex(), "failed", at=self._clock())
        )


def final_key(contract_id: bytes) -> str:
    """Name the note that a closed contract has its last statement."""
    return f"final:{contract_id.hex()}"


def _credits_key(contract_id: bytes) -> str:
    return f"credits_asked:{contract_id.hex()}"


async def hand_in_note(client: SettlementClient, notes: NoteKeeper, note: Signed[CreditNote]) -> bool:
    """Offer an own note to the other party; returns whether it signed too."""
    copy = await client.credit(note)
    if copy is None:
        return False
    await trio.to_thread.run_sync(notes.count, note, copy)
    return True


def refusal_in_words(error: RefusedError, peer_id: str) -> NodeError:
    """Put a refusal about money into words."""
    figures = ", ".join(f"{name} {value:,}" for name, value in error.data.items())
    return NodeError(
        f"provider_refused_{error.reason.value}",
        f"{peer_id} refused: {error.reason.value}" + (f" ({figures})" if figures else ""),
        "the contract's papers are kept: sovereign dispute export CONTRACT",
    )
