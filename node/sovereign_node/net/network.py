"""A running host: connections to peers, streams over them, and who is told when they come and go."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.peerstore import PeerStoreError

from sovereign_node.clock import Clock
from sovereign_node.net import liveness, negotiate
from sovereign_node.net.address_book import AddressBook
from sovereign_node.net.connection import Connection, ConnectionInfo
from sovereign_node.net.connection_table import ConnectionTable
from sovereign_node.net.crowd import Crowd
from sovereign_node.net.dialer import Dialer
from sovereign_node.net.dials import Dials
from sovereign_node.net.errors import (
    DialError,
    NegotiationError,
    NetError,
    ProtocolNotSupportedError,
    StreamOpenError,
)
from sovereign_node.net.guard import Handler, StreamDispatcher
from sovereign_node.net.identity import to_libp2p_id
from sovereign_node.net.knock import knock
from sovereign_node.net.listener import Admission, Door, bound_address, open_listeners
from sovereign_node.net.own_addresses import OwnAddresses
from sovereign_node.net.paths import rank_of_address
from sovereign_node.net.pipes import Pipe
from sovereign_node.net.places import Places
from sovereign_node.net.streams import PeerStream
from sovereign_node.net.throttle import Throttle
from sovereign_node.net.transports import PipeTransport
from sovereign_node.net.upgrade import Upgrader
from sovereign_node.rates import Rates
from sovereign_protocols.yamux.errors import YamuxError

if TYPE_CHECKING:
    from sovereign_node.net.host import NetworkLimits

_log = structlog.get_logger(__name__)

# Called with the peer id, and whether the peer is connected now; must not block and not raise.
ConnectionWatcher = Callable[[str, bool], None]


class Network:
    """One node's connections. Made by `open_network`, which also runs it.

    Attributes:
        peer_id: base58 text of this node's peer id.
        own: at which addresses others can reach this node.
        crowd: who has to go when there are too many connections.
        places: how many more may be made.
        table: the connections that are open.
    """

    def __init__(
        self, host: Any, limits: "NetworkLimits", transports: Sequence[PipeTransport], clock: Clock
    ) -> None:
        self._host = host
        self._swarm = host.get_network()
        self._limits = limits
        self._clock = clock
        self._transports = list(transports)
        self.peer_id = str(host.get_id())
        self.table = ConnectionTable(self.peer_id)
        self._handlers: dict[str, Handler] = {}
        self._book = AddressBook()
        self._watchers: list[ConnectionWatcher] = []
        self._nursery: trio.Nursery | None = None
        self._throttle = Throttle(Rates(limits.upload_bytes_per_s, limits.download_bytes_per_s))
        self.own = OwnAddresses(self._transports)
        self.crowd = Crowd(limits.connections)
        admission = Admission(
            max_per_network=limits.handshakes_per_network,
            max_total=limits.handshakes,
            is_full=lambda: self.places.is_full,
        )
        self.places = Places(
            limits.total,
            limits.dials,
            connections=lambda: len(self.table),
            handshakes=lambda: admission.count,
        )
        self._dialer = Dialer(
            self._swarm.upgrade_outbound_raw_conn, self._transports, self.own.source_port, self.places.dial
        )
        self._dials = Dials(self._dialer, self.is_connected)
        self.door = Door(
            self._upgrade_inbound,
            admission,
            handshake_timeout_s=limits.handshake_timeout_s,
        )
        self._swarm.set_stream_handler(
            StreamDispatcher(
                self._handlers,
                host.get_mux().handlers,
                negotiation_timeout_s=limits.negotiation_timeout_s,
                max_streams_per_peer=limits.streams_per_peer,
            )
        )
        self._swarm.notify_connected = self._on_connected

    # Set-up and tear-down, called by `open_network` alone.
    async def bind(self, listen: Sequence[str]) -> list[trio.SocketListener]:
        """Bind every address, or none."""
        listeners: list[trio.SocketListener] = []
        try:
            for address in listen:
                listeners += await open_listeners(address)
        except BaseException:
            for listener in listeners:
                await trio.aclose_forcefully(listener)
            raise
        self.own.set_bound([bound_address(listener) for listener in listeners])
        return listeners

    def start(self, nursery: trio.Nursery) -> None:
        """Take the nursery in which connections are watched, and serve the custom transports."""
        self._nursery = nursery
        for transport in self._transports:
            nursery.start_soon(self._serve_transport, transport)

    async def shut_down(self) -> None:
        """Close every connection at once, then the host.

        libp2p 0.8.1 closes them one after the other, 0.2 s each, and leaves sockets open if nobody calls this.
        """
        with trio.CancelScope(shield=True), trio.move_on_after(2):
            async with trio.open_nursery() as closers:
                for connection in self.table.all():
                    closers.start_soon(connection.close)
            await self._host.close()

    def addresses(self) -> list[str]:
        """List the multiaddrs, ending in `/p2p/PEER`, at which other peers can reach this node."""
        return [f"{address}/p2p/{self.peer_id}" for address in self.own.all()]

    def set_knock_handler(self, handler: Callable[[str, bytes], bool]) -> None:
        """Judge dial-backs by `handler(peer_id, token)`; without one all are refused."""
        if isinstance(self._swarm.upgrader, Upgrader):
            self._swarm.upgrader.on_knock = handler

    async def knock(self, peer_id: str, address: str, token: bytes, *, timeout_s: float) -> bool:
        """Dial a peer anew and hand over a token of 16 bytes; True if it was there and had expected it."""
        async with self.places.dial():
            return await knock(self._swarm.upgrader, peer_id, address, token, timeout_s=timeout_s)

    def add_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Remember where a peer may be reached; newest first, at most 16 each for 4096 peers.

        Raises:
            AddressError: the peer id is malformed.
        """
        to_libp2p_id(peer_id)
        self._book.add(peer_id, addresses)

    def known_addresses(self, peer_id: str) -> list[str]:
        """List the addresses remembered for a peer, without its peer id."""
        return self._book.of(peer_id)

    def connections(self) -> list[ConnectionInfo]:
        """Describe every open connection."""
        return [connection.info() for connection in self.table.all()]

    def preferred(self, peer_id: str) -> ConnectionInfo | None:
        """Describe the connection that new streams to a peer take, None if there is none."""
        connection = self.table.preferred(peer_id)
        return connection.info() if connection is not None else None

    def is_connected(self, peer_id: str) -> bool:
        """Say whether a connection to the peer is open and takes new streams."""
        return self.table.is_connected(peer_id)

    def watch_connections(self, watcher: ConnectionWatcher) -> Callable[[], None]:
        """Call `watcher(peer_id, connected)` when a peer's first connection opens and its last one closes.

        Returns:
            A function that ends the watch.
        """
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def set_handler(self, protocol_id: str, handler: Handler) -> None:
        """Serve a protocol: `handler(stream)` runs for each stream that a peer opens for it.

        When the handler returns, the stream is closed; when it raises, that is logged once and the stream reset.
        """
        self._handlers[protocol_id] = handler
        # The host's table is what identify tells peers; the dispatcher looks into ours first.
        self._host.get_mux().add_handler(protocol_id, _unreachable)

    def remove_handler(self, protocol_id: str) -> None:
        """Stop serving a protocol; streams that are open go on."""
        self._handlers.pop(protocol_id, None)
        self._host.get_mux().remove_handler(protocol_id)

    async def connect(self, peer_id: str, addresses: Sequence[str] = (), *, timeout_s: float = 5.0) -> None:
        """Make sure that there is a connection to the peer.

        Args:
            peer_id: who must be at the other end.
            addresses: multiaddrs to try, before those remembered.
            timeout_s: for everything together.

        Raises:
            DialError: no address led to the peer.
        """
        self._note_addresses(peer_id, addresses)
        await self._dials.reach(peer_id, self.known_addresses(peer_id), timeout_s=timeout_s)
        self._swarm.unblock_peer(to_libp2p_id(peer_id))

    async def improve(self, peer_id: str, addresses: Sequence[str] = (), *, timeout_s: float = 5.0) -> None:
        """Open one more connection to the peer on a better path than the best one that there is.

        Streams that are open go on where they are; new ones take the better path, and the worse connection is
        closed when nothing uses it.

        Args:
            peer_id: who must be at the other end.
            addresses: multiaddrs to try, besides those remembered.
            timeout_s: for everything together.

        Raises:
            DialError: no address that promises a better path led to the peer.
        """
        self._note_addresses(peer_id, addresses)
        present = self.table.best_rank(peer_id)
        better = [item for item in self.known_addresses(peer_id) if rank_of_address(item) > present]
        await self._dials.reach(
            peer_id, better, timeout_s=timeout_s, is_done=lambda: self.table.best_rank(peer_id) > present
        )

    def _note_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        to_libp2p_id(peer_id)
        if peer_id == self.peer_id:
            raise DialError(peer_id, dict.fromkeys(addresses, "this is our own peer id"))
        if addresses:
            self.add_addresses(peer_id, addresses)

    async def open_stream(self, peer_id: str, protocol_id: str, *, timeout_s: float = 5.0) -> PeerStream:
        """Open a stream and agree on its protocol, dialling the peer's known addresses if need be.

        Raises:
            DialError: not connected, and no known address led to the peer.
            ProtocolNotSupportedError: the peer does not speak the protocol.
            StreamOpenError: the connection was lost, or no answer within `timeout_s`.
        """
        deadline = trio.current_time() + timeout_s
        if not self.is_connected(peer_id):
            await self.connect(peer_id, timeout_s=timeout_s)
        try:
            with trio.fail_at(deadline):
                return await self._open_stream(peer_id, protocol_id)
        except ProtocolNotSupportedError:
            raise
        except trio.TooSlowError as error:
            for connection in self.table.of(peer_id):
                connection.doubt()
            raise StreamOpenError(peer_id, protocol_id, "no answer in time") from error
        except (NegotiationError, YamuxError, BaseLibp2pError, trio.BrokenResourceError) as error:
            raise StreamOpenError(peer_id, protocol_id, str(error) or type(error).__name__) from error

    async def _open_stream(self, peer_id: str, protocol_id: str) -> PeerStream:
        stream = await self._preferred(peer_id, protocol_id).open_stream()
        try:
            await negotiate.propose(stream, protocol_id)
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        return stream

    async def disconnect(self, peer_id: str) -> None:
        """Close every connection to the peer; nothing happens if there is none."""
        async with trio.open_nursery() as closers:
            for connection in self.table.of(peer_id):
                closers.start_soon(connection.close)

    def set_rates(self, rates: Rates, peers: Mapping[str, Rates] | None = None) -> None:
        """Replace the limits on bytes per second, of all connections together and of single peers besides.

        The stock stack keeps none.
        """
        self._throttle.set(rates, peers)
        self._throttle.apply((connection.peer_id, connection.pipe) for connection in self.table.all())

    async def check_connections(self, *, timeout_s: float = 3.0) -> None:
        """Ask every connection now whether it lives, as after sleep, and close those that do not answer."""
        async with trio.open_nursery() as nursery:
            for connection in self.table.all():
                nursery.start_soon(partial(liveness.check, connection, timeout_s=timeout_s))

    async def ping(self, peer_id: str, *, timeout_s: float = 5.0) -> float:
        """Measure the round trip to a connected peer.

        Returns:
            Seconds.

        Raises:
            StreamOpenError: not connected, or no answer in time.
        """
        connection = self._preferred(peer_id, liveness.PROTOCOL_ID)
        rtt_s = await liveness.ping(connection, timeout_s=timeout_s)
        if rtt_s is None:
            connection.doubt()
            raise StreamOpenError(peer_id, liveness.PROTOCOL_ID, "no answer in time")
        connection.rtt_s = rtt_s
        return rtt_s

    def add_transport(self, transport: PipeTransport) -> None:
        """Dial and accept over one more kind of byte pipe from now on."""
        self._transports.append(transport)
        if self._nursery is not None:
            self._nursery.start_soon(self._serve_transport, transport)

    async def adopt(self, pipe: Pipe, peer_id: str, *, initiator: bool) -> None:
        """Upgrade a pipe that was opened by other means than a dial; the ends must have agreed who begins."""
        if not initiator:
            await self.door.accept(pipe)
            return
        try:
            with trio.fail_after(self._limits.handshake_timeout_s):
                await self._swarm.upgrade_outbound_raw_conn(RawConnection(pipe, True), to_libp2p_id(peer_id))
        except (BaseLibp2pError, NetError, trio.TooSlowError, trio.BrokenResourceError):
            await pipe.close()
        except BaseException:
            with trio.CancelScope(shield=True):
                await pipe.close()
            raise

    async def _serve_transport(self, transport: PipeTransport) -> None:
        async def accept(stream: trio.abc.Stream, address: str) -> None:
            await self.door.accept(Pipe(stream, address=address, path=transport.path))

        await transport.serve(accept)

    async def _upgrade_inbound(self, pipe: Pipe) -> object:
        return await self._swarm.upgrade_inbound_raw_conn(RawConnection(pipe, False), pipe.address)

    def _preferred(self, peer_id: str, protocol_id: str) -> Connection:
        connection = self.table.preferred(peer_id)
        if connection is None:
            raise StreamOpenError(peer_id, protocol_id, "not connected")
        return connection

    async def _on_connected(self, swarm_conn: Any) -> None:
        """Replace the swarm's notification: record and watch a connection that it has just registered."""
        await type(self._swarm).notify_connected(self._swarm, swarm_conn)
        connection = Connection(swarm_conn, self._clock())
        if self._nursery is None or connection.closed.is_set():
            return
        for other in self.table.of(connection.peer_id):
            # Who moves to another network comes anew, and nobody tells of the connections that this leaves dead.
            self._nursery.start_soon(partial(liveness.check, other, timeout_s=self._limits.ping_timeout_s))
        is_first = self.table.add(connection)
        self._throttle.apply([(connection.peer_id, connection.pipe)])
        self._nursery.start_soon(self._watch, connection)
        self.crowd.shed(self.table.all(), connection, self._nursery)
        self._dials.note_connected(connection.peer_id)
        if is_first:
            self._tell(connection.peer_id, True)

    async def _watch(self, connection: Connection) -> None:
        """Follow one connection to its end."""
        try:
            await liveness.watch(
                connection,
                interval_s=self._limits.ping_interval_s,
                timeout_s=self._limits.ping_timeout_s,
                is_redundant=lambda: self.table.preferred(connection.peer_id) is not connection,
                on_check=self.crowd.note_check,
            )
        finally:
            is_last = self.table.remove(connection)
            self.crowd.forget(connection)
            self.places.note_freed()
            if is_last:
                # Its store has no other bound, so that strangers with ever new identities would fill it.
                with suppress(PeerStoreError):
                    self._swarm.peerstore.clear_peerdata(connection.muxed_conn.peer_id)
                self._tell(connection.peer_id, False)

    def _tell(self, peer_id: str, connected: bool) -> None:
        for watcher in list(self._watchers):
            watcher(peer_id, connected)


async def _unreachable(_stream: object) -> None:
    """Stand in libp2p's table for a handler of ours, which the dispatcher finds before it."""
    raise AssertionError("the dispatcher serves this protocol")
