"""A node from start to end: opens what its parts stand on and the only top-level nursery, and takes them down."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import trio

from sovereign_node.assembly import Assembly, Foundation
from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.config import Config, load_config, with_overrides
from sovereign_node.datadir import DataDir
from sovereign_node.keys import load_device_keys
from sovereign_node.log import configure_logging
from sovereign_node.net.host import NetworkLimits, Stack, open_network
from sovereign_node.network_id import network_id_of
from sovereign_node.node import Node
from sovereign_node.operations.serving import serve_api
from sovereign_node.operations.status import status_document
from sovereign_node.services.certificates import certificate_keeper
from sovereign_node.services.lan import Lan, is_only_on_loopback
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.ports import remember_ports, remembered_listen
from sovereign_node.services.relay_settings import make_relay
from sovereign_node.store import open_state
from sovereign_node.translate import translated
from sovereign_protocols.audit.messages import PROTOCOL_ID as AUDIT_PROTOCOL_ID
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK_PROTOCOL_ID
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
                    Foundation(data_dir, config, clock, keys, state, identity, chunk_store, network, relay, stop)
                ) as node,
            ):
                await trio.to_thread.run_sync(remember_ports, config.net.listen, network.addresses(), state)
                yield node
        finally:
            await _close(chunk_store.close)
    finally:
        await _close(state.close)


@asynccontextmanager
async def _run_services(base: Foundation) -> AsyncIterator[Node]:
    parts = Assembly(base)
    config, network = base.config, base.network
    async with trio.open_nursery() as nursery:
        network.set_handler(SETTLE_PROTOCOL_ID, parts.money.handle)
        network.set_handler(PROBE_PROTOCOL_ID, parts.uptime.handle)
        if config.is_always_on:
            network.set_handler(AUDIT_PROTOCOL_ID, parts.audits.handle)
            network.set_handler(CHUNK_PROTOCOL_ID, parts.chunk_service.handle)
            network.set_handler(MARKET_PROTOCOL_ID, parts.contracts.handle)
            nursery.start_soon(parts.chunk_service.run)
            nursery.start_soon(parts.announcements.run)
        if config.net.mdns and not is_only_on_loopback(config.net.listen):
            nursery.start_soon(Lan(network, parts.kademlia, parts.finder).run)
        await nursery.start(parts.kademlia.run)
        for service in (
            parts.traffic,
            parts.connectivity,
            parts.presence,
            parts.discovery,
            parts.recovery,
            parts.housekeeping,
            parts.projects,
            parts.waiting,
            parts.uptime,
            parts.money,
            parts.audits,
            parts.orphans,
            parts.repair,
        ):
            await nursery.start(service.run)
        try:
            yield parts.node
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
