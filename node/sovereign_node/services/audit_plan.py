"""Which chunks are audited when: random samples, sweeps over small contracts, more after a failure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from sovereign_node.clock import Clock
from sovereign_node.store import State
from sovereign_node.store.audits import NO_ANSWER, AuditRecord, PlacedChunk
from sovereign_node.store.contracts import Contract
from sovereign_protocols.audit.proof import SAMPLES_FOR_99_PERCENT

DAY_S: Final = 86_400
SAMPLES_PER_DAY: Final = 48
SWEEP_S: Final = 30 * DAY_S
#: Contracts that 48 chunks a day cover in a month.
SWEEP_CHUNKS: Final = SAMPLES_PER_DAY * SWEEP_S // DAY_S
RETRY_S: Final = 6 * 3600
SILENT_TRIES: Final = 3
MIN_FETCH_BYTES: Final = 8 * 1024**2
_MAX_RETRIES: Final = 8
#: After a night off line the missed samples are not made up for at once.
_MAX_BATCH: Final = SAMPLES_PER_DAY


class AuditPlan:
    """Draws chunks. All methods block.

    Args:
        state: placed chunks and past audits.
        clock: wall time.
        choose: source of random draws.
    """

    def __init__(self, state: State, clock: Clock, choose: random.Random) -> None:
        self._state = state
        self._clock = clock
        self._random = choose
        self._next_at: dict[bytes, float] = {}
        self._owed: dict[bytes, int] = {}
        self._retries: dict[bytes, list[tuple[int, PlacedChunk]]] = {}

    def due(self, contract: Contract) -> list[tuple[PlacedChunk, bool]]:
        """Return what is to be audited now, and whether it was drawn at random from all chunks."""
        now = self._clock()
        key = contract.contract_id
        next_at = self._next_at.setdefault(key, now + self._pause(key))
        found: list[tuple[PlacedChunk, bool]] = self._retries_due(key, now)
        while next_at <= now and len(found) < _MAX_BATCH:
            chunk, is_sample = self.draw(contract)
            if chunk is not None:
                found.append((chunk, is_sample))
                found += self._sweep(contract, now)
            self._owed[key] = max(0, self._owed.get(key, 0) - 1)
            next_at += self._pause(key)
        self._next_at[key] = max(next_at, now)
        return list({chunk.chunk_id: (chunk, is_sample) for chunk, is_sample in reversed(found)}.values())

    def draw(self, contract: Contract) -> tuple[PlacedChunk | None, bool]:
        """Draw one chunk; from those with known roots only when no more may be fetched today."""
        placed = self._state.placed_chunks
        key = contract.contract_id
        count = placed.count(key)
        if not count:
            return None, False
        chunk = placed.at(key, self._random.randrange(count))
        assert chunk is not None
        if chunk.leaf_root or self._may_fetch(contract, chunk.size_bytes):
            return chunk, True
        with_root = placed.count(key, with_root=True)
        if not with_root:
            return None, False
        return placed.at(key, self._random.randrange(with_root), with_root=True), False

    def escalate(self, contract_id: bytes) -> None:
        """Ask for as many samples within a day as tell whether 1 % is lost."""
        self._owed[contract_id] = SAMPLES_FOR_99_PERCENT
        self._next_at[contract_id] = self._clock()

    def ask_again(self, chunk: PlacedChunk) -> None:
        """Ask for a chunk again that got no answer."""
        waiting = self._retries.setdefault(chunk.contract_id, [])
        if len(waiting) < _MAX_RETRIES and all(item.chunk_id != chunk.chunk_id for _, item in waiting):
            waiting.append((self._clock() + RETRY_S, chunk))

    def _retries_due(self, contract_id: bytes, now: int) -> list[tuple[PlacedChunk, bool]]:
        waiting = self._retries.get(contract_id, [])
        self._retries[contract_id] = [item for item in waiting if item[0] > now]
        return [(chunk, False) for due_at, chunk in waiting if due_at <= now]

    def _pause(self, contract_id: bytes) -> float:
        # Poisson: nobody can tell when the next question comes from when the last one came.
        per_day = SAMPLES_FOR_99_PERCENT if self._owed.get(contract_id) else SAMPLES_PER_DAY
        return self._random.expovariate(per_day / DAY_S)

    def _sweep(self, contract: Contract, now: int) -> list[tuple[PlacedChunk, bool]]:
        if self._state.placed_chunks.count(contract.contract_id) > SWEEP_CHUNKS:
            return []
        oldest = self._state.placed_chunks.longest_unproven(contract.contract_id, 1, before_at=now - SWEEP_S)
        return [
            (chunk, False) for chunk in oldest if chunk.leaf_root or self._may_fetch(contract, chunk.size_bytes)
        ]

    def _may_fetch(self, contract: Contract, size_bytes: int) -> bool:
        if not contract.price_micro_vibe_per_gb_transfer:
            return True
        budget = max(MIN_FETCH_BYTES, contract.capacity_bytes // 1000)
        moved = self._state.audits.count(contract.contract_id, since_at=self._clock() - DAY_S).moved_bytes
        return moved + size_bytes <= budget


def has_failed_by_silence(before: Sequence[AuditRecord], now: int) -> bool:
    """Tell whether one more unanswered question about a chunk is the third in a row, each six hours apart.

    Args:
        before: audits of the chunk, the newest first.
        now: Unix seconds UTC.
    """
    tries, last_at = 1, now
    for record in before:
        if record.outcome != NO_ANSWER:
            break
        if last_at - record.audited_at >= RETRY_S:
            tries, last_at = tries + 1, record.audited_at
    return tries >= SILENT_TRIES
