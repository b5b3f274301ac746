"""Repair: what a provider lost comes from another replica or from the own files, until the copies are at target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.missed_copies import note_missed_copies
from sovereign_node.services.projects import OpenProject, Projects
from sovereign_node.services.repair_work import RepairOutcome, RepairWork
from sovereign_node.services.replicas import Replicas
from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.projects import Project
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.target import ChunkTarget, get_one
from sovereign_protocols.audit.proof import is_intact

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

CHECK_S: Final = 3600
RETRY_S: Final = 600


class Repair:
    """Repairs one project at a time.

    Args:
        state: the audit log, and which projects lack copies.
        projects: whose chunks are repaired.
        replicas: keeps copies at target.
        clock: wall time.
        is_paused: whether work that nobody asked for should wait, as on a metered network.
    """

    def __init__(
        self,
        state: State,
        projects: Projects,
        replicas: Replicas,
        clock: Clock,
        *,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_paused = is_paused
        self._state = state
        self._projects = projects
        self._replicas = replicas
        self._clock = clock
        self._waiting: dict[bytes, dict[bytes, set[bytes]]] = {}
        self._wake = trio.Event()
        self._lock = trio.Lock()
        self._checked_at = 0
        self._look_now = False

    def request(self, project_id: bytes, contract_id: bytes, chunk_id: bytes) -> None:
        """Ask for a chunk to be put back under a contract; returns at once."""
        self._waiting.setdefault(project_id, {}).setdefault(contract_id, set()).add(chunk_id)
        self._wake.set()

    def note_connected(self) -> None:
        """Look at once whether a provider that has come on line missed something."""
        self._look_now = True
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many chunks wait for repair."""
        return sum(len(ids) for found in self._waiting.values() for ids in found.values())

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            if not self._is_paused():
                await self.run_once()
            with trio.move_on_after(RETRY_S):
                await self._wake.wait()

    async def run_once(self) -> list[RepairOutcome]:
        """Repair what waits; what fails waits on. A second call waits for the first."""
        async with self._lock:
            return await self._run()

    async def _run(self) -> list[RepairOutcome]:
        done = []
        for project in await trio.to_thread.run_sync(self._state.projects.all):
            wanted = self._waiting.pop(project.project_id, None)
            if wanted is None:
                continue
            try:
                done.append(await self._repair(project, wanted))
            except NodeError as error:
                log.warning("repair_failed", project=project.name, reason=error.message)
                for contract_id, ids in wanted.items():
                    kept = self._waiting.setdefault(project.project_id, {})
                    kept.setdefault(contract_id, set()).update(ids)
        if self._look_now or self._clock() - self._checked_at >= CHECK_S:
            self._checked_at, self._look_now = self._clock(), False
            done += await self._replicas.look()
        return done

    async def _repair(self, project: Project, wanted: dict[bytes, set[bytes]]) -> RepairOutcome:
        work, orphans = RepairWork(), list[bytes]()
        async with self._projects.open(project) as opened:
            for contract_id, ids in wanted.items():
                target = next((item for item in opened.targets.remote if item.contract_id == contract_id), None)
                for chunk_id in sorted(ids):
                    if not await self._copy(opened, target, chunk_id, work):
                        orphans.append(chunk_id)
            if orphans:
                await opened.vault.forget_chunks(orphans)
        lost = await self._store_again(project, orphans) if orphans else 0
        return await trio.to_thread.run_sync(
            lambda: work.finish(self._state, project, self._clock(), stored_again=len(orphans) - lost, lost=lost)
        )

    async def _copy(
        self, opened: OpenProject, target: RemoteTarget | None, chunk_id: bytes, work: RepairWork
    ) -> bool:
        """Put a chunk back at the provider that lost it; if that one is away, replication finds another place.

        Returns:
            False if no good copy was found.
        """
        remote = [*opened.targets.remote, *opened.targets.leaving]
        others: list[ChunkTarget] = [item for item in remote if item is not target]
        sealed = await _good_copy([opened.targets.local, *others], chunk_id, work)
        if sealed is None:
            return False
        if target is None or not await _put(target, chunk_id, sealed, work):
            await trio.to_thread.run_sync(note_missed_copies, self._state, opened.project.project_id)
            self._look_now = True
        return True

    async def _store_again(self, project: Project, orphans: Sequence[bytes]) -> int:
        """Back up, so that content without a copy is stored again from the files; returns how much is lost."""
        if not project.sources:
            return len(orphans)
        await self._projects.backup(project, lambda _note: None)
        return 0


async def _put(target: RemoteTarget, chunk_id: bytes, sealed: bytes, work: RepairWork) -> bool:
    try:
        await target.put(chunk_id, sealed)
    except TargetError as error:
        log.warning("repair_refused", target=target.name, reason=error.reason)
        return False
    work.count(target, len(sealed))
    work.copied += 1
    return True


async def _good_copy(sources: Sequence[ChunkTarget], chunk_id: bytes, work: RepairWork) -> bytes | None:
    for source in sources:
        try:
            sealed = await get_one(source, chunk_id)
        except TargetError as error:
            log.info("repair_source_failed", target=source.name, reason=error.reason)
            continue
        if sealed is not None:
            work.count(source, len(sealed))
            if await trio.to_thread.run_sync(is_intact, chunk_id, sealed):
                return sealed
    return None
