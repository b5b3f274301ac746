"""Streams of our own Yamux connection, as trio sees them."""

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from sovereign_node.net.streams import PeerStream
from sovereign_protocols.yamux.errors import StreamFinishedError, StreamResetError
from sovereign_protocols.yamux.stream import RECEIVING_STATES, SENDING_STATES, Part, Stream, StreamState

if TYPE_CHECKING:
    from sovereign_node.net.yamux_connection import YamuxConnection

_RECEIVE_BYTES = 256 * 1024
# Large pieces that lie ready are handed out without a turn of the event loop in between, which would cost as much
# as decrypting a part of one; after this many bytes the other tasks get their turn.
_UNBROKEN_BYTES = 256 * 1024


class YamuxStream(PeerStream):
    """One stream of a `YamuxConnection`.

    What `send_all` is given is not copied: it returns when everything has been encrypted. If it is cancelled, the
    rest is not sent, and closing the stream then resets it, so that the peer cannot take the part for the whole.

    Attributes:
        core: the record in the core.
        connection: the connection that carries the stream.
        closed_at: trio time of `aclose`, infinite before.
    """

    def __init__(self, connection: "YamuxConnection", stream: Stream, peer_id: str) -> None:
        self.peer_id = peer_id
        self.core = stream
        self.connection = connection
        self.closed_at = math.inf
        self._closed = False
        self._torn = False
        self._sending = self._receiving = False
        self._sent = False
        self._unbroken_bytes = 0
        self._send_wake: trio.Event | None = None
        self._receive_wake: trio.Event | None = None

    # Called by the connection.

    def on_readable(self) -> None:
        """Wake the reader: bytes, the end, or a failure arrived."""
        if self._receive_wake is not None:
            self._receive_wake.set()

    def on_drained(self) -> None:
        """Wake the writer: everything that it gave is encrypted."""
        self._sent = True
        self.wake_writer()

    def wake_writer(self) -> None:
        """Make the writer look at the state of the stream."""
        if self._send_wake is not None:
            self._send_wake.set()

    # Sending.

    async def send_all(self, data: Part) -> None:
        """Send everything; waits while the peer's window is full."""
        await self.send_parts((data,))

    async def send_parts(self, parts: Sequence[Part]) -> None:
        """Send several buffers as if joined, without joining them."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check_can_send()
        if not any(map(len, parts)):
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_can_send()
        self._sending, self._sent = True, False
        try:
            self.connection.yamux.send(self.core, parts)
            self.connection.flush()
            await self._wait_sent()
        finally:
            self._sending = False

    async def _wait_sent(self) -> None:
        if self._sent:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._send_wake = trio.Event()
        try:
            await self._send_wake.wait()
        except trio.Cancelled:
            if self.connection.yamux.withdraw(self.core):
                self._torn = True
            raise
        finally:
            self._send_wake = None
        if not self._sent:
            self._check_can_send()

    def _check_can_send(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self.core.state is StreamState.RESET:
            raise trio.BrokenResourceError("stream was reset or its connection was lost")
        if self.core.state not in SENDING_STATES:
            raise trio.ClosedResourceError("stream is closed for sending")

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: `send_all` waits by itself."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check_can_send()
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; the other direction stays open."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        await trio.lowlevel.checkpoint()
        try:
            self.connection.yamux.finish(self.core)
        except (StreamResetError, StreamFinishedError) as error:
            raise trio.BrokenResourceError("stream was reset or its connection was lost") from error
        self.connection.flush()

    # Receiving.

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, at most `max_bytes`, or `b""` at the peer's end."""
        if max_bytes is None:
            max_bytes = _RECEIVE_BYTES
        elif operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if not await self._wait_readable():
            return b""
        data = self.connection.yamux.read(self.core, max_bytes, trio.current_time())
        self._unbroken_bytes += len(data)
        self.connection.flush()
        return data

    def receive_nowait(self, max_bytes: int) -> bytes:
        """Return what lies ready, at most `max_bytes` of it; nothing if there is nothing now."""
        if self._closed or self._receiving or not self.core.received.size_bytes:
            return b""
        data = self.connection.yamux.read(self.core, max_bytes, trio.current_time())
        self.connection.flush()
        return data

    async def receive_into(self, target: memoryview) -> int:
        """Fill the start of `target` with what is there.

        Args:
            target: at least one writable byte.

        Returns:
            Bytes filled; 0 at the peer's end.
        """
        if not await self._wait_readable():
            return 0
        count = self.connection.yamux.read_into(self.core, target, trio.current_time())
        self._unbroken_bytes += count
        self.connection.flush()
        return count

    async def _wait_readable(self) -> bool:
        """Wait for bytes; gives False at the peer's end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        self._receiving = True
        try:
            if self.core.received.is_bulk and self._unbroken_bytes < _UNBROKEN_BYTES:
                await trio.lowlevel.checkpoint_if_cancelled()
            elif self.core.received.size_bytes or self.core.state not in RECEIVING_STATES:
                self._unbroken_bytes = 0
                await trio.lowlevel.checkpoint()
            else:
                self._unbroken_bytes = 0
                self._receive_wake = trio.Event()
                await self._receive_wake.wait()
        finally:
            self._receiving = False
            self._receive_wake = None
        if self._closed:
            raise trio.ClosedResourceError("stream was closed")
        if self.core.received.size_bytes:
            return True
        if self.core.peer_finished:
            return False
        raise trio.BrokenResourceError("stream was reset or its connection was lost")

    # The end.

    async def aclose(self) -> None:
        """End both directions; the peer still gets everything that was sent before."""
        if not self._closed:
            if self._sending or self._torn:
                self._reset()
            else:
                self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._closed = True
        self.closed_at = trio.current_time()
        if self.core.state in SENDING_STATES:
            self.connection.yamux.finish(self.core)
        self.connection.yamux.abandon(self.core)
        self._wake_all()

    async def reset(self) -> None:
        """Give up both directions at once; the peer sees a broken stream."""
        self._reset()
        await trio.lowlevel.checkpoint()

    def _reset(self) -> None:
        self._closed = True
        self.connection.yamux.reset(self.core)
        self._wake_all()

    def _wake_all(self) -> None:
        self.on_readable()
        self.wake_writer()
        self.connection.flush()
        self.connection.note_ended(self)
