"""One authenticated connection to a peer, whatever the stack below it."""

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_node.net.muxers import peer_stream_of
from sovereign_node.net.pipes import Pipe
from sovereign_node.net.streams import PeerStream
from sovereign_node.net.yamux_connection import YamuxConnection


@dataclass(frozen=True)
class ConnectionInfo:
    """A snapshot of one connection.

    Attributes:
        peer_id: base58 text of the authenticated peer.
        address: multiaddr of the other end, without the peer id.
        inbound: whether the peer dialled us.
        opened_at: Unix seconds.
        rtt_s: last measured round trip, None before the first.
        bytes_received: bytes that came in over the pipe, encryption included.
        bytes_sent: bytes that went out over the pipe, encryption included.
        path: kind of way the bytes take: "lan", "direct", "hole-punched", "relayed", "nats".
        remote: IP address and port of the other end, None if there is a third party between.
        local_port: our own TCP port, None if there is a third party between.
    """

    peer_id: str
    address: str
    inbound: bool
    opened_at: int
    rtt_s: float | None
    bytes_received: int
    bytes_sent: int
    path: str
    remote: tuple[str, int] | None = None
    local_port: int | None = None


class Connection:
    """A connection that libp2p's swarm has registered.

    Args:
        swarm_conn: libp2p's object for it.
        opened_at: Unix seconds.
    """

    def __init__(self, swarm_conn: Any, opened_at: int) -> None:
        self.swarm_conn = swarm_conn
        self.muxed_conn = swarm_conn.muxed_conn
        self.pipe: Pipe = self.muxed_conn.secured_conn.pipe
        self.peer_id = str(self.muxed_conn.peer_id)
        self.inbound = not self.muxed_conn.is_initiator
        self.opened_at = opened_at
        self.rtt_s: float | None = None
        self.silence: trio.CancelScope | None = None

    def doubt(self) -> None:
        """Look now whether the peer still answers, for somebody who has waited in vain."""
        if self.silence is not None:
            self.silence.cancel()

    @property
    def closed(self) -> trio.Event:
        """Set as soon as the connection cannot carry new streams."""
        event: trio.Event = self.swarm_conn.event_closed
        return event

    def info(self) -> ConnectionInfo:
        """Describe the connection as it is now."""
        return ConnectionInfo(
            peer_id=self.peer_id,
            address=self.pipe.address,
            inbound=self.inbound,
            opened_at=self.opened_at,
            rtt_s=self.rtt_s,
            bytes_received=self.pipe.bytes_received,
            bytes_sent=self.pipe.bytes_sent,
            path=self.pipe.path,
            remote=self.pipe.remote,
            local_port=self.pipe.local_port,
        )

    async def open_stream(self) -> PeerStream:
        """Open a stream on which nothing is negotiated yet.

        Raises:
            YamuxError: the connection is closing, or too many streams are open.
            BaseLibp2pError: the same from libp2p's own muxer.
        """
        stream: PeerStream
        if isinstance(self.muxed_conn, YamuxConnection):
            stream = self.muxed_conn.open_peer_stream()
        else:
            stream = peer_stream_of(await self.muxed_conn.open_stream(), self.peer_id)
        stream.path = self.pipe.path
        return stream

    @property
    def is_usable(self) -> bool:
        """Whether new streams can be opened; not so after a goodbye from either side."""
        return not self.closed.is_set() and bool(self.muxed_conn.is_established)

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open, as far as the stack tells."""
        if isinstance(self.muxed_conn, YamuxConnection):
            return not self.muxed_conn.open_streams
        return not self.muxed_conn.streams

    def sweep(self, linger_s: float) -> None:
        """Free the places of streams that we closed `linger_s` ago and the peer left open."""
        if isinstance(self.muxed_conn, YamuxConnection):
            self.muxed_conn.sweep(linger_s)

    async def close(self) -> None:
        """Say goodbye and close the pipe; idempotent."""
        await self.swarm_conn.close()
