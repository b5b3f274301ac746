"""The composition root: builds every part of a node, opens the only top-level nursery, and takes it down."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import trio

from sovereign_node.chunkstore import ChunkStore, LogChunkStore
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.config import Config, load_config, with_overrides
from sovereign_node.datadir import DataDir
from sovereign_node.keys import DeviceKeys, load_device_keys
from sovereign_node.log import configure_logging
from sovereign_node.net.host import NetworkLimits, Stack, open_network
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.nats import NatsTransport
from sovereign_node.net.network import Network
from sovereign_node.network_id import network_id_of
from sovereign_node.node import Node
from sovereign_node.operations.serving import serve_api
from sovereign_node.operations.status import status_document
from sovereign_node.services.announcements import Announcements
from sovereign_node.services.audit_credit import credit_failures
from sovereign_node.services.audits import Audits
from sovereign_node.services.authorizer import StateAuthorizer
from sovereign_node.services.certificates import certificate_keeper
from sovereign_node.services.clock_skew import ClockSkew
from sovereign_node.services.connectivity import Connectivity
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.discovery import Discovery, published_addresses
from sovereign_node.services.friends import Friends
from sovereign_node.services.housekeeping import Housekeeping
from sovereign_node.services.lan import Lan, is_only_on_loopback
from sovereign_node.services.money.service import Money
from sovereign_node.services.orphans import Orphans
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.placements import Placements
from sovereign_node.services.ports import remember_ports, remembered_listen
from sovereign_node.services.presence import Presence, WantedPeers
from sovereign_node.services.project_targets import ProjectTargets
from sovereign_node.services.projects import Projects
from sovereign_node.services.provide import ChunkService
from sovereign_node.services.record_places import OwnPlace, provider_place, record_places
from sovereign_node.services.recovery import Recovery
from sovereign_node.services.relay_settings import make_relay
from sovereign_node.services.repair import Repair
from sovereign_node.services.replicas import Replicas
from sovereign_node.services.sessions import ChunkSessions
from sovereign_node.services.traffic import Traffic
from sovereign_node.services.uptime import Uptime
from sovereign_node.services.waiting import WaitingBackups
from sovereign_node.store import State, open_state
from sovereign_node.store.contracts import Contract
from sovereign_node.translate import translated
from sovereign_protocols.audit.messages import PROTOCOL_ID as AUDIT_PROTOCOL_ID
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK_PROTOCOL_ID
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.market.messages import PROTOCOL_ID as MARKET_PROTOCOL_ID
from sovereign_protocols.probe.messages import PROTOCOL_ID as PROBE_PROTOCOL_ID
from sovereign_protocols.settle.messages import PROTOCOL_ID as SETTLE_PROTOCOL_ID

STATUS_INTERVAL_S = 5.0
LAST_ANSWER_S = 0.05


@dataclass(frozen=True)
class RunOptions:
    """What a user may say when starting a node.

    Args:
        data_dir: an initialised data directory.
        listen: multiaddrs that replace the configured ones; empty for those.
        bootstrap: multiaddrs besides the configured ones.
        api_port: TCP port of the local API, None for the configured one.
        on_status: told the status document when the node is up and every few seconds after.
        read_passphrase: gives the passphrase when the certificate of this device is due for renewal; None leaves it
            to the user.
    """

    data_dir: DataDir
    listen: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    api_port: int | None = None
    on_status: Callable[[dict[str, Any]], None] = lambda _status: None
    read_passphrase: Callable[[], str] | None = None


def run_node(options: RunOptions) -> None:
    """Run a node until it is told to stop.

    Raises:
        NodeError: it can't start; nothing is left running.
    """
    options.data_dir.require_initialised()
    config = with_overrides(
        load_config(options.data_dir.config), listen=options.listen, bootstrap=options.bootstrap
    )
    configure_logging(config.log_level)
    with options.data_dir.locked(), translated():
        trio.run(_run, options, config)


async def _run(options: RunOptions, config: Config) -> None:
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stopping)
        async with open_node(options.data_dir, config, stop=stopping.set) as node:
            async with serve_api(node, options.api_port):
                nursery.start_soon(_tell_status, node, options.on_status)
                if options.read_passphrase is not None:
                    nursery.start_soon(certificate_keeper(node, options.read_passphrase).run)
                await stopping.wait()
                # Lets the answer to `sovereign down` out before its server goes.
                await trio.sleep(LAST_ANSWER_S)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_node(
    data_dir: DataDir, config: Config, *, stop: Callable[[], None], clock: Clock = wall_clock
) -> AsyncIterator[Node]:
    """Build a node and run its services for the length of the block.

    Args:
        data_dir: initialised and locked by the caller.
        config: settings in force.
        stop: what the operation `shutdown` calls.
        clock: wall time.

    Raises:
        NodeError: keys, state or addresses are not usable.
    """
    keys = load_device_keys(data_dir)
    state = await trio.to_thread.run_sync(open_state, data_dir.state)
    try:
        identity = OwnIdentity(data_dir, state, keys, network_id_of(config))
        _ = identity.certificate
        chunk_store = await trio.to_thread.run_sync(
            lambda: LogChunkStore(data_dir.chunks, reserve_bytes=config.provider.reserve_bytes)
        )
        try:
            relay = make_relay(config, keys)
            limits = NetworkLimits.within(config.connection_limit, window_bytes=config.net.receive_window_bytes)
            listen = await trio.to_thread.run_sync(remembered_listen, config.net.listen, state)
            async with (
                open_network(
                    keys.signing,
                    listen=listen,
                    stack=cast(Stack, config.net.stack),
                    limits=limits,
                    transports=[relay] if relay is not None else [],
                    clock=clock,
                ) as network,
                _run_services(
                    data_dir, config, clock, keys, state, identity, chunk_store, network, relay, stop
                ) as node,
            ):
                await trio.to_thread.run_sync(remember_ports, config.net.listen, network.addresses(), state)
                yield node
        finally:
            await _close(chunk_store.close)
    finally:
        await _close(state.close)


@asynccontextmanager
async def _run_services(
    data_dir: DataDir,
    config: Config,
    clock: Clock,
    keys: DeviceKeys,
    state: State,
    identity: OwnIdentity,
    chunk_store: ChunkStore,
    network: Network,
    nats: NatsTransport | None,
    stop: Callable[[], None],
) -> AsyncIterator[Node]:
    kademlia = Kademlia(
        network,
        validator=SovereignValidator(identity.network_id),
        server=config.is_always_on,
        clock=clock,
        addresses=lambda: published_addresses(config, network),
    )
    finder = PeerFinder(
        network,
        kademlia,
        state,
        clock,
        shared_ways=lambda: connectivity.shared_ways(),
        find_record=lambda peer_id: discovery.find_addresses(peer_id),
    )
    contracts = Contracts(config, identity, keys, state, chunk_store, finder, clock)
    clock_skew = ClockSkew(clock)
    sessions = ChunkSessions(finder, identity, clock, clock_skew.note)
    money = Money(
        identity=identity,
        keys=keys,
        state=state,
        chunk_store=chunk_store,
        finder=finder,
        contracts=contracts,
        clock=clock,
        uptime=lambda contract_id, from_at, until_at: uptime.book.count(contract_id, from_at, until_at),
    )
    announcements = Announcements(kademlia, chunk_store)
    own_place = OwnPlace(chunk_store, announcements.add) if config.is_always_on else None
    targets = ProjectTargets(
        config, identity, keys, state, chunk_store, contracts, finder, sessions, clock, money.tallies
    )
    recovery = Recovery(
        identity,
        keys,
        state,
        clock,
        places=lambda: record_places(contracts, sessions, own_place),
        on_adopted=lambda: presence.dial_soon(),
    )
    projects = Projects(
        config, data_dir, identity, keys, state, targets, clock, on_queued=lambda: waiting.note_queued()
    )
    discovery = Discovery(
        network,
        kademlia,
        config,
        identity,
        keys,
        state,
        clock,
        make_offer=contracts.current_offer if config.is_provider else None,
    )
    housekeeping = Housekeeping(state, kademlia, contracts, discovery)
    traffic = Traffic(network.set_rates, config.net, state, on_resumed=lambda: waiting.retry_now())
    waiting = WaitingBackups(
        state,
        projects,
        clock,
        is_connected=network.is_connected,
        next_dial_s=lambda peer_id: presence.next_try_in_s(peer_id),
        is_paused=lambda: traffic.is_paused,
    )
    wanted = WantedPeers(identity, contracts, keys)

    def on_connected(peer_id: str) -> None:
        housekeeping.note_connected(peer_id)
        waiting.note_connected(peer_id)
        repair.note_connected()
        if state.devices.get_by_peer_id(peer_id) is None:
            # It may be a new device of this identity: the identity record tells.
            recovery.publish_soon()

    presence = Presence(network, finder, state, clock, wanted, on_connected=on_connected)

    def on_surroundings() -> None:
        traffic.check_soon()
        presence.dial_soon()
        kademlia.announce_soon()
        waiting.retry_now()

    friends = Friends(identity, contracts, state, keys)
    connectivity = Connectivity(
        network,
        config,
        finder,
        nats,
        relay_candidates=friends.always_on,
        is_favoured=friends.is_friend,
        on_surroundings=on_surroundings,
        is_paused=lambda: traffic.is_paused,
        clock=clock,
    )
    uptime = Uptime(
        identity,
        keys,
        state,
        finder,
        clock,
        is_online=lambda peer_id: any(info.peer_id != peer_id for info in network.connections()),
    )

    async def end_contract(contract: Contract) -> None:
        if await trio.to_thread.run_sync(money.pays, contract):
            await money.close(contract)
            recovery.publish_soon()

    replicas = Replicas(
        state,
        projects,
        clock,
        follow=lambda contract: recovery.follow(provider_place(contract, sessions)),
        end_contract=end_contract,
    )
    repair = Repair(state, projects, replicas, clock, is_paused=lambda: traffic.is_paused)
    orphans = Orphans(
        data_dir.cache / "orphans",
        state,
        contracts,
        targets,
        projects,
        follow=lambda contract: recovery.follow(provider_place(contract, sessions)),
        clock=clock,
        is_paused=lambda: traffic.is_paused,
    )
    audits = Audits(
        identity,
        keys,
        state,
        chunk_store,
        finder,
        targets,
        Placements(state, projects, clock),
        repair,
        clock,
        on_failed=credit_failures(state, chunk_store, money.notes),
    )
    node = Node(
        config=config,
        data_dir=data_dir,
        clock=clock,
        keys=keys,
        state=state,
        identity=identity,
        network=network,
        kademlia=kademlia,
        finder=finder,
        presence=presence,
        discovery=discovery,
        contracts=contracts,
        money=money,
        chunk_store=chunk_store,
        projects=projects,
        connectivity=connectivity,
        recovery=recovery,
        uptime=uptime,
        audits=audits,
        orphans=orphans,
        repair=repair,
        traffic=traffic,
        waiting=waiting,
        clock_skew=clock_skew,
        started_at=clock(),
        stop=stop,
    )
    chunk_service = ChunkService(
        chunk_store,
        StateAuthorizer(state),
        clock=clock,
        on_recovery_set=announcements.add,
        network_id=identity.network_id,
        meter=money.meter,
    )
    async with trio.open_nursery() as nursery:
        network.set_handler(SETTLE_PROTOCOL_ID, money.handle)
        network.set_handler(PROBE_PROTOCOL_ID, uptime.handle)
        if config.is_always_on:
            network.set_handler(AUDIT_PROTOCOL_ID, audits.handle)
            network.set_handler(CHUNK_PROTOCOL_ID, chunk_service.handle)
            network.set_handler(MARKET_PROTOCOL_ID, contracts.handle)
            nursery.start_soon(chunk_service.run)
            nursery.start_soon(announcements.run)
        if config.net.mdns and not is_only_on_loopback(config.net.listen):
            nursery.start_soon(Lan(network, kademlia, finder).run)
        await nursery.start(kademlia.run)
        for service in (
            traffic,
            connectivity,
            presence,
            discovery,
            recovery,
            housekeeping,
            projects,
            waiting,
            uptime,
            money,
            audits,
            orphans,
            repair,
        ):
            await nursery.start(service.run)
        try:
            yield node
        finally:
            nursery.cancel_scope.cancel()


async def _tell_status(node: Node, on_status: Callable[[dict[str, Any]], None]) -> None:
    while True:
        on_status(await status_document(node))
        await trio.sleep(STATUS_INTERVAL_S)


async def _stop_on_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _number in signals:
            stopping.set()


async def _close(close: Callable[[], None]) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(close)
