"""Copies at target: what a provider missed while it was away is filled, what a leaving one holds moves elsewhere.

A contract whose provider gave notice ends when everything is with others, and not before: the provider keeps the
chunks until then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.missed_copies import forget_missed_copies, missed_copies
from sovereign_node.services.projects import OpenProject, Projects
from sovereign_node.services.repair_work import RepairOutcome, RepairWork
from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_node.store.projects import Project

log = structlog.get_logger(__name__)

#: A provider that is away so long counts as lost, as long as there is another place.
UNREACHABLE_S: Final = 24 * 3600
#: Before a contract ends its chunks are copied to the others; its renewal was due a week earlier.
ENDING_S: Final = 14 * 86_400
LOST_STATES: Final = ("ending", "defaulted", "terminated")

EndContract = Callable[[Contract], Awaitable[None]]
Follow = Callable[[Contract], Awaitable[bool]]


class Replicas:
    """Brings the copies of all projects to target.

    Args:
        state: contracts and the audit log.
        projects: whose chunks are copied.
        clock: wall time.
        follow: learns from the provider of a contract which projects other devices have; False if that failed.
        end_contract: closes a contract under which nothing is needed any more.
    """

    def __init__(
        self, state: State, projects: Projects, clock: Clock, *, follow: Follow, end_contract: EndContract
    ) -> None:
        self._state = state
        self._projects = projects
        self._clock = clock
        self._follow = follow
        self._end_contract = end_contract
        #: Project and contract of which all that is needed is elsewhere.
        self._moved: set[tuple[bytes, bytes]] = set()
        self._told: set[bytes] = set()

    async def look(self) -> list[RepairOutcome]:
        """Copy what is missing, and end contracts that are empty; what fails is tried at the next look."""
        leaving = await trio.to_thread.run_sync(self._leaving)
        projects = await self._all_projects()
        outcomes = []
        for project in projects:
            if not await self._is_due(project, leaving):
                continue
            try:
                outcome = await self._bring_to_target(project, leaving)
            except NodeError as error:
                log.info("replicas_not_renewed", project=project.name, reason=error.message)
            else:
                outcomes += [outcome] if outcome is not None else []
        for contract in leaving:
            if contract.state == "ending" and await self._is_empty(contract):
                await self._end(contract)
        return outcomes

    async def _all_projects(self) -> list[Project]:
        """Read all projects: what is no longer protected is still kept."""
        return await trio.to_thread.run_sync(lambda: self._state.projects.all(include_removed=True))

    async def _is_empty(self, contract: Contract) -> bool:
        """Tell whether all that is needed of a contract is elsewhere, also for the projects of other devices."""
        if not all(self._is_moved(project, contract) for project in await self._all_projects()):
            return False
        # Another device may have begun a project there that this one has not heard of.
        is_known = await self._follow(contract)
        return is_known and all(self._is_moved(project, contract) for project in await self._all_projects())

    async def _is_due(self, project: Project, leaving: Sequence[Contract]) -> bool:
        if await trio.to_thread.run_sync(missed_copies, self._state, project.project_id):
            return True
        # The only copy of a project at a provider that is away cannot be copied.
        return any(
            not self._is_moved(project, item) for item in leaving if project.copies > 1 or item.state in LOST_STATES
        )

    def _is_moved(self, project: Project, contract: Contract) -> bool:
        return (project.project_id, contract.contract_id) in self._moved

    async def _bring_to_target(self, project: Project, leaving: Sequence[Contract]) -> RepairOutcome | None:
        # Read first: what is missed from now on, and new rules, are for the next look.
        mark = await trio.to_thread.run_sync(missed_copies, self._state, project.project_id)
        project = await trio.to_thread.run_sync(lambda: self._state.projects.get(project.project_id) or project)
        await self._projects.push_waiting(project)
        ids = {item.contract_id for item in leaving}
        work = RepairWork()
        async with self._projects.open(project) as opened:
            is_done = await self._replicate(opened, ids, work)
        if is_done:
            self._moved.update((project.project_id, contract_id) for contract_id in ids)
            await trio.to_thread.run_sync(forget_missed_copies, self._state, project.project_id, mark)
        elif ids:
            await trio.to_thread.run_sync(self._tell, project)
        if not work.copied:
            return None
        return await trio.to_thread.run_sync(work.finish, self._state, project, self._clock())

    async def _replicate(self, opened: OpenProject, leaving: set[bytes], work: RepairWork) -> bool:
        """Copy; returns whether as many copies as wanted are with providers that stay."""
        remote = opened.targets.remote
        going = [*opened.targets.leaving, *(target for target in remote if target.contract_id in leaving)]
        staying = {target.name: target for target in remote if target not in going}
        # What still waits on this device goes first: until then its copy here would count as one at a provider.
        if not staying or await trio.to_thread.run_sync(self._projects.is_waiting, opened.project):
            return False
        report = await opened.vault.replicate(leaving=[target.name for target in going])
        work.copied += report.copies_made
        for name, size_bytes in report.bytes_to:
            work.count(staying[name], size_bytes)
            work.count(_source(name, going, staying), size_bytes)
        return not (report.copies_missing or report.unavailable or report.failed_targets)

    def _tell(self, project: Project) -> None:
        """Say once that copies are missing, and what helps."""
        if project.project_id in self._told:
            return
        self._told.add(project.project_id)
        words = f"critical: {project.name} needs another provider; open a contract: sovereign offers"
        self._state.audit.record("node", "copies_missing", project.project_id.hex(), words, at=self._clock())

    async def _end(self, contract: Contract) -> None:
        try:
            await self._end_contract(contract)
        except NodeError as error:
            log.info("contract_not_ended", contract_id=contract.contract_id.hex(), reason=error.message)

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


def _source(name: str, going: Sequence[RemoteTarget], staying: dict[str, RemoteTarget]) -> RemoteTarget:
    """Name a provider from which the chunks for another came."""
    others = [*going, *(target for other, target in staying.items() if other != name)]
    return others[0] if others else staying[name]
