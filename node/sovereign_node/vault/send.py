"""Sending chunks to several targets at once, each at its own pace."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from sovereign_node.vault.errors import NoTargetError, TargetError
from sovereign_node.vault.pack import SealedChunk
from sovereign_node.vault.target import ChunkTarget

# Chunks that wait for one target; with 4 MiB each this bounds memory and lets a fast target run ahead.
_QUEUE_CHUNKS = 6


@dataclass
class _Job:
    chunk: SealedChunk
    tried: set[str] = field(default_factory=set)
    waiting: int = 0
    acknowledged: int = 0
    # Until then, one target may have answered before the chunk is queued for the next.
    all_queued: bool = False


class _Lane:
    """One target with the chunks that wait for it."""

    def __init__(self, target: ChunkTarget) -> None:
        self.target = target
        self.failure: TargetError | None = None
        self.queued = 0
        self.sender, self.receiver = trio.open_memory_channel[_Job](math.inf)


class Sender:
    """Puts chunks to targets; see :func:`open_sender`."""

    def __init__(
        self,
        targets: list[ChunkTarget],
        copies: int,
        min_acks: int,
        on_stored: Callable[[SealedChunk], None],
    ) -> None:
        self._lanes = [_Lane(target) for target in targets]
        self._copies = min(copies or len(targets), len(targets))
        self._min_acks = max(1, min(min_acks, self._copies))
        self._on_stored = on_stored
        self._open_jobs = 0
        self._changed = trio.Event()
        self.sent_bytes = 0
        self.put_bytes: dict[str, int] = {target.name: 0 for target in targets}

    @property
    def failures(self) -> list[TargetError]:
        """Targets that failed during this run."""
        return [lane.failure for lane in self._lanes if lane.failure]

    @property
    def live_targets(self) -> list[ChunkTarget]:
        """Targets that have not failed."""
        return [lane.target for lane in self._lanes if not lane.failure]

    async def send(self, chunk: SealedChunk) -> None:
        """Queue a chunk for as many targets as the placement asks; waits while the queues are full.

        Raises:
            NoTargetError: too few targets are left.
        """
        job = _Job(chunk)
        self._open_jobs += 1
        self.sent_bytes += len(chunk.sealed)
        while job.acknowledged + job.waiting < self._copies and (lane := self._pick(job)) is not None:
            while lane.queued >= _QUEUE_CHUNKS and not lane.failure:
                await self._wait_change()
            if not lane.failure:
                self._queue(lane, job)
        job.all_queued = True
        if not job.waiting:
            self._finish(job)

    async def drain(self) -> None:
        """Wait until every queued chunk is settled."""
        while self._open_jobs:
            await self._wait_change()

    async def _wait_change(self) -> None:
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _pick(self, job: _Job) -> _Lane | None:
        free = [lane for lane in self._lanes if not lane.failure and lane.target.name not in job.tried]
        return min(free, key=lambda lane: lane.queued, default=None)

    def _queue(self, lane: _Lane, job: _Job) -> None:
        job.tried.add(lane.target.name)
        job.waiting += 1
        lane.queued += 1
        lane.sender.send_nowait(job)

    async def run_lane(self, lane: _Lane) -> None:
        """Put chunks to one target until cancelled."""
        async for job in lane.receiver:
            if not lane.failure:
                try:
                    await lane.target.put(job.chunk.chunk_id, job.chunk.sealed)
                except TargetError as error:
                    lane.failure = lane.failure or error
                else:
                    job.acknowledged += 1
                    self.put_bytes[lane.target.name] += len(job.chunk.sealed)
            self._settle(lane, job)

    def _settle(self, lane: _Lane, job: _Job) -> None:
        lane.queued -= 1
        job.waiting -= 1
        if lane.failure and job.all_queued and job.acknowledged + job.waiting < self._copies:
            # Another target takes the copy that this one did not; its queue may grow past the limit for a moment.
            other = self._pick(job)
            if other is not None:
                self._queue(other, job)
        if not job.waiting and job.all_queued:
            self._finish(job)
        self._notify()

    def _finish(self, job: _Job) -> None:
        self._open_jobs -= 1
        if job.acknowledged < self._min_acks:
            raise NoTargetError(self.failures)
        self._on_stored(job.chunk)

    @property
    def lanes(self) -> list[_Lane]:
        """The targets with their queues, for :func:`open_sender`."""
        return self._lanes


@asynccontextmanager
async def open_sender(
    targets: list[ChunkTarget],
    *,
    copies: int,
    min_acks: int,
    puts_per_target: int,
    on_stored: Callable[[SealedChunk], None],
) -> AsyncIterator[Sender]:
    """Run a :class:`Sender` for the time of the block.

    Args:
        targets: where chunks may go.
        copies: targets per chunk; 0 means all.
        min_acks: acknowledgements that a chunk needs.
        puts_per_target: puts under way to one target at once.
        on_stored: called once per chunk when all its targets have answered.

    Raises:
        NoTargetError: a chunk could not be stored often enough.
    """
    if not targets:
        raise NoTargetError([])
    sender = Sender(targets, copies, min_acks, on_stored)
    async with trio.open_nursery() as nursery:
        for lane in sender.lanes:
            for _ in range(puts_per_target):
                nursery.start_soon(sender.run_lane, lane)
        yield sender
        nursery.cancel_scope.cancel()
