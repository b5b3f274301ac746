"""Bring an identity back on a new device with its recovery kit.

The kit names a DHT key under which providers and own devices announce that they hold the identity record. The new
device fetches it, certifies itself with the identity root inside, and writes the record back with itself in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog
import trio

from sovereign_crypto.identity import IdentityLog
from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.recovery import RecoveryKit
from sovereign_node.chunkstore import MemoryChunkStore
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.config import Config
from sovereign_node.datadir import DataDir
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.log import configure_logging
from sovereign_node.net.circuit import CircuitTransport
from sovereign_node.net.errors import NetError
from sovereign_node.net.host import Stack, open_network
from sovereign_node.net.kad import Kademlia, PeerAddresses
from sovereign_node.net.network import Network
from sovereign_node.network_id import network_id_of
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.discovery import Discovery
from sovereign_node.services.own_identity import (
    IdentitySecrets,
    OwnIdentity,
    certify_device,
    open_root_with_kit,
    save_passphrase_slot,
)
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.record_places import record_places
from sovereign_node.services.recovery import Recovery, adopt_record, combine_records, open_records
from sovereign_node.services.relay_settings import make_relay
from sovereign_node.services.sessions import ChunkSessions, open_session
from sovereign_node.services.setup import (
    DeviceOptions,
    build_config,
    check_passphrase,
    new_device,
    note_confirmed_kit,
    write_device,
)
from sovereign_node.store import State
from sovereign_protocols.chunk import PROTOCOL_ID
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.recovery.record import IdentityRecord

log = structlog.get_logger(__name__)

# Right after the start of a small network, announcements may still be under way.
SEARCH_ROUNDS = 6
SEARCH_PAUSE_S = 2.0
FETCH_TIMEOUT_S = 20.0
NAMES_TIMEOUT_S = 5.0
Report = Callable[[str], None]


@dataclass(frozen=True)
class JoinResult:
    """What came back."""

    identity_id: bytes
    peer_id: str
    projects: tuple[dict[str, Any], ...]
    providers: tuple[dict[str, Any], ...]
    contracts: int


async def join_identity(
    root_dir: Path,
    kit: RecoveryKit,
    options: DeviceOptions,
    passphrase: str | None,
    report: Report,
    clock: Clock = wall_clock,
) -> JoinResult:
    """Make this machine a new device of the kit's identity.

    Args:
        root_dir: data directory; must not hold a device yet.
        kit: the recovery kit.
        options: name, roles, addresses.
        passphrase: protects the identity root on this device; None to keep it in the kit alone.
        report: told in words what is going on.
        clock: wall time.

    Raises:
        NodeError: no record was found, or the kit does not open it; nothing is left behind.
    """
    config = build_config(options)
    configure_logging(config.log_level)
    if passphrase is not None:
        check_passphrase(passphrase)
    if not config.net.bootstrap:
        raise NodeError(
            "no_bootstrap",
            "a first node to ask is needed",
            "add --bootstrap /ip4/…/tcp/…/p2p/… of any node of the network",
            ExitCode.USAGE,
        )
    keys = DeviceKeys.generate()
    with new_device(root_dir, config) as data_dir:
        listen = ("/ip4/127.0.0.1/tcp/0",)
        relay = make_relay(config, keys)
        async with (
            open_network(
                keys.signing,
                listen=listen,
                stack=cast(Stack, config.net.stack),
                transports=[relay] if relay is not None else [],
                clock=clock,
            ) as network,
            trio.open_nursery() as nursery,
        ):
            # The provider that holds the record may be one that only a relay leads to.
            network.add_transport(CircuitTransport(network))
            validator = SovereignValidator(network_id_of(config))
            kademlia = Kademlia(network, validator=validator, server=False, clock=clock)
            await nursery.start(kademlia.run)
            joining = _Join(data_dir, config, keys, network, kademlia, clock, report)
            try:
                result = await joining.run(kit, passphrase)
            finally:
                nursery.cancel_scope.cancel()
        return result


class _Join:
    """One attempt to join."""

    def __init__(
        self,
        data_dir: DataDir,
        config: Config,
        keys: DeviceKeys,
        network: Network,
        kademlia: Kademlia,
        clock: Clock,
        report: Report,
    ) -> None:
        self._data_dir = data_dir
        self._config = config
        self._keys = keys
        self._network = network
        self._kademlia = kademlia
        self._clock = clock
        self._report = report
        self._network_id = network_id_of(config)

    async def run(self, kit: RecoveryKit, passphrase: str | None) -> JoinResult:
        """Find the record, certify this device, write its files, tell the providers."""
        record = await self._find_record(kit)
        identity_log = IdentityLog.verify(record.log, network_id=self._network_id, identity_id=record.identity_id)
        root = open_root_with_kit(kit, record.root_box, identity_log)
        self._report("certifying this device")
        at = self._clock()
        certify_device(root, identity_log, self._keys, self._config.roles, at=at, network_id=self._network_id)
        secrets = IdentitySecrets(kit.locator, record.root_box, record.user_keys)
        state = write_device(
            self._data_dir, self._config, self._keys, identity_log, secrets, at=at, network_id=self._network_id
        )
        with state:
            if passphrase is not None:
                await trio.to_thread.run_sync(
                    save_passphrase_slot, self._data_dir, root, record.identity_id, passphrase
                )
            identity = OwnIdentity(self._data_dir, state, self._keys, self._network_id)
            adopt_record(record, identity, self._keys, state, at=at)
            note_confirmed_kit(state, identity, kit)
            state.audit.record(self._keys.public.hex(), "device_joined", identity.identity_id.hex(), "ok", at=at)
            await self._write_back(identity, state, record)
            await self._learn_names(identity, state)
            return self._result(identity, state)

    async def _find_record(self, kit: RecoveryKit) -> IdentityRecord:
        self._report("looking for the identity record in the DHT")
        contacts = 0
        reached: set[str] = set()
        for round_number in range(SEARCH_ROUNDS):
            if round_number:
                await trio.sleep(SEARCH_PAUSE_S)
            contacts = await self._kademlia.bootstrap(self._config.net.bootstrap)
            holders = await self._kademlia.find_providers(kit.rendezvous)
            found = await self._fetch(kit, holders, reached)
            record = combine_records(open_records(found, kit.encryption_key, kit.locator, self._network_id))
            if record is not None:
                return record
        raise _not_found(contacts, reached)

    async def _fetch(self, kit: RecoveryKit, holders: list[PeerAddresses], reached: set[str]) -> list[bytes]:
        found: list[bytes] = []

        async def ask(peer_id: str, addresses: tuple[str, ...]) -> None:
            try:
                with trio.fail_after(FETCH_TIMEOUT_S):
                    await self._network.connect(peer_id, addresses)
                    stream = await self._network.open_stream(peer_id, PROTOCOL_ID)
                    async with open_session(stream, None, self._clock) as client:
                        records = await client.recovery_get(kit.locator)
            except (NodeError, NetError, trio.TooSlowError) as error:
                log.info("identity_record_not_read", peer_id=peer_id, reason=str(error))
                return
            reached.add(peer_id)
            self._report(f"{peer_id} holds {'it' if records else 'none'}")
            found.extend(record.sealed for record in records)

        async with trio.open_nursery() as nursery:
            for holder in holders:
                nursery.start_soon(ask, holder.peer_id, holder.addresses)
        return found

    async def _write_back(self, identity: OwnIdentity, state: State, record: IdentityRecord) -> None:
        """Tell every provider of the new device; where that fails, the node does it when it is up."""
        self._report("telling the providers about this device")
        finder = PeerFinder(self._network, self._kademlia, state, self._clock)
        contracts = Contracts(self._config, identity, self._keys, state, MemoryChunkStore(), finder, self._clock)
        sessions = ChunkSessions(finder, identity, self._clock)
        recovery = Recovery(
            identity,
            self._keys,
            state,
            self._clock,
            places=lambda: record_places(contracts, sessions, None),
            on_adopted=lambda: None,
        )
        if not await recovery.write_after_joining(record):
            self._report("not every provider could be told; the node tries again when it is up")

    async def _learn_names(self, identity: OwnIdentity, state: State) -> None:
        """Find out what the providers call themselves; without an answer in time their peer ids have to do."""
        discovery = Discovery(
            self._network, self._kademlia, self._config, identity, self._keys, state, self._clock, make_offer=None
        )
        with trio.move_on_after(NAMES_TIMEOUT_S):
            await discovery.refresh_devices({item.provider_device for item in state.contracts.all(role="customer")})

    def _result(self, identity: OwnIdentity, state: State) -> JoinResult:
        contracts = state.contracts.all(role="customer")
        devices = {item.device_id: item.device_name for item in state.devices.all()}
        providers = {item.provider_device for item in contracts}
        return JoinResult(
            identity.identity_id,
            self._keys.peer_id,
            tuple({"id": item.project_id.hex(), "name": item.name} for item in state.projects.all()),
            tuple(
                {"peer_id": peer_id_from_public_key(item), "name": devices.get(item, "")}
                for item in sorted(providers)
            ),
            len(contracts),
        )


def _not_found(contacts: int, reached: set[str]) -> NodeError:
    if not contacts:
        return NodeError(
            "no_bootstrap_reached",
            "none of the bootstrap addresses answered",
            "check the address of a node that is up (`sovereign status` shows it there)",
            ExitCode.UNREACHABLE,
        )
    if reached:
        return NodeError(
            "cannot_unlock",
            "a record was found, but the recovery kit does not open it",
            "check the kit",
            ExitCode.CANNOT_UNLOCK,
        )
    return NodeError(
        "record_not_found",
        "no node of the network announces a record for this kit",
        "start a provider or another device of yours, check the kit, and try again",
        ExitCode.NOT_FOUND,
    )
