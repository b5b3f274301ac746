"""Start a network: the only place that builds a libp2p host."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import trio
from libp2p import new_host
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

from sovereign_node.clock import Clock, wall_clock
from sovereign_node.net import stock_yamux
from sovereign_node.net.identity import DeviceKey, key_pair_of
from sovereign_node.net.listener import serve_tcp
from sovereign_node.net.network import Network
from sovereign_node.net.noise import NOISE_PROTOCOL_ID, make_security
from sovereign_node.net.transports import PipeTransport
from sovereign_node.net.upgrade import Upgrader
from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.events import Limits as YamuxLimits

Stack = Literal["fast", "stock"]

# libp2p's peer store evicts peers without addresses first, which includes our own key at 1000 known peers: the
# next identify then stops the host. What may enter the store is bounded where it comes from.
_PEERSTORE_LIMIT = 10**9


@dataclass(frozen=True)
class NetworkLimits:
    """Bounds on what peers can make this node hold.

    Attributes:
        connections: authenticated connections at a time.
        dials: connections that this node is making at a time.
        handshakes: unauthenticated connections at a time.
        handshakes_per_network: unauthenticated connections per IPv4 /24 (or IPv6 /56) at a time.
        handshake_timeout_s: how long a stranger may take to become a peer.
        negotiation_timeout_s: how long a peer may take to name the protocol of a stream.
        streams_per_peer: inbound streams that one peer may hold open.
        window_bytes_per_peer: received bytes that may wait to be read, per peer.
        window_bytes: received bytes that may wait to be read, over all peers.
        ping_interval_s: silence after which a connection is checked.
        ping_timeout_s: how long an answer may take.
        upload_bytes_per_s: bytes sent over all connections, 0 for no limit.
        download_bytes_per_s: the same for bytes received; with the fast stack only, as the other.
    """

    connections: int = 300
    dials: int = 32
    handshakes: int = 64
    handshakes_per_network: int = 8
    handshake_timeout_s: float = 10.0
    negotiation_timeout_s: float = 10.0
    streams_per_peer: int = 64
    window_bytes_per_peer: int = 16 * 1024 * 1024
    window_bytes: int = 64 * 1024 * 1024
    ping_interval_s: float = 10.0
    ping_timeout_s: float = 5.0
    upload_bytes_per_s: int = 0
    download_bytes_per_s: int = 0

    @property
    def total(self) -> int:
        """Connections at a time, those that are being made included."""
        return self.connections + self.dials + self.handshakes

    @classmethod
    def within(cls, total: int, *, window_bytes: int = 64 * 1024 * 1024) -> "NetworkLimits":
        """Share out a total of at least 16; what is being made has places of its own, or nobody would be found.

        Args:
            total: connections of every kind.
            window_bytes: as the attribute; a quarter of it may be one peer's.
        """
        dials, handshakes = min(32, total // 6), min(64, total // 8)
        return cls(
            connections=total - dials - handshakes,
            dials=dials,
            handshakes=handshakes,
            window_bytes_per_peer=window_bytes // 4,
            window_bytes=window_bytes,
        )


def _new_host(key_pair: Any, limits: NetworkLimits, stack: Stack) -> Any:
    """Build a host without listeners, dialers or any of libp2p's own initiative."""
    security = make_security(key_pair, fast=stack == "fast")
    host = new_host(
        key_pair=key_pair,
        sec_opt=security,
        peerstore_opt=PeerStore(max_records=_PEERSTORE_LIMIT, max_peers=_PEERSTORE_LIMIT),
        connection_config=ConnectionConfig(
            # Above our own limit, so that a newcomer is let in and `crowd` chooses who goes.
            max_connections=limits.total,
            min_connections=0,
            low_watermark=0,
            high_watermark=limits.total,
            # One per peer ends libp2p's fixed 250 ms wait in its own dials.
            max_connections_per_peer=1,
            inbound_upgrade_timeout=limits.handshake_timeout_s,
            outbound_upgrade_timeout=limits.handshake_timeout_s,
        ),
        disable_identify_address_discovery=True,
    )
    # Its default limits make excess streams hang instead of failing; ours are counted in `guard` and `listener`.
    host.get_network().set_resource_manager(None)
    # Its auto-connector dials every peer that it has heard of, up to 200; it only runs once started.
    host.get_network().auto_connector.start = trio.lowlevel.checkpoint
    # It closes one of two connections to a peer, whatever runs on it; `Network` closes the worse one when idle.
    host.get_network()._trim_connections = lambda _peer_id: None
    if stack == "fast":
        host.get_network().upgrader = Upgrader(
            security[NOISE_PROTOCOL_ID],
            YamuxLimits(max_inbound_streams=limits.streams_per_peer),
            peer_window_bytes=limits.window_bytes_per_peer,
            node_budget=WindowBudget(limits.window_bytes),
        )
    else:
        stock_yamux.install(host.get_network())
    return host


def _dialable(addresses: Sequence[str]) -> list[Multiaddr]:
    """Leave out addresses in protocols of ours, which other implementations cannot parse."""
    return [Multiaddr(address) for address in addresses if "/tcp/" in address]


@asynccontextmanager
async def open_network(
    device_key: DeviceKey,
    *,
    listen: Sequence[str],
    stack: Stack = "fast",
    limits: NetworkLimits | None = None,
    transports: Sequence[PipeTransport] = (),
    clock: Clock = wall_clock,
) -> AsyncIterator[Network]:
    """Run a host for the length of the block.

    Args:
        device_key: Ed25519 key whose public half is the peer id.
        listen: TCP multiaddrs with an IP literal, such as `/ip4/0.0.0.0/tcp/0`; may be empty.
        stack: "fast" for our Noise session and Yamux muxer, "stock" for libp2p's own behind guards.
        limits: bounds on what peers can make this node hold.
        transports: byte pipes other than TCP.
        clock: wall time, for `ConnectionInfo.opened_at`.

    Raises:
        ListenError: an address cannot be listened on; nothing is left running.
        AddressError: an address is malformed.
    """
    limits = limits or NetworkLimits()
    host = _new_host(key_pair_of(device_key), limits, stack)
    network = Network(host, limits, transports, clock)
    # The host has no listeners of its own, so identify would tell peers of no address to dial us at.
    host._addrs_factory = lambda _own: _dialable(network.addresses())
    listeners = await network.bind(listen)
    body_error: Exception | None = None
    try:
        async with host.run([]), trio.open_nursery() as nursery:
            network.start(nursery)
            for listener in listeners:
                nursery.start_soon(serve_tcp, listener, network.door, nursery)
            try:
                yield network
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nurseries' groups
                body_error = error
            finally:
                nursery.cancel_scope.cancel()
                await network.shut_down()
    finally:
        for listener in listeners:
            await trio.aclose_forcefully(listener)
    if body_error is not None:
        raise body_error
