"""Streams between two peers, as trio sees them."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio
from libp2p.io.exceptions import IOException
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamEOF, MuxedStreamError

# Largest write for which stock Yamux and Noise make one message each: one byte more costs a second message
# of 17 bytes, with its own encryption, lock and system call.
STOCK_WRITE_BYTES = 65507
_STOCK_READ_BYTES = 65536
_STOCK_MAX_READ_BYTES = 1024 * 1024
_STOCK_CREDIT_POLL_S = 0.01
_STOCK_GOODBYE_S = 1.0


class PeerStream(trio.abc.HalfCloseableStream):
    """One bidirectional byte stream to an authenticated peer.

    A clean end (`send_eof` by the peer) gives `b""`; a reset, a lost connection or a peer that died raises
    `trio.BrokenResourceError`. Neither proves that a message is whole: protocols carry lengths of their own.

    Attributes:
        peer_id: base58 text of the peer at the other end; proven by the handshake.
        protocol_id: what the two sides agreed to speak, empty until they did.
        path: kind of way that its connection takes, as in `ConnectionInfo`; empty on streams that the peer opened.
    """

    peer_id: str
    protocol_id: str = ""
    path: str = ""

    @abstractmethod
    async def reset(self) -> None:
        """Give up both directions at once; the peer sees a broken stream, not an end."""


class Receives(Protocol):
    """The receiving half of any stream."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return 1..max_bytes bytes, or nothing at the end."""
        ...


async def receive_exactly(stream: Receives, count: int) -> bytes:
    """Read `count` bytes and not one more.

    Raises:
        trio.BrokenResourceError: the stream ended before.
    """
    data = bytearray()
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise trio.BrokenResourceError("stream ended within a message")
        data += piece
    return bytes(data)


class StockStream(PeerStream):
    """A stream of libp2p's own muxer.

    Defects of libp2p 0.8.1 answered here: a writer that finds the window closed for five seconds breaks its stream,
    so we wait for credit ourselves; a write that is cancelled leaves half a record on the wire and the connection
    is lost, so a piece that has credit is written under a shield; a bare `read()` does not return while the other
    side keeps writing, so reads always have a bound; and a reset looks like an end.

    Args:
        muxed: libp2p's muxed stream; owned from now on.
        peer_id: base58 text of the authenticated peer.
    """

    def __init__(self, muxed: Any, peer_id: str) -> None:
        self._muxed = muxed
        self.peer_id = peer_id
        self._closed = False
        self._eof_sent = False
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, waiting while the peer's window is full."""
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            credit = await self._wait_credit()
            size = min(credit, STOCK_WRITE_BYTES, len(view))
            await self._write(bytes(view[:size]))
            view = view[size:]

    async def _wait_credit(self) -> int:
        """Look for credit until there is some; the stock muxer has no event for it."""
        while True:
            self._check_can_send()
            if self._muxed.reset_received or self._muxed.conn.event_shutting_down.is_set():
                raise trio.BrokenResourceError("stream was reset or its connection was lost")
            if self._muxed.send_window > 0:
                return int(self._muxed.send_window)
            await trio.sleep(_STOCK_CREDIT_POLL_S)

    def _check_can_send(self) -> None:
        if self._closed or self._eof_sent:
            raise trio.ClosedResourceError("stream is closed for sending")

    async def _write(self, piece: bytes) -> None:
        try:
            with trio.CancelScope(shield=True):
                await self._muxed.write(piece)
        except (MuxedStreamError, MuxedConnError, IOException) as error:
            self._check_can_send()
            raise trio.BrokenResourceError(f"cannot send: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: `send_all` waits by itself."""
        self._check_can_send()
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; the other direction stays open."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if not self._eof_sent:
            self._eof_sent = True
            await self._muxed.close()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, at most `max_bytes`, or `b""` at the peer's end."""
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self._ended:
            await trio.lowlevel.checkpoint()
            return b""
        try:
            data = await self._muxed.read(min(max_bytes or _STOCK_READ_BYTES, _STOCK_MAX_READ_BYTES))
        except MuxedStreamEOF as error:
            if self._closed:
                raise trio.ClosedResourceError("stream was closed") from error
            if self._muxed.reset_received or self._muxed.conn.event_shutting_down.is_set():
                raise trio.BrokenResourceError("stream was reset or its connection was lost") from error
            self._ended = True
            return b""
        except (MuxedStreamError, MuxedConnError, IOException) as error:
            raise trio.BrokenResourceError(f"cannot receive: {error}") from error
        return bytes(data)

    async def aclose(self) -> None:
        """End both directions; the peer still gets everything that was sent before."""
        if not self._closed:
            await self._end(self._muxed.close)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Give up both directions at once."""
        await self._end(self._muxed.reset)
        await trio.lowlevel.checkpoint()

    async def _end(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        self._closed = True
        with trio.CancelScope(shield=True), trio.move_on_after(_STOCK_GOODBYE_S):
            try:
                await goodbye()
            except (MuxedStreamError, MuxedConnError, IOException):
                return  # The connection is gone, and the stream with it.
