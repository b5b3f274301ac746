"""Reaching a peer over all its addresses at once, with a deadline.

Defects of libp2p 0.8.1 answered here: its swarm dials only the first address of each kind, so that a peer whose
first TCP address is dead cannot be reached and is then refused for 60 s; it waits a fixed 250 ms after each
successful start; and it gives a peer that accepts TCP and says nothing 120 s. We open the pipe ourselves, start
the next address when the one before has failed or had its head start, and hand the first pipe that connects to
the swarm's upgrade (Noise, then Yamux), which proves the identity.
"""

import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import trio
from libp2p.network.connection.raw_connection import RawConnection

from sovereign_node.net.addresses import family_of, is_tcp, parse_tcp, path_of_ip, split_peer_id
from sovereign_node.net.errors import AddressError, DialError
from sovereign_node.net.identity import to_libp2p_id
from sovereign_node.net.listener import share_port
from sovereign_node.net.paths import dial_order
from sovereign_node.net.pipes import Pipe
from sovereign_node.net.transports import PipeTransport

# How long an address may be tried alone before the next one starts as well (RFC 8305 recommends 250 ms).
HEAD_START_S = 0.2
# An announcement may list any number of addresses; dialling more of them serves only an attacker. Ways through a
# third party have places of their own, so that dead direct addresses cannot crowd them out.
MAX_DIRECT_ADDRESSES = 10
MAX_OTHER_ADDRESSES = 6

Upgrade = Callable[[RawConnection, Any], Awaitable[Any]]


async def open_tcp(address: str, source_port: int | None = None) -> Pipe:
    """Connect to a TCP multiaddr.

    Args:
        address: where to.
        source_port: local port to come from if that is possible, which needs an IP literal.

    Raises:
        AddressError: not a TCP address.
        OSError: refused, unreachable, or the name does not resolve.
    """
    tcp = parse_tcp(address)
    stream: trio.SocketStream | None = None
    if source_port is not None:
        try:
            stream = await connect_from(source_port, tcp.host, tcp.port)
        except OSError as error:
            # The port is not ours to share, or an old connection between the same ends is still being wound up.
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EINVAL):
                raise
    if stream is None:
        stream = await trio.open_tcp_stream(tcp.host, tcp.port)
    transport, _ = split_peer_id(address)
    return Pipe.over_tcp(stream, address=transport, path=path_of_ip(stream.socket.getpeername()[0]))


async def connect_from(source_port: int, host: str, port: int) -> trio.SocketStream:
    """Connect from a local port on which we listen as well.

    Args:
        source_port: local TCP port; our listener there shares it.
        host: IP literal.
        port: TCP port.

    Raises:
        OSError: refused, unreachable, or the local port cannot be shared.
    """
    sock = trio.socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        share_port(sock)
        await sock.bind(("::" if sock.family == socket.AF_INET6 else "0.0.0.0", source_port))  # noqa: S104
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


class Dialer:
    """Race the addresses of a peer.

    Args:
        upgrade: the swarm's upgrade of an outbound raw connection; returns its connection object.
        transports: custom byte pipes, asked in order for addresses that are not TCP.
        source_port: gives the local port from which a TCP address is to be dialled, None for any.
        place: held while a TCP connection is being made.
    """

    def __init__(
        self,
        upgrade: Upgrade,
        transports: Sequence[PipeTransport],
        source_port: Callable[[str], int | None] = lambda _address: None,
        place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self._place = place
        self._source_port = source_port
        self._upgrade = upgrade
        self._transports = transports

    async def dial(self, peer_id: str, addresses: Sequence[str], *, timeout_s: float) -> Any:
        """Return libp2p's connection object of the first address that leads to the peer.

        Raises:
            DialError: none did within `timeout_s`; holds the reason for each address.
        """
        race = _Race(self, peer_id)
        candidates = _in_order(addresses)
        with trio.move_on_after(timeout_s):
            await race.run(candidates)
        for extra in race.winners[1:]:
            await extra.close()
        if not race.winners:
            causes = {address: race.causes.get(address, "no answer in time") for address in candidates}
            raise DialError(peer_id, causes)
        return race.winners[0]

    async def attempt(self, peer_id: str, address: str) -> Any:
        """Connect and upgrade over one address."""
        async with self._place() if is_tcp(address) else nullcontext():
            return await self._attempt(peer_id, address)

    async def _attempt(self, peer_id: str, address: str) -> Any:
        pipe = await self._open(address, peer_id)
        try:
            return await self._upgrade(RawConnection(pipe, True), to_libp2p_id(peer_id))
        except BaseException:
            with trio.CancelScope(shield=True):
                await pipe.close()
            raise

    async def _open(self, address: str, peer_id: str) -> Pipe:
        if is_tcp(address):
            return await open_tcp(address, self._source_port(address))
        for transport in self._transports:
            if transport.can_dial(address):
                stream = await transport.dial(address, peer_id)
                return Pipe(stream, address=address, path=transport.path)
        raise AddressError(address, "no transport of this node dials it")


def _in_order(addresses: Sequence[str]) -> list[str]:
    """Sort so that ways through a third party start last: a direct one then wins whenever it works."""
    ordered = sorted(dict.fromkeys(split_peer_id(address)[0] for address in addresses), key=dial_order)
    direct = [address for address in ordered if is_tcp(address)]
    others = [address for address in ordered if not is_tcp(address)]
    return direct[:MAX_DIRECT_ADDRESSES] + others[:MAX_OTHER_ADDRESSES]


class _Race:
    """The attempts of one dial, started one after the other, first one wins."""

    def __init__(self, dialer: Dialer, peer_id: str) -> None:
        self._dialer = dialer
        self._peer_id = peer_id
        self.winners: list[Any] = []
        self.causes: dict[str, str] = {}

    async def run(self, addresses: Sequence[str]) -> None:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(self._attempt, address, failed, nursery.cancel_scope)
                with trio.move_on_after(HEAD_START_S):
                    await failed.wait()

    async def _attempt(self, address: str, failed: trio.Event, race: trio.CancelScope) -> None:
        try:
            connection = await self._dialer.attempt(self._peer_id, address)
        except Exception as error:  # noqa: BLE001 - libp2p raises what the remote's bytes make it raise
            self.causes[address] = str(error) or type(error).__name__
            failed.set()
            return
        self.winners.append(connection)
        race.cancel()
