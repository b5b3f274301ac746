"""The provider's meter: follows the chunk store's own counters, signs receipts, and watches what customers owe.

Between two turns changes only wait in memory. A crash loses their list, never their sum: the meter is brought in
line with the counters that the chunk store commits together with the chunks, at a moment without a change under
way. What no receipt names yet is not billed.

Source: protocols/specs/settle.md, "Metering" and "Exposure".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.chunkstore import ChunkStore, UnknownContractError, Usage
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.metering import Change, total
from sovereign_node.store import State
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_node.store.metrics import Metric
from sovereign_protocols.market.lifecycle import ContractEvent, ContractState, advance, can_advance
from sovereign_protocols.market.prices import GB
from sovereign_protocols.settle.bodies import Receipt, batch_root
from sovereign_protocols.settle.exposure import DEMAND_PERCENT, Exposure, ExposureLevel
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, sign_body

log = structlog.get_logger(__name__)

#: A receipt is signed when so many chunks wait, so that their list never grows large.
MAX_WAITING_CHUNKS: Final = 4096
#: How old the newest line of storage_metrics may be.
MEASURE_EVERY_S: Final = 3600
_NO_LIMIT: Final = 2**62
_PAGE: Final = 100


@dataclass
class _Receipts:
    """The newest receipt of a contract: number and content hash."""

    seq: int
    content_hash: bytes


class ProviderMeter:
    """Meters every contract in which this node is the provider. All methods block; any thread may call.

    Args:
        state: meters, receipts and contracts.
        chunk_store: its counters are the truth.
        book: of the provider's side.
        key: signs receipts and statements.
        clock: wall time.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        chunk_store: ChunkStore,
        book: MoneyBook,
        key: SigningKey,
        clock: Callable[[], int],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self._store = chunk_store
        self._book = book
        self._key = key
        self._clock = clock
        self._network_id = network_id
        # Taken after the state's write lock, never before it, and never held while something is written.
        self._lock = threading.Lock()
        self._waiting: dict[bytes, Change] = {}
        self._under_way: dict[bytes, int] = {}
        self._room: dict[bytes, int] = {}
        self._refused: set[bytes] = set()
        self._receipts: dict[bytes, _Receipts] = {}
        self._measured_at: dict[bytes, int] = {}
        self._tell: Callable[[], None] = lambda: None

    def tell_changes(self, token: trio.lowlevel.TrioToken, function: Callable[[], None]) -> None:
        """Call a function in the event loop of a token whenever something was stored or deleted."""

        def tell() -> None:
            # The loop may be gone when the last chunk of a node that stops is written.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(function, idempotent=True)

        self._tell = tell

    # --- what the chunk service calls ------------------------------------------------------------------------

    def admit(self, contract_id: bytes, size_bytes: int) -> bool:
        """See ChunkMeter."""
        if self._take_room(contract_id, size_bytes):
            return True
        with self._lock:
            is_refused = contract_id in self._refused
        if is_refused:
            # Only a payment lowers what is owed, and that asks for a new look.
            return False
        self.flush(contract_id)
        room = self._measure_room(contract_id)
        with self._lock:
            self._room[contract_id] = room
            if room < size_bytes:
                self._refused.add(contract_id)
        return self._take_room(contract_id, size_bytes)

    def _take_room(self, contract_id: bytes, size_bytes: int) -> bool:
        with self._lock:
            room = self._room.get(contract_id, -1)
            if room < size_bytes:
                return False
            self._room[contract_id] = room - size_bytes
            return True

    def _measure_room(self, contract_id: bytes) -> int:
        agreement = self._book.agreement(contract_id)
        if agreement is None or agreement.terms.is_free:
            return _NO_LIMIT
        exposure = self._book.exposure(contract_id, self._clock())
        left = exposure.limit - exposure.exposed
        if left <= 0:
            return 0
        price = agreement.terms.price_per_gb_transfer
        return left * GB // price if price else _NO_LIMIT

    @contextmanager
    def change(self, contract_id: bytes) -> Iterator[Change]:
        """See ChunkMeter."""
        with self._lock:
            self._under_way[contract_id] = self._under_way.get(contract_id, 0) + 1
        change = Change()
        try:
            yield change
        finally:
            is_full = self._end(contract_id, change)
        if is_full:
            self.flush(contract_id)
        self._tell()

    def _end(self, contract_id: bytes, change: Change) -> bool:
        with self._lock:
            self._under_way[contract_id] -= 1
            if not self._under_way[contract_id]:
                del self._under_way[contract_id]
            waiting = self._waiting.setdefault(contract_id, Change())
            waiting.came += change.came
            waiting.gone += change.gone
            waiting.delete_after_at = max(waiting.delete_after_at, change.delete_after_at)
            return len(waiting.came) + len(waiting.gone) >= MAX_WAITING_CHUNKS

    def look_again(self, contract_id: bytes) -> None:
        """Forget how much credit is left, because a payment or new terms came."""
        with self._lock:
            self._room.pop(contract_id, None)
            self._refused.discard(contract_id)

    def resume(self, contract_id: bytes) -> None:
        """Allow uploads again if a payment that came just now is enough."""
        self.look_again(contract_id)
        contract = self._state.contracts.get(contract_id)
        if contract is not None and contract.state == ContractState.LIMITED.value:
            with self.writing():
                self._judge(contract_id)

    # --- turns -----------------------------------------------------------------------------------------------

    def run_once(self) -> None:
        """Bring all meters, receipts, periods and states up to now."""
        self._store.flush_counters()
        with self._lock:
            self._room.clear()
            self._refused.clear()
        contracts = self._state.contracts.all(role="provider", states=LIVE_STATES)
        for start in range(0, len(contracts), _PAGE):
            with self.writing():
                for contract in contracts[start : start + _PAGE]:
                    self._flush(contract)
                    self._judge(contract.contract_id)
        for contract in self._state.contracts.all(role="provider", states=("closed",)):
            with self.writing():
                self._finish(contract)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block as one transaction; what was remembered on the way is forgotten if it fails."""
        try:
            with self._state.transaction():
                yield
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """Drop what was remembered in a transaction that did not happen."""
        self._receipts.clear()
        self._book.forget()

    def flush(self, contract_id: bytes, *, for_report: bool = True) -> None:
        """Bring one meter up to now: close periods that are over, sign receipts, count what was moved.

        Args:
            contract_id: 32 bytes.
            for_report: also keep the reading of this very second, because a report is going to name it.
        """
        contract = self._state.contracts.get(contract_id)
        if contract is None or contract.role != "provider" or contract.state == "closed":
            return
        with self.writing():
            self._flush(contract)
            kept = self._state.meters.get(contract_id)
            if for_report and (kept is None or kept.at < self._clock()):
                self._keep(contract, self._book.meter(contract_id, self._clock()))
            self._judge(contract_id)

    def flush_changed(self) -> None:
        """Bring the meters of all contracts in line under which something changed and nothing is under way now."""
        with self._lock:
            changed = [contract_id for contract_id in self._waiting if contract_id not in self._under_way]
        with self.writing():
            for contract_id in changed:
                self.flush(contract_id, for_report=False)

    def _flush(self, contract: Contract) -> None:
        contract_id = contract.contract_id
        now = self._clock()
        self._book.begin(contract_id)
        while (end := self._book.period_end(contract_id)) <= now:
            self._book.close(contract_id, self._key, until_at=end, at=now)
            log.info("period_closed", contract_id=contract_id.hex(), until_at=end)
        with self._lock:
            waiting = self._waiting.pop(contract_id, None) or Change()
            is_quiet = contract_id not in self._under_way
            try:
                usage = self._store.usage(contract_id)
            except UnknownContractError:
                return
        before = self._book.meter(contract_id, now)
        after = self._sign_changes(contract_id, before, waiting, usage if is_quiet else None)
        moved_in = max(0, usage.received_bytes - after.bytes_in)
        moved_out = max(0, usage.sent_bytes - after.bytes_out)
        after = after.move(bytes_in=moved_in, bytes_out=moved_out)
        if after != before or self._measured_at.get(contract_id, 0) + MEASURE_EVERY_S <= now:
            self._keep(contract, after)
        if self._book.has_new_prices(contract_id):
            self._mark_revision(contract_id, after)

    def _keep(self, contract: Contract, meter: Meter) -> None:
        contract_id = contract.contract_id
        self._measured_at[contract_id] = meter.at
        self._state.meters.update(contract_id, lambda _: meter, at=contract.started_at)
        self._state.contracts.set_stored(
            contract_id, stored_bytes=meter.stored_bytes, stored_chunks=meter.stored_chunks
        )
        newest = self._state.metrics.newest(contract_id)
        self._state.metrics.record(
            Metric(
                contract_id=contract_id,
                measured_at=meter.at,
                stored_bytes=meter.stored_bytes,
                stored_chunks=meter.stored_chunks,
                bytes_in=meter.bytes_in,
                bytes_out=meter.bytes_out,
                byte_seconds=meter.byte_seconds,
                windows_good=newest.windows_good if newest else 0,
                windows_observed=newest.windows_observed if newest else 0,
            )
        )

    # --- receipts --------------------------------------------------------------------------------------------

    def _sign_changes(self, contract_id: bytes, meter: Meter, waiting: Change, usage: Usage | None) -> Meter:
        """Sign a receipt for what came and one for what went, and put what no list names in line with the store."""
        if waiting.came:
            meter = meter.put(total(waiting.came), meter.at, chunks=len(waiting.came))
            self._sign(contract_id, meter, waiting.came, len(waiting.came), total(waiting.came))
        gone = waiting.gone
        if gone and total(gone) <= meter.stored_bytes and len(gone) <= meter.stored_chunks:
            meter = meter.release(total(gone), meter.at, chunks=len(gone))
            self._sign(contract_id, meter, gone, len(gone), total(gone), waiting.delete_after_at or meter.at)
        if usage is None:
            return meter
        live_bytes = usage.size_bytes - usage.marked_bytes
        live_chunks = usage.chunks - usage.marked_chunks
        if (live_bytes, live_chunks) == (meter.stored_bytes, meter.stored_chunks):
            return meter
        size, chunks = live_bytes - meter.stored_bytes, live_chunks - meter.stored_chunks
        meter = Meter(meter.at, live_bytes, live_chunks, meter.byte_seconds, meter.bytes_in, meter.bytes_out)
        is_release = size < 0 or (size == 0 and chunks < 0)
        self._sign(contract_id, meter, (), abs(chunks), abs(size), meter.at if is_release else 0)
        return meter

    def _mark_revision(self, contract_id: bytes, meter: Meter) -> None:
        """Sign an empty receipt whose root names the new terms: both sides split their lines at its time."""
        agreement = self._book.agreement(contract_id)
        assert agreement is not None
        self._sign(contract_id, meter, (), 0, 0, root=agreement.terms_hash)
        self._book.revise(contract_id, meter.at)

    def _sign(
        self,
        contract_id: bytes,
        meter: Meter,
        items: Sequence[tuple[bytes, int]],
        count: int,
        batch_bytes: int,
        delete_after_at: int = 0,
        *,
        root: bytes | None = None,
    ) -> None:
        last = self._last_receipt(contract_id)
        receipt = Receipt(
            contract=contract_id,
            seq=last.seq + 1,
            previous=last.content_hash,
            root=batch_root(items) if root is None else root,
            count=count,
            batch_bytes=batch_bytes,
            stored_bytes=meter.stored_bytes,
            at=meter.at,
            delete_after_at=delete_after_at,
        )
        signed = sign_body(receipt, self._key, self._network_id)
        self._book.add(signed, contract_id, receipt.seq, meter.at)
        self._receipts[contract_id] = _Receipts(receipt.seq, signed.content_hash)

    def _last_receipt(self, contract_id: bytes) -> _Receipts:
        known = self._receipts.get(contract_id)
        if known is None:
            newest = self._book.newest(contract_id, Receipt)
            known = _Receipts(newest[0].body.seq, newest[0].content_hash) if newest else _Receipts(0, NO_HASH)
        return known

    # --- states ----------------------------------------------------------------------------------------------

    def _judge(self, contract_id: bytes) -> None:
        """Stop uploads when the credit is used up, and allow them again when it is not."""
        contract = self._state.contracts.get(contract_id)
        assert contract is not None
        state = ContractState(contract.state)
        exposure = self._book.exposure(contract_id, self._clock())
        event = _event(exposure, state)
        if event is not None and can_advance(state, event):
            moved = advance(state, event)
            self._state.contracts.set_state(contract_id, moved.value, self._clock())
            self._state.audit.record("node", f"contract_{moved.value}", contract_id.hex(), "ok", at=self._clock())
            self.look_again(contract_id)

    def _finish(self, contract: Contract) -> None:
        """Sign the statement of the last, shorter period of a contract that both parties closed."""
        contract_id = contract.contract_id
        start = self._book.period_start(contract_id)
        if start >= contract.state_changed_at:
            return
        meter = self._book.meter(contract_id, 0)
        until_at = max(start + 1, meter.at)
        self._book.close(contract_id, self._key, until_at=until_at, at=self._clock())
        # From now on the period begins where the contract ended, so that this happens once.
        self._state.contracts.set_state(contract_id, contract.state, until_at)


def _event(exposure: Exposure, state: ContractState) -> ContractEvent | None:
    if exposure.level is ExposureLevel.STOP:
        return ContractEvent.CREDIT_EXHAUSTED
    is_low = exposure.exposed <= 0 or exposure.exposed * 100 < exposure.limit * DEMAND_PERCENT
    if state is ContractState.LIMITED and is_low:
        return ContractEvent.PAID
    return None
