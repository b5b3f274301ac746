"""Keeping what a backup relies on, while other devices collect garbage at the same moment.

Nobody locks a project. A writer looks again after it has published, a collector looks again after it has collected,
so one of the two sees the other; docs/decisions/0008-orphans-and-concurrent-collections.md has the argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from sovereign_node.vault.backup import OnProgress
from sovereign_node.vault.config import Source
from sovereign_node.vault.errors import OvertakenError, TargetError, single_error
from sovereign_node.vault.housekeeping import run_forget
from sovereign_node.vault.report import BackupReport
from sovereign_node.vault.rewrite import forget_lost
from sovereign_node.vault.run_backup import run_backup
from sovereign_node.vault.session import Session, parts
from sovereign_node.vault.target import ChunkTarget

Result = TypeVar("Result")
OpenSession = Callable[[], Awaitable[Session]]

_ATTEMPTS = 5


async def repeated(open_view: OpenSession, work: Callable[[Session], Awaitable[Result]]) -> Result:
    """Do something with the newest view, anew as often as another device gets in between.

    Raises:
        OvertakenError: too often.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await work(await open_view())
        except BaseExceptionGroup as group:
            if attempt == _ATTEMPTS or not isinstance(single_error(group), OvertakenError):
                raise
        except OvertakenError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


async def run_confirmed_backup(
    open_view: OpenSession, sources: Sequence[Source], on_progress: OnProgress | None
) -> BackupReport:
    """Back up, and make sure that what the new head lists is still there when other devices can see it."""
    doubtful: list[bytes] = []

    async def store(session: Session) -> BackupReport:
        index = session.context.index
        pending = await trio.to_thread.run_sync(index.pending)
        if gone := await revive(session, [chunk.chunk_id for chunk in pending]):
            await trio.to_thread.run_sync(index.drop_chunks, gone)
        before = session.view.segment_ids
        report = await run_backup(session, sources, on_progress)
        new = session.view.segment_ids - before
        chunks = await trio.to_thread.run_sync(index.segment_chunks, new)
        lost = await revive(session, [*new, *(chunk.chunk_id for chunk in chunks)])
        if lost or await session.is_overtaken():
            doubtful.append(bytes.fromhex(report.snapshot))
            if lost:
                await forget_lost(session, lost)
            raise OvertakenError
        return report

    report = await repeated(open_view, store)
    if doubtful:
        # It may refer to what another device had given up at that moment; the new one has everything.
        async def forget(session: Session) -> None:
            await run_forget(session, [item for item in await session.snapshots() if item.snapshot_id in doubtful])

        await repeated(open_view, forget)
    return report


async def revive(session: Session, ids: Sequence[bytes]) -> set[bytes]:
    """Make sure that chunks are stored, and not marked for removal.

    Args:
        session: the vault's state.
        ids: of chunks that some target has acknowledged.

    Returns:
        Those that no target has; nothing while a target is away, which may have them.
    """
    context = session.context
    copies = min(context.config.copies or len(context.targets), len(context.targets))
    live, failed = await _live(context.targets, ids)
    short = [chunk_id for chunk_id in ids if sum(chunk_id in held for held in live) < copies]
    if not short:
        return set()

    async def undelete(target: ChunkTarget) -> None:
        try:
            for part in parts(short):
                await target.undelete(part)
        except TargetError:
            # It answers as before, or fails again below.
            return

    async with trio.open_nursery() as nursery:
        for target in context.targets:
            nursery.start_soon(undelete, target)
    live, failed_again = await _live(context.targets, short)
    return set() if failed or failed_again or not context.is_complete else set(short).difference(*live)


async def _live(targets: Sequence[ChunkTarget], ids: Sequence[bytes]) -> tuple[list[set[bytes]], bool]:
    """Return what each target holds of some chunks, and whether one of them failed."""
    held: list[set[bytes]] = [set() for _ in targets]
    failed = False

    async def ask(target: ChunkTarget, found: set[bytes]) -> None:
        nonlocal failed
        try:
            for part in parts(ids):
                answers = await target.have(part)
                found.update(chunk_id for chunk_id, there in zip(part, answers, strict=True) if there)
        except TargetError:
            failed = True

    async with trio.open_nursery() as nursery:
        for target, found in zip(targets, held, strict=True):
            nursery.start_soon(ask, target, found)
    return held, failed
