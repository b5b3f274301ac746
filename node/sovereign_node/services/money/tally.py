"""What this device sent and received itself, per contract: the bound that a provider's figures must stay below.

Counted before a chunk is sent, so the tally is never below the truth; it may be above by what was lost on the way.
It is written ahead in steps: after a crash it stands at the end of the step, again not below the truth.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Final

import trio

from sovereign_node.store import State

#: How far the tally is written ahead: one small write for this much traffic.
STEP_BYTES: Final = 256 * 1024**2
STEP_CHUNKS: Final = 4096
#: The smallest chunk that the formats allow.
MIN_CHUNK_BYTES: Final = 4096


@dataclass(frozen=True)
class Tally:
    """Bounds of one contract.

    Args:
        sent_bytes: at most so many bytes went to the provider.
        sent_chunks: in at most so many chunks.
        received_bytes: at most so many bytes came.
        deleted_chunks: at least so many chunks were given up.
    """

    sent_bytes: int = 0
    sent_chunks: int = 0
    received_bytes: int = 0
    deleted_chunks: int = 0

    def covers(self, other: Tally) -> bool:
        """Tell whether no bound of another tally is beyond this one."""
        return (
            other.sent_bytes <= self.sent_bytes
            and other.sent_chunks <= self.sent_chunks
            and other.received_bytes <= self.received_bytes
        )


class Tallies:
    """Counts for all contracts of this device; see TransferTally.

    Args:
        state: where the tallies are kept.
        pay_now: pays what is due under a contract at once; tells whether it could.
        moved: told after every step's worth of traffic, so that vouchers follow it.
    """

    def __init__(
        self,
        state: State,
        *,
        pay_now: Callable[[bytes], Awaitable[bool]],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._pay_now = pay_now
        self._moved = moved
        self._exact: dict[bytes, Tally] = {}
        self._written: dict[bytes, Tally] = {}
        self._lock = trio.Lock()
        self._signed: dict[bytes, Tally] = {}
        self._seen: dict[bytes, Tally] = {}

    async def sending(self, contract_id: bytes, size_bytes: int) -> None:
        """See TransferTally."""
        known = await self._known(contract_id)
        await self._set(
            contract_id,
            replace(known, sent_bytes=known.sent_bytes + size_bytes, sent_chunks=known.sent_chunks + 1),
        )

    async def received(self, contract_id: bytes, size_bytes: int) -> None:
        """See TransferTally."""
        known = await self._known(contract_id)
        await self._set(contract_id, replace(known, received_bytes=known.received_bytes + size_bytes))

    async def deleted(self, contract_id: bytes, chunks: int) -> None:
        """See TransferTally."""
        known = await self._known(contract_id)
        self._exact[contract_id] = replace(known, deleted_chunks=known.deleted_chunks + chunks)
        await self.save(contract_id)

    async def pay(self, contract_id: bytes) -> bool:
        """See TransferTally."""
        return await self._pay_now(contract_id)

    async def load(self, contract_id: bytes) -> None:
        """Take up a tally of an earlier run, so that it is signed even if nothing moves any more."""
        await self._known(contract_id)

    def quiet(self) -> dict[bytes, Tally]:
        """Give the tallies that changed since they were signed and have not moved since the last call."""
        seen, self._seen = self._seen, dict(self._exact)
        return {
            contract_id: tally
            for contract_id, tally in self._exact.items()
            if tally == seen.get(contract_id) and tally not in (Tally(), self._signed.get(contract_id))
        }

    def note_signed(self, contract_id: bytes, tally: Tally) -> None:
        """Remember what was signed for."""
        self._signed[contract_id] = tally

    def current(self, contract_id: bytes) -> Tally:
        """Give the tally of a contract. Blocks."""
        return self._exact.get(contract_id) or load_tally(self._state, contract_id)

    async def save(self, contract_id: bytes) -> None:
        """Write the exact tally of one contract."""
        async with self._lock:
            await self._write(contract_id, self._exact[contract_id])

    async def save_all(self) -> None:
        """Write the exact tallies, at the end."""
        for contract_id in list(self._exact):
            await self.save(contract_id)

    async def _known(self, contract_id: bytes) -> Tally:
        known = self._exact.get(contract_id)
        if known is not None:
            return known
        async with self._lock:
            if contract_id not in self._exact:
                found = await trio.to_thread.run_sync(load_tally, self._state, contract_id)
                self._exact[contract_id] = self._written[contract_id] = found
        return self._exact[contract_id]

    async def _set(self, contract_id: bytes, tally: Tally) -> None:
        # Nothing waits between reading and this line once the tally is in memory, so no count is lost.
        self._exact[contract_id] = tally
        if self._written[contract_id].covers(tally):
            return
        async with self._lock:
            if not self._written[contract_id].covers(tally):
                latest = self._exact[contract_id]
                await self._write(
                    contract_id,
                    replace(
                        latest,
                        sent_bytes=latest.sent_bytes + STEP_BYTES,
                        sent_chunks=latest.sent_chunks + STEP_CHUNKS,
                        received_bytes=latest.received_bytes + STEP_BYTES,
                    ),
                )
                self._moved()

    async def _write(self, contract_id: bytes, tally: Tally) -> None:
        await trio.to_thread.run_sync(
            lambda: self._state.meta.set(_key(contract_id), json.dumps(asdict(tally))),
        )
        self._written[contract_id] = tally


def load_tally(state: State, contract_id: bytes) -> Tally:
    """Read the tally that was written last. Blocks."""
    kept = state.meta.get(_key(contract_id))
    return Tally(**json.loads(kept)) if kept else Tally()


def raise_tally(state: State, contract_id: bytes, size_bytes: int) -> None:
    """Allow for so many bytes that were moved and forgotten; before anything is counted. Blocks."""
    known = load_tally(state, contract_id)
    raised = Tally(
        known.sent_bytes + size_bytes,
        known.sent_chunks + size_bytes // MIN_CHUNK_BYTES,
        known.received_bytes + size_bytes,
        known.deleted_chunks,
    )
    state.meta.set(_key(contract_id), json.dumps(asdict(raised)))


def _key(contract_id: bytes) -> str:
    return f"tally:{contract_id.hex()}"
