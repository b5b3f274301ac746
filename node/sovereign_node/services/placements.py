"""What is stored where, by this node's own knowledge: chunks of its index that a provider once acknowledged."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.projects import OpenProject, Projects
from sovereign_node.store import State
from sovereign_node.store.audits import PlacedChunk
from sovereign_node.store.projects import Project
from sovereign_node.vault.errors import TargetError

log = structlog.get_logger(__name__)

#: Other devices of the identity change the same projects.
REFRESH_S: Final = 6 * 3600
_IDS_PER_REQUEST: Final = 1024


class Placements:
    """Keeps placed_chunks in line with the projects' indexes.

    Args:
        state: where they are kept.
        projects: whose chunks are placed.
        clock: wall time.
    """

    def __init__(self, state: State, projects: Projects, clock: Clock) -> None:
        self._state = state
        self._projects = projects
        self._clock = clock
        self._learned: dict[bytes, tuple[int, int | None]] = {}

    async def learn(self, *, now: bool = False) -> None:
        """Note new chunks of all projects, and drop those that were given up.

        Args:
            now: also look at projects that have not changed here.
        """
        for project in await trio.to_thread.run_sync(self._state.projects.all):
            learned_at, backup_at = self._learned.get(project.project_id, (0, None))
            is_old = self._clock() - learned_at >= REFRESH_S
            if now or is_old or backup_at != project.last_backup_at:
                await self._learn(project)

    async def is_placed(self, chunk: PlacedChunk) -> bool:
        """Tell whether a chunk is still to be stored, after a fresh look at the project."""
        for project in await trio.to_thread.run_sync(self._state.projects.all):
            if project.project_id == chunk.project_id:
                await self._learn(project)
        found = await trio.to_thread.run_sync(
            lambda: self._state.placed_chunks.get(chunk.contract_id, chunk.chunk_id)
        )
        return found is not None

    async def _learn(self, project: Project) -> None:
        try:
            async with self._projects.open(project) as opened:
                if opened.targets.remote:
                    await self._compare(opened, await opened.vault.stored_chunks())
        except NodeError as error:
            log.info("placement_not_learned", project=project.name, reason=error.message)
            return
        self._learned[project.project_id] = (self._clock(), project.last_backup_at)

    async def _compare(self, opened: OpenProject, chunks: dict[bytes, int]) -> None:
        project_id = opened.project.project_id
        placed = self._state.placed_chunks
        for target in opened.targets.remote:
            contract_id = target.contract_id
            known = await trio.to_thread.run_sync(placed.ids, contract_id, project_id)
            # A chunk that is known stays, whatever the provider says of it now: that is what audits are for.
            await trio.to_thread.run_sync(placed.drop, contract_id, known - chunks.keys())
            new = sorted(chunks.keys() - known)
            for start in range(0, len(new), _IDS_PER_REQUEST):
                batch = new[start : start + _IDS_PER_REQUEST]
                try:
                    held = await target.have(batch)
                except TargetError as error:
                    log.info("placement_not_learned", target=target.name, reason=error.reason)
                    break
                found = [
                    (chunk_id, chunks[chunk_id]) for chunk_id, is_held in zip(batch, held, strict=True) if is_held
                ]
                await trio.to_thread.run_sync(
                    lambda found=found, contract_id=contract_id: placed.add(
                        contract_id, project_id, found, at=self._clock()
                    )
                )
