"""Listening for TCP, and who gets through the door.

Defects of libp2p 0.8.1 answered here: it never gives inbound slots back (250 inbound connections in the life of a
process, then none) and leaks a task for each; it listens with SO_REUSEPORT, so that a second node on the same port
silently steals half of the connections; it reports neither a taken port nor an address that it does not
understand; and its per-address limits do not see IPv6. Our listener does without SO_REUSEPORT, raises, and counts.
"""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
import trio

from sovereign_node.net.addresses import from_socket_name, parse_tcp, path_of_ip
from sovereign_node.net.errors import ListenError
from sovereign_node.net.pipes import Pipe

_log = structlog.get_logger(__name__)

_BACKLOG = 256

# Out of descriptors or memory: others may be released soon, and giving up would close the door for good.
_PASSING_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE_S = 0.1

# What a handshake may take before a newcomer gets its slot; on loopback it takes 10 ms, across the world 500 ms.
_HANDSHAKE_S = 0.5


async def open_listeners(address: str) -> list[trio.SocketListener]:
    """Bind a TCP multiaddr with an IP literal; port 0 takes a free port.

    Raises:
        ListenError: the port is taken, or the address is not one of this machine.
        AddressError: not a TCP address.
    """
    tcp = parse_tcp(address)
    try:
        ipaddress.ip_address(tcp.host)
    except ValueError as error:
        raise ListenError(address, "listening needs an IP address, not a name") from error
    try:
        listeners = list(await trio.open_tcp_listeners(tcp.port, host=tcp.host, backlog=_BACKLOG))
    except OSError as error:
        raise ListenError(address, error.strerror or str(error)) from error
    for listener in listeners:
        share_port(listener.socket)
    return listeners


def share_port(sock: trio.socket.SocketType) -> None:
    """Let sockets of ours dial from the port of a listener of ours.

    A router then opens one hole for both, so that others know where to knock when holes are punched. On a listener
    it is set after binding: a second node that wants the port is still refused, because it does not share.
    """
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def bound_address(listener: trio.SocketListener) -> str:
    """Multiaddr of a listener, with the port that it really has."""
    return from_socket_name(listener.socket.getsockname())


class Admission:
    """Count the handshakes under way, so that strangers cannot take every slot.

    Whoever comes when all slots are taken gets the one of the handshake that is under way for longest, unless even
    that one has only begun: a good one takes a fraction of a second, so strangers that stall lose theirs and do not
    keep others out by waiting, while those of a burst do not push each other out. Visitors from a network with
    fewer handshakes come before a crowd in any case.

    Args:
        max_per_network: unauthenticated connections per IPv4 /24 or IPv6 /56 at a time.
        max_total: unauthenticated connections at a time.
        is_full: whether the node has no place left for anybody else.
    """

    def __init__(
        self, *, max_per_network: int, max_total: int, is_full: Callable[[], bool] = lambda: False
    ) -> None:
        self._is_full = is_full
        self._max_per_network = max_per_network
        self._max_total = max_total
        # When each began; the oldest first, in each network and among networks.
        self._open: dict[str, dict[trio.CancelScope, float]] = {}

    @property
    def count(self) -> int:
        """How many handshakes are under way."""
        return sum(map(len, self._open.values()))

    @contextmanager
    def slot(self, host: str | None) -> Iterator[bool]:
        """Hold a slot for the time of a handshake; gives False when there is none.

        The block is cancelled when a newcomer takes the slot.
        """
        network = neighbourhood(host)
        if not self._make_room(network):
            yield False
            return
        with trio.CancelScope() as scope:
            self._open.setdefault(network, {})[scope] = trio.current_time()
            try:
                yield True
            finally:
                self._release(network, scope)

    def _make_room(self, network: str) -> bool:
        own = len(self._open.get(network, ()))
        if own < self._max_per_network and self.count < self._max_total and not self._is_full():
            return True
        if not self._open:
            return False
        crowded = network
        if own < self._max_per_network:
            crowded = max(self._open, key=lambda name: len(self._open[name]))
        oldest, began_at = next(iter(self._open[crowded].items()))
        if len(self._open[crowded]) <= own + 1 and trio.current_time() - began_at < _HANDSHAKE_S:
            return False
        oldest.cancel()
        self._release(crowded, oldest)
        return True

    def _release(self, network: str, scope: trio.CancelScope) -> None:
        group = self._open.get(network, {})
        group.pop(scope, None)
        if not group:
            self._open.pop(network, None)


def neighbourhood(host: str | None) -> str:
    """Name the network that shares one limit; pipes without an address share one as well.

    Args:
        host: IP address.
    """
    if host is None:
        return "pipe"
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 56), strict=False))


class Door:
    """Take inbound pipes through admission and upgrade.

    Args:
        upgrade: upgrades an inbound pipe to a registered connection, or raises.
        admission: who may try.
        handshake_timeout_s: how long a stranger may take to become a peer.

    Attributes:
        expected: what takes a connection from a TCP multiaddr instead, while holes are punched.
    """

    def __init__(
        self, upgrade: Callable[[Pipe], Awaitable[object]], admission: Admission, *, handshake_timeout_s: float
    ) -> None:
        self.expected: dict[str, Callable[[Pipe], Awaitable[None]]] = {}
        self._upgrade = upgrade
        self._admission = admission
        self._handshake_timeout_s = handshake_timeout_s

    async def accept_tcp(self, stream: trio.SocketStream) -> None:
        """Serve one accepted socket."""
        try:
            name = stream.socket.getpeername()
            pipe = Pipe.over_tcp(stream, address=from_socket_name(name), path=path_of_ip(name[0]))
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        await self.expected.get(pipe.address, self.accept)(pipe)

    async def accept(self, pipe: Pipe) -> None:
        """Upgrade one pipe, or close it; never raises, except for cancellation."""
        with self._admission.slot(pipe.remote[0] if pipe.remote else None) as admitted:
            if not admitted:
                await pipe.close()
                return
            try:
                with trio.fail_after(self._handshake_timeout_s):
                    await self._upgrade(pipe)
            except Exception as error:  # noqa: BLE001 - the supervisor of the handshake; a stranger's bytes raise anything
                _log.debug("inbound_connection_refused", address=pipe.address, reason=repr(error)[:200])
                await pipe.close()
            except BaseException:
                with trio.CancelScope(shield=True):
                    await pipe.close()
                raise


async def serve_tcp(listener: trio.SocketListener, door: Door, nursery: trio.Nursery) -> None:
    """Accept sockets until cancelled, each handshake in a task of `nursery`.

    trio's own `serve_listeners` closes a socket when its handler returns; ours outlive the handshake.
    """
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in _PASSING_ERRNOS:
                raise
            _log.error("accept_failed", reason=str(error))
            await trio.sleep(_PAUSE_S)
            continue
        nursery.start_soon(door.accept_tcp, stream)
