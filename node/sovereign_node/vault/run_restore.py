"""The restore operation: checks space, runs the restorer, reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from sovereign_node.errors import ExitCode
from sovereign_node.vault.errors import VaultError
from sovereign_node.vault.report import ItemError, ProgressNote
from sovereign_node.vault.restore import Restorer
from sovereign_node.vault.safe_fs import Existing, TargetTree
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.snapshot import SignedSnapshot

_PROGRESS_EVERY_S = 0.25


@dataclass(frozen=True)
class RestoreReport:
    """What one restore did.

    Args:
        snapshot: hex id.
        files: files written.
        directories: folders made or taken.
        symlinks: symlinks made.
        bytes_written: content written.
        bytes_fetched: sealed bytes fetched.
        present: entries that were there already, or were kept.
        seconds: duration.
        partial: something could not be restored.
        errors: what could not be restored.
    """

    snapshot: str
    files: int
    directories: int
    symlinks: int
    bytes_written: int
    bytes_fetched: int
    present: int
    seconds: float
    partial: bool
    errors: tuple[ItemError, ...] = ()


async def run_restore(
    session: Session,
    snapshot: SignedSnapshot,
    target: Path,
    paths: Sequence[tuple[bytes, ...]],
    existing: Existing,
    on_progress: Callable[[ProgressNote], None] | None,
) -> RestoreReport:
    """Restore a snapshot; see :meth:`Vault.restore <sovereign_node.vault.facade.Vault.restore>`."""
    started = trio.current_time()
    tree = await trio.to_thread.run_sync(TargetTree, target, existing)
    restorer = Restorer(session, tree)
    content = snapshot.content
    try:
        if not any(paths) and tree.free_bytes() < content.size_bytes:
            raise VaultError(
                "disk_full",
                f"the snapshot needs {content.size_bytes} bytes, the disk has {tree.free_bytes()}",
                "free some space, or restore a part with --path",
                ExitCode.STORAGE_FULL,
            )
        async with trio.open_nursery() as nursery:
            if on_progress is not None:
                nursery.start_soon(_tell, session, restorer, content.files, content.size_bytes, on_progress)
            await restorer.run(content.root, paths or [()])
            nursery.cancel_scope.cancel()
    finally:
        await trio.to_thread.run_sync(_close, restorer, tree)
    return RestoreReport(
        snapshot.snapshot_id.hex(),
        restorer.files,
        restorer.directories,
        restorer.symlinks,
        restorer.bytes_written,
        session.fetcher.fetched_bytes,
        restorer.present,
        trio.current_time() - started,
        bool(restorer.errors),
        tuple(restorer.errors),
    )


def _close(restorer: Restorer, tree: TargetTree) -> None:
    restorer.close()
    tree.close()


async def _tell(
    session: Session,
    restorer: Restorer,
    files: int,
    size_bytes: int,
    on_progress: Callable[[ProgressNote], None],
) -> None:
    started = trio.current_time()

    def note() -> ProgressNote:
        seconds = trio.current_time() - started
        done = restorer.bytes_written
        rate = int(done / seconds) if seconds > 0 else 0
        left = max(0, size_bytes - done) // rate if rate else -1
        fetched = session.fetcher.fetched_bytes
        errors = len(restorer.errors)
        return ProgressNote(
            "restore", restorer.files, files, done, size_bytes, 0, fetched, 0, 0, rate, left, errors, seconds
        )

    try:
        while True:
            on_progress(note())
            await trio.sleep(_PROGRESS_EVERY_S)
    finally:
        on_progress(note())
