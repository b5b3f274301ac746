"""Repair: what a provider lost comes from another replica or from the own files, until the copies are at target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.projects import OpenProject, Projects
from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_node.store.projects import Project
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.target import ChunkTarget, get_one
from sovereign_protocols.audit.proof import is_intact
from sovereign_protocols.market.prices import transfer_price

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

CHECK_S: Final = 3600
RETRY_S: Final = 600
#: A provider that is away so long counts as lost, as long as there is another place.
UNREACHABLE_S: Final = 24 * 3600
#: Before a contract ends its chunks are copied to the others.
ENDING_S: Final = 14 * 86_400
LOST_STATES: Final = ("ending", "defaulted", "terminated")


@dataclass(frozen=True)
class RepairOutcome:
    """What a repair did.

    Args:
        copied: chunks put back from another replica.
        stored_again: chunks without any good copy whose content was stored again from the owner's files.
        lost: chunks that could not be had from anywhere.
        bytes_moved: sealed bytes that were fetched and sent.
        cost_micro_vibe: what moving them costs.
    """

    copied: int
    stored_again: int
    lost: int
    bytes_moved: int
    cost_micro_vibe: int


@dataclass
class _Work:
    copied: int = 0
    moved: dict[bytes, int] | None = None

    def count(self, target: ChunkTarget, size_bytes: int) -> None:
        """Count bytes that one side charges for."""
        if isinstance(target, RemoteTarget):
            self.moved = self.moved or {}
            self.moved[target.contract_id] = self.moved.get(target.contract_id, 0) + size_bytes


class Repair:
    """Repairs one project at a time.

    Args:
        state: contracts and the audit log.
        projects: whose chunks are repaired.
        clock: wall time.
        is_paused: whether work that nobody asked for should wait, as on a metered network.
    """

    def __init__(
        self, state: State, projects: Projects, clock: Clock, *, is_paused: Callable[[], bool] = lambda: False
    ) -> None:
        self._is_paused = is_paused
        self._state = state
        self._projects = projects
        self._clock = clock
        self._waiting: dict[bytes, dict[bytes, set[bytes]]] = {}
        self._wake = trio.Event()
        self._lock = trio.Lock()
        self._handled: set[tuple[bytes, bytes]] = set()
        self._checked_at = 0

    def request(self, project_id: bytes, contract_id: bytes, chunk_id: bytes) -> None:
        """Ask for a chunk to be put back under a contract; returns at once."""
        self._waiting.setdefault(project_id, {}).setdefault(contract_id, set()).add(chunk_id)
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
        if self._clock() - self._checked_at >= CHECK_S:
            self._checked_at = self._clock()
            await self._look_for_lost_replicas()
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
        return done

    async def _repair(self, project: Project, wanted: dict[bytes, set[bytes]]) -> RepairOutcome:
        work, orphans = _Work(), list[bytes]()
        async with self._projects.open(project) as opened:
            for contract_id, ids in wanted.items():
                target = next((item for item in opened.targets.remote if item.contract_id == contract_id), None)
                for chunk_id in sorted(ids):
                    if not await self._copy(opened, target, chunk_id, work):
                        orphans.append(chunk_id)
            if orphans:
                await opened.vault.forget_chunks(orphans)
            else:
                await self._replicate(opened, work)
        lost = await self._store_again(project, orphans) if orphans else 0
        outcome = RepairOutcome(
            work.copied, len(orphans) - lost, lost, sum((work.moved or {}).values()), await self._cost(work)
        )
        await trio.to_thread.run_sync(self._note, project, outcome)
        return outcome

    async def _copy(self, opened: OpenProject, target: RemoteTarget | None, chunk_id: bytes, work: _Work) -> bool:
        """Put a chunk back at the provider that lost it; if that one is away, replication finds another place.

        Returns:
            False if no good copy was found.
        """
        others: list[ChunkTarget] = [item for item in opened.targets.remote if item is not target]
        sealed = await _good_copy([opened.targets.local, *others], chunk_id, work)
        if sealed is None:
            return False
        if target is not None:
            try:
                await target.put(chunk_id, sealed)
            except TargetError as error:
                log.warning("repair_refused", target=target.name, reason=error.reason)
            else:
                work.count(target, len(sealed))
                work.copied += 1
        return True

    async def _replicate(self, opened: OpenProject, work: _Work) -> None:
        """Bring the copies back at target; a provider that is away does not count."""
        if len(opened.targets.remote) > 1:
            report = await opened.vault.replicate()
            work.copied += report.copies_made
            if report.bytes_copied:
                work.count(opened.targets.remote[0], 2 * report.bytes_copied)

    async def _store_again(self, project: Project, orphans: Sequence[bytes]) -> int:
        """Back up, so that content without a copy is stored again from the files; returns how much is lost."""
        if not project.sources:
            return len(orphans)
        await self._projects.backup(project, lambda _note: None)
        return 0

    async def _cost(self, work: _Work) -> int:
        def price() -> int:
            total = 0
            for contract_id, moved in (work.moved or {}).items():
                contract = self._state.contracts.get(contract_id)
                if contract is not None:
                    total += transfer_price(moved, contract.price_micro_vibe_per_gb_transfer)
            return total

        return await trio.to_thread.run_sync(price)

    def _note(self, project: Project, outcome: RepairOutcome) -> None:
        words = (
            f"{outcome.copied} copied, {outcome.stored_again} stored again, {outcome.lost} lost,"
            f" {outcome.bytes_moved} bytes, {outcome.cost_micro_vibe} micro-VIBE"
        )
        self._state.audit.record("node", "repaired", project.project_id.hex(), words, at=self._clock())

    async def _look_for_lost_replicas(self) -> None:
        """Copy what a provider that is lost or leaving holds to the others, once for each."""
        for project in await trio.to_thread.run_sync(self._state.projects.all):
            leaving = await trio.to_thread.run_sync(self._leaving)
            new = [item for item in leaving if (project.project_id, item.contract_id) not in self._handled]
            if project.copies < 2 or not new:
                continue
            try:
                async with self._projects.open(project) as opened:
                    work = _Work()
                    await self._replicate(opened, work)
                outcome = RepairOutcome(work.copied, 0, 0, sum((work.moved or {}).values()), await self._cost(work))
                if work.copied:
                    await trio.to_thread.run_sync(self._note, project, outcome)
                self._handled.update((project.project_id, item.contract_id) for item in new)
            except NodeError as error:
                log.info("replicas_not_renewed", project=project.name, reason=error.message)

    def _leaving(self) -> list[Contract]:
        now = self._clock()
        found = []
        for contract in self._state.contracts.all(role="customer"):
            device = self._state.devices.get(contract.provider_device)
            away = device is not None and not device.is_online and now - (device.last_seen or now) >= UNREACHABLE_S
            live = contract.state not in ("closed", "proposed")
            if live and (away or contract.state in LOST_STATES or contract.ends_at - now <= ENDING_S):
                found.append(contract)
        return found


async def _good_copy(sources: Sequence[ChunkTarget], chunk_id: bytes, work: _Work) -> bytes | None:
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
