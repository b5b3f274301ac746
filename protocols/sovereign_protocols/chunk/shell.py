"""Moves bytes between a stream and one end of the chunk protocol; the shells of both ends stand on this."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.endpoint import Buffer, Endpoint
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteProtocolError

RECEIVE_BYTES: Final = 256 * 1024
# What is taken in one turn of the event loop.
_TURN_BYTES: Final = 1024 * 1024


class Wire:
    """A stream with the core that speaks on it.

    Args:
        stream: to the peer; owned by the caller.
        core: the state machine of this end.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, core: Endpoint) -> None:
        self._stream = stream
        self._core = core
        self._something_to_send = trio.Event()
        self._sent = trio.Event()
        self._is_sending = False
        # Streams of ours hand out what lies ready without another wait, and take several buffers at once.
        self._receive_nowait: Callable[[int], bytes] | None = getattr(stream, "receive_nowait", None)
        self._send_parts: Callable[[list[Buffer]], Awaitable[None]] | None = getattr(stream, "send_parts", None)

    def flush_soon(self) -> None:
        """Wake the writer, after something was queued in the core."""
        self._something_to_send.set()

    async def wait_outgoing_below(self, size_bytes: int) -> None:
        """Wait until at most `size_bytes` are queued."""
        while self._core.outgoing_bytes > size_bytes:
            self._sent = trio.Event()
            await self._sent.wait()

    async def receive(self) -> None:
        """Feed the core with what comes next, until there is more than a part of a payload.

        Raises:
            ConnectionLostError: the stream ended.
            RemoteProtocolError: the peer was too slow, or broke the protocol.
        """
        while True:
            # The core's deadline can come nearer while we wait, when the last request is answered.
            patience = min(self._core.deadline, trio.current_time() + limits.IDLE_TIMEOUT_S)
            # One scope for all of a payload, whose deadline does not move: a scope costs as much as taking a piece.
            with trio.move_on_at(patience) as scope:
                while not await self._receive_turn():
                    pass
            if not scope.cancelled_caught:
                return
            if trio.current_time() >= self._core.deadline:
                raise RemoteProtocolError(ErrorCode.TIMEOUT, "the peer is too slow")

    async def _receive_turn(self) -> bool:
        """Feed the core for one turn of the event loop; tell whether there is more than a part of a payload."""
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLostError("the stream broke") from error
        if not data:
            raise ConnectionLostError("the stream ended")
        now = trio.current_time()
        has_news = self._core.receive_data(bytes(data), now)
        if self._receive_nowait is not None:
            taken = len(data)
            while taken < _TURN_BYTES and (data := self._receive_nowait(RECEIVE_BYTES)):
                has_news |= self._core.receive_data(data, now)
                taken += len(data)
        return has_news

    async def flush(self) -> None:
        """Send all that is queued.

        Raises:
            ConnectionLostError: the stream broke.
            RemoteProtocolError: the peer takes it too slowly.
        """
        if self._send_parts is not None:
            for parts in self._core.parts_to_send():
                await self._send(self._send_parts, parts, sum(map(len, parts)))
        else:
            for piece in self._core.data_to_send():
                await self._send(self._stream.send_all, piece, len(piece))

    async def _send(self, send: Callable[[Any], Awaitable[None]], what: Any, size_bytes: int) -> None:
        # What is being sent is queued no more.
        self._sent.set()
        allowed_s = limits.FRAME_GRACE_S + size_bytes / limits.MIN_RATE_BYTES_PER_S
        with trio.move_on_after(allowed_s) as scope:
            self._is_sending = True
            try:
                await send(what)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLostError("the stream broke") from error
            self._is_sending = False
        if scope.cancelled_caught:
            raise RemoteProtocolError(ErrorCode.TIMEOUT, "the peer reads too slowly")

    async def write(self) -> None:
        """Send what is queued, again and again, until cancelled or the stream breaks."""
        while True:
            await self._something_to_send.wait()
            self._something_to_send = trio.Event()
            await self.flush()

    async def say_last_words(self) -> None:
        """Try for two seconds to send what is queued; pointless after a frame that was cut off."""
        if not self._is_sending:
            with trio.move_on_after(2) as scope:
                scope.shield = True
                try:
                    await self.flush()
                except (ConnectionLostError, RemoteProtocolError):
                    return
