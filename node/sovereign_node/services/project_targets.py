"""The targets of a project, as far as they can be reached now, and the way of waiting chunks to providers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.project import ProjectKeys
from sovereign_node.chunkstore import ChunkStore
from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.lasting_session import LastingSession
from sovereign_node.services.money.metering import TransferTally
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.placement_rules import wanted_contracts
from sovereign_node.services.sessions import ChunkSessions
from sovereign_node.services.targets import LocalTarget, RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_node.store.projects import Project
from sovereign_node.vault.errors import TargetError
from sovereign_protocols.vault.head import NO_PREVIOUS, parse_head

log = structlog.get_logger(__name__)

PUSH_BATCH = 32
LIST_PAGE = 1000
#: Of contracts under which nothing new is stored, whatever is paid.
READ_ONLY_STATES = ("ending",)


@dataclass(frozen=True)
class OpenTargets:
    """Targets for the length of one operation.

    Args:
        remote: providers that answered and take chunks.
        leaving: providers that answered and only give chunks back: their contract ends, or others are wanted.
        local: this device's own store.
        missing: names of providers that did not answer.
    """

    remote: list[RemoteTarget]
    leaving: list[RemoteTarget]
    local: LocalTarget
    missing: list[str]


class ProjectTargets:
    """Opens targets.

    Args:
        config: space for what waits.
        identity: signs deletions in this network.
        keys: of this device.
        state: names of devices.
        store: the local chunk store.
        contracts: where this identity stores.
        finder: reaches providers.
        sessions: talks to them.
        clock: wall time.
        tally: counts what is moved, for the money side.
    """

    def __init__(
        self,
        config: Config,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        store: ChunkStore,
        contracts: Contracts,
        finder: PeerFinder,
        sessions: ChunkSessions,
        clock: Clock,
        tally: TransferTally | None = None,
    ) -> None:
        self._tally = tally
        self._config = config
        self._identity = identity
        self._keys = keys
        self._state = state
        self._store = store
        self._contracts = contracts
        self._finder = finder
        self._sessions = sessions
        self._clock = clock

    @asynccontextmanager
    async def open(self, project: Project, project_keys: ProjectKeys) -> AsyncIterator[OpenTargets]:
        """Connect to every provider of the project and serve the block with those that answer."""
        wanted = {item.contract_id for item in await trio.to_thread.run_sync(self._contracts_of, project)}
        contracts = await trio.to_thread.run_sync(self._contracts.live_as_customer)
        reachable = await self._connect([_peer_of(item) for item in contracts])
        missing: list[str] = []
        async with AsyncExitStack() as stack:
            remote: list[RemoteTarget] = []
            leaving: list[RemoteTarget] = []
            for contract in contracts:
                name = await trio.to_thread.run_sync(self._name_of, contract)
                if _peer_of(contract) not in reachable:
                    missing.append(name)
                    continue
                try:
                    session = await stack.enter_async_context(self._sessions.open_lasting(_peer_of(contract)))
                except NodeError as error:
                    log.warning("provider_left_out", provider=name, reason=error.message)
                    missing.append(name)
                    continue
                if name in {target.name for target in (*remote, *leaving)}:
                    # The vault tells targets apart by their names.
                    name = f"{name} {contract.contract_id.hex()[:8]}"
                is_wanted = contract.contract_id in wanted and contract.state not in READ_ONLY_STATES
                group = remote if is_wanted else leaving
                group.append(self._remote(name, session, contract))
            local = await trio.to_thread.run_sync(self._local, project_keys)
            yield OpenTargets(remote, leaving, local, missing)

    @asynccontextmanager
    async def open_contract(self, contract: Contract) -> AsyncIterator[RemoteTarget]:
        """Connect to the provider of one contract, whatever project its chunks are of.

        Raises:
            NodeError: unreachable, or it refuses.
        """
        name = await trio.to_thread.run_sync(self._name_of, contract)
        async with self._sessions.open_lasting(_peer_of(contract)) as session:
            yield self._remote(name, session, contract)

    def _remote(self, name: str, session: LastingSession, contract: Contract) -> RemoteTarget:
        return RemoteTarget(
            name,
            session,
            contract.contract_id,
            self._keys.signing,
            self._identity.network_id,
            self._clock,
            self._tally,
        )

    def names(self, project: Project) -> list[str]:
        """Return the names of the providers that a project is meant for. Blocks."""
        return [self._name_of(contract) for contract in self._contracts_of(project)]

    def peer_ids(self, project: Project) -> set[str]:
        """Return the peer ids of the providers that a project is meant for. Blocks."""
        return {_peer_of(contract) for contract in self._contracts_of(project)}

    def waiting_usage(self, project_keys: ProjectKeys) -> tuple[int, int]:
        """Return how many chunks of a project wait in the local store, and their bytes. Blocks."""
        if self._namespace(project_keys) not in self._store.contracts():
            return 0, 0
        usage = self._store.usage(self._namespace(project_keys))
        return usage.chunks, usage.size_bytes

    def waiting_chunks(self, project_keys: ProjectKeys) -> int:
        """Return how many chunks of a project wait in the local store. Blocks."""
        if self._namespace(project_keys) not in self._store.contracts():
            return 0
        return self._store.usage(self._namespace(project_keys)).chunks

    def has_waiting(self, project_keys: ProjectKeys) -> bool:
        """Tell whether a head waits in the local store; a backup of unchanged data has no chunks. Blocks."""
        namespace = self._namespace(project_keys)
        if namespace not in self._store.contracts():
            return False
        return bool(self.waiting_chunks(project_keys) or self._store.heads(namespace, project_keys.locator()))

    async def push(self, targets: OpenTargets, project_keys: ProjectKeys, copies: int) -> int:
        """Move what waits in the local store to providers; nothing is removed before they have it.

        Args:
            targets: at least one remote one.
            project_keys: of the project.
            copies: how many providers get each chunk.

        Returns:
            Chunks that were sent.

        Raises:
            TargetError: a provider failed; what waits is still there.
        """
        sent = 0
        for target in targets.remote[:copies]:
            sent += await _copy_chunks(targets.local, target)
            await _copy_heads(targets.local, target, project_keys.locator())
        await trio.to_thread.run_sync(self._store.drop_contract, self._namespace(project_keys))
        return sent

    def _local(self, project_keys: ProjectKeys) -> LocalTarget:
        return LocalTarget(
            "this device", self._store, self._namespace(project_keys), self._config.backup.spool_bytes
        )

    def _namespace(self, project_keys: ProjectKeys) -> bytes:
        return project_keys.locator(self._keys.public)

    def _contracts_of(self, project: Project) -> list[Contract]:
        return wanted_contracts(project, self._contracts.live_as_customer())

    def _name_of(self, contract: Contract) -> str:
        device = self._state.devices.get(contract.provider_device)
        return device.device_name if device is not None else _peer_of(contract)

    async def _connect(self, peer_ids: list[str]) -> set[str]:
        reachable: set[str] = set()

        async def connect(peer_id: str) -> None:
            try:
                await self._finder.connect(peer_id)
                reachable.add(peer_id)
            except NodeError:
                log.info("provider_not_reachable", peer_id=peer_id)

        async with trio.open_nursery() as nursery:
            for peer_id in set(peer_ids):
                nursery.start_soon(connect, peer_id)
        return reachable


def _peer_of(contract: Contract) -> str:
    return peer_id_from_public_key(contract.provider_device)


async def _copy_chunks(source: LocalTarget, target: RemoteTarget) -> int:
    sent, after = 0, b""
    while ids := await source.list_ids(after, LIST_PAGE):
        after = ids[-1]
        present = await target.have(ids)
        absent = [chunk_id for chunk_id, there in zip(ids, present, strict=True) if not there]
        for start in range(0, len(absent), PUSH_BATCH):
            await _copy_batch(source, target, absent[start : start + PUSH_BATCH])
        sent += len(absent)
    return sent


async def _copy_batch(source: LocalTarget, target: RemoteTarget, ids: list[bytes]) -> None:
    failures: list[TargetError] = []
    async with trio.open_nursery() as nursery:

        async def put(chunk_id: bytes, sealed: bytes) -> None:
            try:
                await target.put(chunk_id, sealed)
            except TargetError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async for chunk_id, sealed in source.get(ids):
            nursery.start_soon(put, chunk_id, sealed)
    if failures:
        raise failures[0]


async def _copy_heads(source: LocalTarget, target: RemoteTarget, locator: bytes) -> None:
    held = {parse_head(raw).slot: parse_head(raw) for raw in await target.heads(locator)}
    for raw in await source.heads(locator):
        head = parse_head(raw)
        current = held.get(head.slot)
        if current is None or current.sequence < head.sequence:
            await target.set_head(locator, raw, current.hash if current else NO_PREVIOUS)
