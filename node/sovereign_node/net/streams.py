"""Streams between two peers, as trio sees them."""

from abc import abstractmethod
from typing import Protocol

import trio
from libp2p.io.exceptions import IOException
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamEOF, MuxedStreamError

# Largest write for which stock Yamux and Noise make one message each: one byte more costs a second message
# of 17 bytes, with its own encryption, lock and system call.
STOCK_WRITE_BYTES = 65507
_STOCK_READ_BYTES = 65536


class PeerStream(trio.abc.HalfCloseableStream):
    """One bidirectional byte stream to an authenticated peer.

    A clean end (`send_eof` by the peer) gives `b""`; a reset, a lost connection or a peer that died raises
    `trio.BrokenResourceError`. Neither proves that a message is whole: protocols carry lengths of their own.

    Attributes:
        peer_id: base58 text of the peer at the other end; proven by the handshake.
        protocol_id: what the two sides agreed to speak, empty until they did.
    """

    peer_id: str
    protocol_id: str = ""

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

    Writes are cut into pieces of 65507 bytes and reads always have a bound: a bare `read()` of a stock stream
    does not return while the other side keeps writing.

    Args:
        muxed: libp2p's muxed stream; owned from now on.
        peer_id: base58 text of the authenticated peer.
    """

    def __init__(self, muxed: object, peer_id: str) -> None:
        self._muxed = muxed
        self.peer_id = peer_id
        self._closed = False
        self._reset = False
        self._eof_sent = False
        self._ended = False
        self._send_guard = trio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, waiting while the peer's window is full."""
        if self._closed or self._eof_sent:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("stream is closed for sending")
        await trio.lowlevel.checkpoint()
        with memoryview(data) as view:
            for start in range(0, len(view), STOCK_WRITE_BYTES):
                await self._write(bytes(view[start : start + STOCK_WRITE_BYTES]))

    async def _write(self, piece: bytes) -> None:
        try:
            await self._muxed.write(piece)  # type: ignore[attr-defined]
        except (MuxedStreamError, MuxedConnError, IOException) as error:
            if self._closed:
                raise trio.ClosedResourceError("stream was closed") from error
            raise trio.BrokenResourceError(f"cannot send: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: the stock muxer does not tell when its window opens."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; the other direction stays open."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if not self._eof_sent:
            self._eof_sent = True
            await self._muxed.close()  # type: ignore[attr-defined]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, at most `max_bytes`, or `b""` at the peer's end."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("stream was closed")
        if self._ended:
            return b""
        try:
            data = await self._muxed.read(min(max_bytes or _STOCK_READ_BYTES, 1 << 20))  # type: ignore[attr-defined]
        except MuxedStreamEOF:
            self._ended = True
            return b""
        except (MuxedStreamError, MuxedConnError, IOException) as error:
            raise trio.BrokenResourceError(f"cannot receive: {error}") from error
        return bytes(data)

    async def aclose(self) -> None:
        """End both directions; a stream with unread data is reset, so that the peer stops sending."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            if self._ended or self._reset:
                await self._muxed.close()  # type: ignore[attr-defined]
            else:
                await self._close_unread()
        await trio.lowlevel.checkpoint()

    async def _close_unread(self) -> None:
        """Send our end, then free the slot that stock Yamux keeps until both directions are closed."""
        await self._muxed.close()  # type: ignore[attr-defined]

    async def reset(self) -> None:
        """Give up both directions at once."""
        self._closed = self._reset = True
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await self._muxed.reset()  # type: ignore[attr-defined]
        await trio.lowlevel.checkpoint()
