"""Projects of this device: protect, back up, list, restore, verify, forget, collect garbage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import trio

from sovereign_crypto.project import ProjectKeys
from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.datadir import DataDir
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.content import index_content
from sovereign_node.services.known_snapshots import save_snapshots
from sovereign_node.services.lookup import only
from sovereign_node.services.missed_copies import note_missed_copies
from sovereign_node.services.new_project import existing_source, make_project
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.project_keys import open_project_keys
from sovereign_node.services.project_targets import OpenTargets, ProjectTargets
from sovereign_node.services.seen_heads import StateSeenHeads
from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.projects import Project
from sovereign_node.store.snapshots import SnapshotRow
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.facade import Vault
from sovereign_node.vault.orphans import Compared
from sovereign_node.vault.report import BackupReport, ProgressNote
from sovereign_node.vault.target import ChunkTarget
from sovereign_protocols.vault.snapshot import SignedSnapshot

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

OnProgress = Callable[[ProgressNote], None]


@dataclass(frozen=True)
class OpenProject:
    """A project that is ready for one operation.

    Args:
        project: its row.
        keys: its keys.
        targets: what could be reached.
        vault: over the targets in use.
    """

    project: Project
    keys: ProjectKeys
    targets: OpenTargets
    vault: Vault

    @property
    def is_local_only(self) -> bool:
        """True if no provider could be reached, so that writes wait on this device."""
        return not self.targets.remote


@dataclass(frozen=True)
class BackupOutcome:
    """What a backup did, and where it went.

    Args:
        report: of the vault.
        targets: names of the targets written to.
        queued: nothing could be sent; it waits on this device.
        missing: providers that did not answer.
    """

    report: BackupReport
    targets: tuple[str, ...]
    queued: bool
    missing: tuple[str, ...]


class Projects:
    """Everything a user does with projects.

    Args:
        config: copies, compression.
        data_dir: caches and spool.
        identity: whose devices may write.
        keys: of this device.
        state: rows of projects and snapshots.
        targets: opens targets.
        clock: wall time.
        on_queued: called when a backup came to wait on this device.
    """

    def __init__(
        self,
        config: Config,
        data_dir: DataDir,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        targets: ProjectTargets,
        clock: Clock,
        on_queued: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_queued = on_queued
        self._config = config
        self._data_dir = data_dir
        self._identity = identity
        self._keys = keys
        self._state = state
        self._targets = targets
        self._clock = clock
        self._locks: dict[bytes, trio.Lock] = {}
        self._to_index: dict[bytes, tuple[Project, bytes]] = {}
        self._wake = trio.Event()

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write content_index behind the backups, so that none waits for it; run until cancelled."""
        task_status.started()
        while True:
            while self._to_index:
                _, (project, snapshot_id) = self._to_index.popitem()
                own = self._data_dir.root.resolve()
                await trio.to_thread.run_sync(
                    index_content, self._state, project, self._keys.public, snapshot_id, own
                )
            self._wake = trio.Event()
            await self._wake.wait()

    def find(self, name: str) -> Project:
        """Return the project that a user named. Blocks.

        Raises:
            NodeError: none, or several.
        """
        return only("project", name, self._state.projects.find(name), _label, "sovereign projects")

    def chosen(self, name: str | None) -> list[Project]:
        """Return the named project, or all that are in use. Blocks."""
        return [self.find(name)] if name is not None else self._state.projects.all()

    def protect(self, path: str, name: str | None, copies: int | None) -> Project:
        """Make a project of a folder or a file. Blocks.

        Raises:
            NodeError: nothing there, protected already, or the name is taken or not usable.
        """
        source = existing_source(path, self._data_dir.root)
        project = make_project(
            self._state, self._keys, source, name, copies or self._config.backup.copies, at=self._clock()
        )
        with self._state.transaction():
            self._state.projects.save(project)
            self._state.audit.record("user", "project_added", project.project_id.hex(), "ok", at=self._clock())
        return project

    def unprotect(self, project: Project) -> None:
        """Stop protecting a project on this device; what providers hold stays. Blocks."""
        with self._state.transaction():
            self._state.projects.remove(project.project_id, self._clock())
            self._state.audit.record("user", "project_removed", project.project_id.hex(), "ok", at=self._clock())

    def summary(self, project: Project) -> dict[str, Any]:
        """Return what `status` shows of a project. Blocks."""
        newest = self._state.snapshots.newest(project.project_id)
        return {
            "id": project.project_id.hex(),
            "name": project.name,
            "sources": list(project.sources),
            "copies": project.copies,
            "last_snapshot": newest.snapshot_id.hex() if newest else None,
            # Another device may have backed it up later.
            "last_backup_at": max(project.last_backup_at or 0, newest.taken_at if newest else 0) or None,
            "targets": self._targets.names(project),
            "pending": self._targets.waiting_chunks(open_project_keys(self._keys, project)),
        }

    async def backup(self, project: Project, on_progress: OnProgress) -> BackupOutcome:
        """Store what is new of a project.

        Raises:
            NodeError: it has no source here, or nothing took the data.
        """
        if not project.sources:
            raise NodeError(
                "no_source",
                f"{project.name} has no source on this device",
                f"restore it with: sovereign restore {project.name} --to DIR",
            )
        await trio.to_thread.run_sync(_require_sources, project)
        async with self.open(project, for_writing=True) as opened:
            await self._fill_new_providers(opened)
            sources = [Source(Path(path)) for path in project.sources]
            report = await opened.vault.backup(sources, on_progress)
            await self._remember(opened, await opened.vault.snapshots())
            if opened.is_local_only:
                self._on_queued()
            elif opened.targets.missing or report.failed_targets:
                await self._note_missed_copies(project)
            in_use: Sequence[ChunkTarget] = opened.targets.remote or [opened.targets.local]
            if await trio.to_thread.run_sync(self._note_backup, project, report):
                self._to_index[project.project_id] = (project, bytes.fromhex(report.snapshot))
                self._wake.set()
            return BackupOutcome(
                report,
                tuple(target.name for target in in_use),
                opened.is_local_only and bool(opened.targets.missing or opened.targets.leaving),
                tuple(opened.targets.missing),
            )

    async def _note_missed_copies(self, project: Project) -> None:
        if project.copies > 1:
            await trio.to_thread.run_sync(note_missed_copies, self._state, project.project_id)

    async def _fill_new_providers(self, opened: OpenProject) -> None:
        """Copy to providers that came since the last backup what backups, which send new chunks only, would not."""
        key = f"filled/{opened.project.project_id.hex()}"
        contracts = {target.contract_id.hex() for target in opened.targets.remote}
        before = await trio.to_thread.run_sync(self._state.meta.get, key)
        filled = set((before or "").split())
        if contracts <= filled:
            return
        if opened.project.last_backup_at is not None:
            copied = await opened.vault.replicate()
            log.info("providers_filled", project=opened.project.name, chunks=copied.copies_made)
            if copied.failed_targets:
                return
        await trio.to_thread.run_sync(self._state.meta.set, key, " ".join(sorted(filled | contracts)))

    async def snapshots(self, project: Project) -> list[SnapshotRow]:
        """Return the snapshots of a project, newest state that can be reached; the cached list when nothing can."""
        try:
            async with self.open(project) as opened:
                await self._remember(opened, await opened.vault.snapshots())
        except NodeError as error:
            if error.exit_code != ExitCode.UNREACHABLE:
                raise
        return await trio.to_thread.run_sync(lambda: self._state.snapshots.all(project.project_id))

    def provider_ids(self, project: Project) -> set[str]:
        """Return the peer ids of the providers that a project is meant for. Blocks."""
        return self._targets.peer_ids(project)

    def is_waiting(self, project: Project) -> bool:
        """Tell whether something of a project is on this device only. Blocks."""
        return self._targets.has_waiting(open_project_keys(self._keys, project))

    def waiting_usage(self, project: Project) -> tuple[int, int]:
        """Return how many chunks of a project wait here, and their bytes. Blocks."""
        return self._targets.waiting_usage(open_project_keys(self._keys, project))

    async def compare_listing(self, project: Project, target: RemoteTarget, held: set[bytes]) -> Compared:
        """Compare what a provider holds under a contract with what a project lists.

        Args:
            project: its row, also of one that is no longer protected here.
            target: the provider; its heads count even if this device places the project elsewhere.
            held: ids of chunks of any project.

        Raises:
            NodeError: what the project lists can't be found out.
        """
        async with self.open(project, besides=target) as opened:
            return await opened.vault.compare_listing(held, in_use=project.removed_at is None)

    async def push_waiting(self, project: Project) -> int:
        """Send what waits on this device, if a provider can be reached.

        Returns:
            Chunks that were sent.
        """
        project_keys = await trio.to_thread.run_sync(open_project_keys, self._keys, project)
        if not await trio.to_thread.run_sync(self._targets.has_waiting, project_keys):
            return 0
        async with self._lock(project), self._targets.open(project, project_keys) as targets:
            return await self._push(project, project_keys, targets)

    @asynccontextmanager
    async def open(
        self, project: Project, *, for_writing: bool = False, besides: RemoteTarget | None = None
    ) -> AsyncIterator[OpenProject]:
        """Open the vault of a project over what can be reached.

        Args:
            project: its row.
            for_writing: write to providers alone if there are any, after what waits here was sent to them.
            besides: a target that belongs to it too, whatever its placement is.
        """
        project_keys = await trio.to_thread.run_sync(open_project_keys, self._keys, project)
        async with self._lock(project), self._targets.open(project, project_keys) as targets:
            if besides is not None and all(
                item.contract_id != besides.contract_id for item in (*targets.remote, *targets.leaving)
            ):
                targets.remote.append(besides)
            if for_writing and targets.remote:
                await self._push(project, project_keys, targets)
            vault = await trio.to_thread.run_sync(self._open_vault, project, project_keys, targets, for_writing)
            try:
                yield OpenProject(project, project_keys, targets, vault)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(vault.close)

    async def _push(self, project: Project, project_keys: ProjectKeys, targets: OpenTargets) -> int:
        if not targets.remote or not await trio.to_thread.run_sync(self._targets.has_waiting, project_keys):
            return 0
        if len(targets.remote) < project.copies:
            await self._note_missed_copies(project)
        try:
            return await self._targets.push(targets, project_keys, project.copies)
        except TargetError as error:
            raise NodeError(
                "push_failed",
                f"what waits on this device could not be sent: {error}",
                "it stays here; try again later",
                ExitCode.STORAGE_FULL if error.full else ExitCode.UNREACHABLE,
            ) from error

    def _open_vault(
        self, project: Project, project_keys: ProjectKeys, targets: OpenTargets, for_writing: bool
    ) -> Vault:
        name = project.project_id.hex()
        leaving = targets.leaving
        chosen: Sequence[ChunkTarget] = targets.remote if for_writing else [*targets.remote, *leaving]
        if not chosen or (not for_writing and self._targets.has_waiting(project_keys)):
            chosen = [*chosen, targets.local]
        # What is not asked now may hold what the others lack.
        is_complete = not targets.missing and not (for_writing and leaving)
        known_devices = {*self._identity.log.active_devices, *self._identity.log.revoked_devices}
        return Vault(
            project_keys,
            self._keys.signing,
            cache_dir=self._data_dir.cache / name,
            spool_dir=self._data_dir.spool / name,
            targets=chosen,
            seen=StateSeenHeads(self._state, self._clock),
            is_author=known_devices.__contains__,
            config=VaultConfig(
                compression_level=self._config.backup.zstd_level,
                copies=project.copies,
                exclude_paths=(self._data_dir.root.resolve(),),
            ),
            clock=self._clock,
            network_id=self._identity.network_id,
            remembered=list if is_complete else partial(self._seen_heads, project_keys),
            is_complete=is_complete,
        )

    def _seen_heads(self, project_keys: ProjectKeys) -> list[bytes]:
        return [item.raw for item in self._state.heads.all(project_keys.locator())]

    async def _remember(self, opened: OpenProject, found: Sequence[SignedSnapshot]) -> None:
        """Bring the cached list of snapshots in line with what the heads say."""
        await trio.to_thread.run_sync(
            lambda: save_snapshots(self._state, opened.project.project_id, found, at=self._clock())
        )

    def _note_backup(self, project: Project, report: BackupReport) -> bool:
        """Remember the time of the backup; returns whether the content differs from the one before."""
        known = self._state.snapshots.all(project.project_id)
        self._state.projects.set_last_backup(project.project_id, self._clock())
        return len(known) < 2 or known[-2].file_count != report.files or report.files_changed > 0

    def _lock(self, project: Project) -> trio.Lock:
        return self._locks.setdefault(project.project_id, trio.Lock())


def _require_sources(project: Project) -> None:
    if not any(Path(path).exists() for path in project.sources):
        raise NodeError("source_missing", f"{project.sources[0]} is gone", "nothing was changed at the providers")


def _label(project: Project) -> str:
    return f"{project.name} ({project.project_id.hex()[:8]})"
