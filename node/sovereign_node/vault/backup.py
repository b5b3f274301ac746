"""One backup from end to end: scan, read, cut, hash, pack, seal, send; then index segment, snapshot, head.

CPU work runs in threads, a batch of some 4 MiB per hop; the event loop moves sealed chunks. All queues are short,
so memory does not depend on the size of the data. A crash at any point leaves garbage, never a dangling reference:
the head is written last, and what was stored before counts as stored for the next run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sovereign_node.vault.assemble import Assembler
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.pack import Packer, SealedChunk, seal_container
from sovereign_node.vault.read import Batch, Reader
from sovereign_node.vault.report import Counters, ItemError, ProgressNote
from sovereign_node.vault.scan import FileWork, Scanner, display
from sovereign_node.vault.send import Sender
from sovereign_node.vault.work import Claims, Worker, claimed_ids
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.tree import Entry

OnProgress = Callable[[ProgressNote], None]

_PROGRESS_EVERY_S = 0.25
_COMMIT_EVERY_S = 5.0


@dataclass
class Run:
    """What the stages of one backup share.

    Args:
        sealer: the project's sealer.
        index: local index.
        config: settings.
        spool: folder for copies of databases.
        sources: what is protected.
        run: number of this run.
        valid_run: newest run whose remembered folders may be used.
        now_ns: time of the start, nanoseconds UTC.
    """

    sealer: ProjectSealer
    index: LocalIndex
    config: VaultConfig
    spool: Path
    sources: Sequence[Source]
    run: int
    valid_run: int
    now_ns: int
    counters: Counters = field(default_factory=Counters)
    claims: Claims = field(default_factory=Claims)
    stop: threading.Event = field(default_factory=threading.Event)
    # Threads that work entry by entry take turns: each system call of one lets another have the interpreter, and
    # two of them spend half as much time again on that.
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        packer = Packer(self.sealer, self.config.compression_level)
        self.assembler = Assembler(self.sealer.dedup_key, self.index, packer, self.counters, self.run)
        self._stored: list[ChunkLines] = []
        self._stored_bytes = 0
        self._commit_at = trio.current_time() + _COMMIT_EVERY_S

    def on_stored(self, chunk: SealedChunk) -> None:
        """Note a chunk that its targets have acknowledged."""
        if chunk.lines is not None:
            self._stored.append(chunk.lines)
            self._stored_bytes += chunk.lines.sealed_bytes

    async def commit(self, *, final: bool = False) -> None:
        """Make known to the next run what is stored; now and then, or all of it."""
        now = trio.current_time()
        due = self._stored_bytes >= self.config.commit_bytes or now >= self._commit_at
        if not self._stored or not (due or final):
            return
        self._commit_at = now + _COMMIT_EVERY_S
        stored, self._stored, self._stored_bytes = self._stored, [], 0

        def write() -> None:
            self.index.add_pending(stored)
            for chunk in stored:
                self.claims.release(claimed_ids(chunk))

        await trio.to_thread.run_sync(write)


@asynccontextmanager
async def keep_progress(run: Run) -> AsyncIterator[None]:
    """Let what targets have acknowledged count for the next run, whatever ends this one."""
    try:
        yield
    except BaseException:
        with trio.CancelScope(shield=True):
            await run.commit(final=True)
        raise


async def store_files(run: Run, sender: Sender) -> Entry:
    """Store everything that the sources hold; return the entry of the root folder.

    When it returns, all data is on its way, and the last container of metadata is still open in the assembler;
    :func:`store_rest` waits for both.
    """
    threads = run.config.worker_threads or min(8, os.cpu_count() or 1)
    workers = [
        Worker(
            run.sealer, run.config.compression_level, run.index, run.claims, run.assembler, run.counters, run.turn
        )
        for _ in range(threads)
    ]
    scanner = Scanner(
        run.sources, run.config, run.index, run.assembler, run.counters, run.valid_run, run.now_ns, run.turn
    )
    reader = Reader(
        scanner.files(),
        run.spool,
        run.stop,
        _reporter(run.counters),
        run.now_ns,
        capture=run.config.capture_databases,
    )
    batches, incoming = trio.open_memory_channel[Batch](0)

    async def produce() -> None:
        async with batches:
            while (batch := await trio.to_thread.run_sync(reader.next_batch)) is not None:
                await batches.send(batch)

    async def work(worker: Worker) -> None:
        async for batch in incoming:
            await send_all(run, sender, await trio.to_thread.run_sync(worker.process, batch))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_cancel, run.stop)
        async with trio.open_nursery() as stages:
            stages.start_soon(produce)
            for worker in workers:
                stages.start_soon(work, worker)
        nursery.cancel_scope.cancel()
    run.stop.clear()
    for worker in workers:
        await send_all(run, sender, await trio.to_thread.run_sync(worker.finish))
    assert run.assembler.root is not None
    return run.assembler.root


async def store_rest(run: Run, sender: Sender, extra: Sequence[tuple[BlobType, bytes]]) -> None:
    """Send the last metadata with a few blobs more, and wait until all is acknowledged and noted."""

    def seal() -> list[SealedChunk]:
        for kind, raw in extra:
            run.assembler.put_blob(kind, raw)
        run.assembler.flush_records(final=True)
        return [seal_container(run.sealer, blobs) for blobs in run.assembler.take_full(final=True)]

    await send_all(run, sender, await trio.to_thread.run_sync(seal))
    await sender.drain()
    await run.commit(final=True)


async def send_all(run: Run, sender: Sender, chunks: list[SealedChunk]) -> None:
    """Queue chunks, and commit progress when enough has come together."""
    for chunk in chunks:
        run.counters.bytes_sent += len(chunk.sealed)
        run.counters.chunks_sent += 1
        await sender.send(chunk)
    await run.commit()


async def tell_progress(counters: Counters, on_progress: OnProgress) -> None:
    """Report a few times per second, until cancelled."""
    started = trio.current_time()
    try:
        while True:
            on_progress(counters.note(trio.current_time() - started))
            await trio.sleep(_PROGRESS_EVERY_S)
    finally:
        on_progress(counters.note(trio.current_time() - started))


async def _stop_on_cancel(stop: threading.Event) -> None:
    # A thread can't be cancelled; long copies look at this flag instead.
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


def _reporter(counters: Counters) -> Callable[[FileWork, str], None]:
    def report(work: FileWork, reason: str) -> None:
        with counters.lock:
            counters.errors.append(ItemError(display(work.path), reason))

    return report
