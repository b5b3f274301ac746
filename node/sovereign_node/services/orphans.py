"""Collecting orphans: chunks that a provider keeps and bills, although no head of the identity lists them.

A killed backup leaves them, a device that never came back, a deletion that did not arrive. A contract holds chunks
of all projects and devices of the identity, so what may go is decided over all of them; the rules are in
docs/decisions/0008-orphans-and-concurrent-collections.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import trio

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.project_targets import LIST_PAGE, ProjectTargets
from sovereign_node.services.projects import Projects
from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_node.translate import translated
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.files import replace_file

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

#: A chunk goes when no head has listed it for so long. Correctness does not rest on it: it spares running backups
#: the trouble of taking deletions back.
MIN_AGE_S: Final = 7 * 86400
EVERY_S: Final = 2 * 86400
_LOOK_EVERY_S: Final = 3600
_MAX_FILE_BYTES: Final = 256 * 1024 * 1024
_ID_BYTES: Final = 32


@dataclass(frozen=True)
class OrphanReport:
    """What was found under one contract.

    Args:
        found: chunks that no project lists.
        deleted: those of them that were old enough, and are marked for removal now.
        size_bytes: of those that were marked.
        revived: chunks that are listed, but were marked; they are live again.
    """

    found: int
    deleted: int
    size_bytes: int
    revived: int


class FirstSeen:
    """Since when chunks have been without a head, by this device's own observation; losing it only delays.

    Args:
        path: of a small file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(self, orphans: set[bytes], *, at: int, write: bool) -> dict[bytes, int]:
        """Return for each orphan since when it is known as one without a break. Blocks.

        Args:
            orphans: all of them, by now.
            at: now, Unix seconds UTC.
            write: remember it.
        """
        since = {key: min(seen_at, at) for key, seen_at in self._read().items() if key in orphans}
        since |= dict.fromkeys(orphans - since.keys(), at)
        if write:
            by_time: dict[int, list[bytes]] = {}
            for key, seen_at in since.items():
                by_time.setdefault(seen_at, []).append(key)
            rows = [[seen_at, b"".join(sorted(keys))] for seen_at, keys in sorted(by_time.items())]
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(self._path, cbor.encode(rows))
        return since

    def _read(self) -> dict[bytes, int]:
        try:
            rows = cbor.decode(self._path.read_bytes(), max_bytes=_MAX_FILE_BYTES)
            return {
                keys[start : start + _ID_BYTES]: seen_at
                for seen_at, keys in rows
                for start in range(0, len(keys), _ID_BYTES)
            }
        except (FileNotFoundError, CryptoError, TypeError, ValueError):
            return {}


class Orphans:
    """Looks for orphans under every contract, now and then or when asked.

    Args:
        folder: for what is remembered between two looks.
        state: all projects, also those that are no longer protected.
        contracts: under which this identity stores.
        targets: opens them.
        projects: say what they list.
        follow: learns from the provider of a contract which projects other devices have; False if that failed.
        clock: wall time.
        is_paused: whether work that nobody asked for should wait, as on a metered network.
    """

    def __init__(
        self,
        folder: Path,
        state: State,
        contracts: Contracts,
        targets: ProjectTargets,
        projects: Projects,
        follow: Callable[[Contract], Awaitable[bool]],
        clock: Clock,
        *,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = folder
        self._state = state
        self._contracts = contracts
        self._targets = targets
        self._projects = projects
        self._follow = follow
        self._clock = clock
        self._is_paused = is_paused
        self._lock = trio.Lock()

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Collect under each contract every other day, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            for contract in await trio.to_thread.run_sync(self._due):
                if self._is_paused():
                    break
                try:
                    with translated():
                        await self.collect(contract)
                except NodeError as error:
                    log.info("orphans_not_collected", contract=contract.contract_id.hex(), reason=error.message)

    def _due(self) -> list[Contract]:
        now = self._clock()
        return [
            item
            for item in self._contracts.live_as_customer()
            if now - int(self._state.meta.get(_looked_key(item)) or 0) >= EVERY_S
        ]

    async def collect(
        self, contract: Contract, *, min_age_s: int = MIN_AGE_S, dry_run: bool = False
    ) -> OrphanReport:
        """Look for orphans of all projects under one contract, and give up those that are old enough.

        Args:
            contract: this identity's, live.
            min_age_s: for how long no head has listed what goes.
            dry_run: change nothing, remember nothing.

        Raises:
            NodeError: the provider can't be reached, or what a project lists can't be found out; nothing was given
                up then.
        """
        async with self._lock, self._targets.open_contract(contract) as target:
            try:
                return await self._collect(contract, target, min_age_s, dry_run=dry_run)
            except TargetError as error:
                raise NodeError("orphans_not_collected", str(error), "try again later") from error

    async def _collect(
        self, contract: Contract, target: RemoteTarget, min_age_s: int, *, dry_run: bool
    ) -> OrphanReport:
        if not await self._follow(contract):
            raise NodeError(
                "record_not_readable",
                f"{target.name} does not tell this device about projects of others now",
                "it is tried again in an hour",
            )
        held = await _all_ids(target)
        unlisted, missing = await self._compare(target, held)
        now = self._clock()
        seen = FirstSeen(self._folder / contract.contract_id.hex())
        since = await trio.to_thread.run_sync(lambda: seen.update(unlisted, at=now, write=not dry_run))
        due = sorted(key for key, seen_at in since.items() if now - seen_at >= min_age_s)
        if dry_run:
            return OrphanReport(len(unlisted), len(due), 0, 0)
        revived = await target.undelete(sorted(missing))
        marked_before = await target.marked_bytes()
        await target.delete(due)
        # Whoever published meanwhile looks at its chunks after publishing; whoever did so earlier shows here.
        still, _ = await self._compare(target, set(due))
        wanted = set(due) - still
        await target.undelete(sorted(wanted))
        size_bytes = max(0, await target.marked_bytes() - marked_before)
        await trio.to_thread.run_sync(self._state.meta.set, _looked_key(contract), str(now))
        if due:
            log.info("orphans_given_up", provider=target.name, chunks=len(still), size_bytes=size_bytes)
        return OrphanReport(len(unlisted), len(still), size_bytes, revived)

    async def _compare(self, target: RemoteTarget, held: set[bytes]) -> tuple[set[bytes], set[bytes]]:
        """Return which chunks no project lists, and what projects list and ``held`` lacks."""
        unlisted, missing = held, set[bytes]()
        for project in await trio.to_thread.run_sync(lambda: self._state.projects.all(include_removed=True)):
            compared = await self._projects.compare_listing(project, target, held)
            unlisted = unlisted & compared.unlisted
            missing.update(compared.missing)
        return unlisted, missing


async def _all_ids(target: RemoteTarget) -> set[bytes]:
    held: set[bytes] = set()
    after = b""
    while ids := await target.list_ids(after, LIST_PAGE):
        held.update(ids)
        after = ids[-1]
    return held


def _looked_key(contract: Contract) -> str:
    return f"orphans/{contract.contract_id.hex()}"
