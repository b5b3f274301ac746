"""Byte pipes below the encryption: what libp2p calls a raw connection.

`Pipe` gives any trio stream the face that libp2p's handshakes expect and counts what crosses it. It keeps the
remote address itself, because libp2p 0.8.1 throws IPv6 peer names away (they have four fields, it wants two),
which makes its address filters and per-address limits blind there.
"""

import socket

import trio
from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from multiaddr import Multiaddr

from sovereign_node.net.pace import JointPace, Pace
from sovereign_node.net.paths import is_immediate

# Paths without a third party between the peers.

# What the kernel may hold and not have put on the wire. trio's default of 16 KiB wakes the sender for every part of
# a batch, which costs most of the throughput of a fast link; on a slow one, more only delays what comes behind.
_UNSENT_BYTES_LAN = 512 * 1024
_UNSENT_BYTES = 128 * 1024

# A handshake message is at most 65537 bytes; larger reads would only waste memory before the session starts.
_READ_BYTES = 65536


class Pipe(ReadWriteCloser):  # type: ignore[misc]
    """One byte stream to a peer that is not yet authenticated.

    Args:
        stream: what carries the bytes; owned from now on.
        address: multiaddr text of the other end, without a peer id.
        path: kind of way the bytes take ("direct", "lan", "relayed", ...).
        remote: IP address and port of the other end, if it has one.
        local_port: TCP port of this end, if it has one.

    Attributes:
        upload: limit on bytes per second sent, None for none; not kept during the handshake.
        download: the same for bytes received.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        address: str,
        path: str,
        remote: tuple[str, int] | None = None,
        local_port: int | None = None,
    ) -> None:
        self.stream = stream
        self.address = address
        self.path = path
        self.remote = remote
        self.local_port = local_port
        self.upload: Pace | JointPace | None = None
        self.download: Pace | JointPace | None = None
        self.bytes_received = 0
        self.bytes_sent = 0

    @classmethod
    def over_tcp(cls, stream: trio.SocketStream, *, address: str, path: str) -> "Pipe":
        """Wrap a connected socket, and let whole batches of records into it.

        Raises:
            OSError: the other end is gone already.
        """
        name = stream.socket.getpeername()
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            unsent = _UNSENT_BYTES_LAN if path == "lan" else _UNSENT_BYTES
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
        return cls(
            stream,
            address=address,
            path=path,
            remote=(str(name[0]), int(name[1])),
            local_port=int(stream.socket.getsockname()[1]),
        )

    async def read(self, n: int | None = None) -> bytes:
        """Return 1..n bytes, or nothing at the end."""
        try:
            data = await self.stream.receive_some(_READ_BYTES if n is None else n)
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(f"connection lost: {error}") from error
        except trio.ClosedResourceError:
            return b""
        self.bytes_received += len(data)
        return bytes(data)

    async def write(self, data: bytes) -> None:
        """Send everything."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(f"connection lost: {error}") from error
        self.bytes_sent += len(data)

    async def close(self) -> None:
        """Close at once; there is nothing to flush below the muxer's own goodbye."""
        await trio.aclose_forcefully(self.stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP and port of the other end, for either IP version."""
        return self.remote

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The other end as multiaddr, if this kind of pipe has one that libp2p can parse."""
        return [Multiaddr(self.address)] if self.remote is not None else []

    def get_connection_type(self) -> ConnectionType:
        """Whether the bytes go to the peer without a third party between."""
        return ConnectionType.DIRECT if is_immediate(self.path) else ConnectionType.RELAYED
