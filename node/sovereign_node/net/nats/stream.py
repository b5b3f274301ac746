"""A tunnel through a relay as a trio stream, below the encryption.

What waits for the reader is bounded by the window that the tunnel grants; what waits to be sent by the queue of
the connection. Nothing here is trusted: whoever can publish to the inbox can break the stream, but not more, since
Noise runs on top.
"""

import operator
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from sovereign_node.net.nats.connection import NatsConnection
from sovereign_node.net.nats.errors import RelayError
from sovereign_protocols.relay.nats_wire import NO_RESPONDERS, Message
from sovereign_protocols.relay.tunnel import (
    CloseReceived,
    CreditReceived,
    DataReceived,
    EndReceived,
    ReplyDue,
    Tunnel,
    TunnelError,
    TunnelEvent,
    TunnelState,
)
from sovereign_protocols.relay.tunnel_frames import CloseCode

MAX_TUNNEL_WINDOW_BYTES = 8 * 1024 * 1024
# A server drops a client for which 64 MiB wait; all windows of a connection together stay below.
WINDOW_BUDGET_BYTES = 32 * 1024 * 1024
_JOIN_BELOW_BYTES = 4096
_RECEIVE_BYTES = 256 * 1024


class WindowBudget:
    """How far the windows of one connection's tunnels may grow together.

    Args:
        size_bytes: beyond the initial windows.
    """

    def __init__(self, size_bytes: int = WINDOW_BUDGET_BYTES) -> None:
        self._free_bytes = size_bytes

    def take(self, count: int) -> bool:
        """Take `count` bytes if they are free."""
        if count > self._free_bytes:
            return False
        self._free_bytes -= count
        return True

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self._free_bytes += count


class TunnelStream(trio.abc.HalfCloseableStream):
    """One side of an open tunnel.

    Args:
        connection: carries the frames.
        tunnel: state of this side.
        own_inbox: subject on which we receive.
        peer_inbox: subject on which the peer receives.
        budget: shared by the tunnels of the connection.
        on_closed: called once when the stream is closed or broken.
    """

    def __init__(
        self,
        connection: NatsConnection,
        tunnel: Tunnel,
        *,
        own_inbox: str,
        peer_inbox: str,
        budget: WindowBudget,
        on_closed: Callable[["TunnelStream"], None],
    ) -> None:
        self._connection = connection
        self._tunnel = tunnel
        self._own_inbox = own_inbox
        self._peer_inbox = peer_inbox
        self._budget = budget
        self._borrowed_bytes = 0
        self._on_closed = on_closed
        self._pieces: deque[memoryview | bytearray] = deque()
        self._arrival = trio.lowlevel.ParkingLot()
        self._credit = trio.lowlevel.ParkingLot()
        self._closed = self._released = False
        self._broken = ""
        self._peer_done = False
        self._sending = self._receiving = False

    # Frames from the relay; called by the connection's reader, never blocks.

    def on_message(self, message: Message) -> None:
        """Take one message of our inbox."""
        if self._released:
            return
        if message.status == NO_RESPONDERS:
            self.on_lost("the peer has left the relay")
            return
        try:
            event = self._tunnel.receive_frame(message.payload, trio.current_time())
        except TunnelError as error:
            self._abort(error)
            return
        if event is not None:
            self._handle(event)

    def _handle(self, event: TunnelEvent) -> None:
        if isinstance(event, DataReceived):
            self._keep(event.data)
            self._arrival.unpark_all()
        elif isinstance(event, CreditReceived):
            self._credit.unpark_all()
        elif isinstance(event, EndReceived):
            self._arrival.unpark_all()
        elif isinstance(event, ReplyDue):
            self._send_control(event.frame)
        elif isinstance(event, CloseReceived) and event.code is CloseCode.DONE:
            self._peer_done = True
            self._release()
        elif isinstance(event, CloseReceived):
            self.on_lost(f"the peer closed the tunnel: {event.code.name.lower()}")

    def _keep(self, data: memoryview) -> None:
        """Buffer a piece; small ones are joined, so that a byte per frame does not cost an object per byte."""
        if len(data) >= _JOIN_BELOW_BYTES:
            self._pieces.append(data)
        elif self._pieces and isinstance(self._pieces[-1], bytearray) and len(self._pieces[-1]) < _JOIN_BELOW_BYTES:
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))

    def on_lost(self, reason: str = "the connection to the relay was lost") -> None:
        """Break the stream: nothing more can arrive."""
        if not self._released:
            self._broken = reason
            self._pieces.clear()
            self._release()

    def on_timer(self, now: float) -> None:
        """Send a PING if one is due, or give up a silent peer."""
        try:
            frame = self._tunnel.handle_timer(now)
        except TunnelError as error:
            self._abort(error)
            return
        if frame is not None:
            # With a reply subject the server itself tells us when nobody receives on the peer's inbox any more.
            self._send_control(frame, reply=self._own_inbox)

    def _abort(self, error: TunnelError) -> None:
        if self._tunnel.state is not TunnelState.CLOSED:
            self._send_control(self._tunnel.send_close(error.close_code))
        self.on_lost(error.detail)

    def _send_control(self, frame: bytes, reply: str = "") -> None:
        try:
            self._connection.publish_nowait(self._peer_inbox, frame, reply=reply)
        except RelayError as error:
            self.on_lost(str(error))

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._budget.give_back(self._borrowed_bytes)
            self._on_closed(self)
            self._arrival.unpark_all()
            self._credit.unpark_all()

    # The trio side.

    @contextmanager
    def _only_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this tunnel")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _check_sendable(self) -> None:
        if self._closed or (not self._released and not self._tunnel.can_send):
            raise trio.ClosedResourceError("the tunnel is closed for sending")
        if self._released:
            raise trio.BrokenResourceError(self._broken or "the peer closed the tunnel")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything, in frames, waiting for the peer's credit and the connection's queue."""
        with self._only_sender():
            self._check_sendable()
            await trio.lowlevel.checkpoint_if_cancelled()
            view = memoryview(data)
            offset = 0
            while offset < len(view):
                await self._wait_sendable()
                count = min(self._tunnel.sendable_bytes, len(view) - offset)
                piece = view[offset : offset + count]
                self._send_piece(piece if isinstance(data, bytes) else bytes(piece))
                offset += count
            # Others get their turn after what was queued has woken the writer: a question leaves a turn earlier.
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _send_piece(self, piece: bytes | memoryview) -> None:
        head = self._tunnel.send_data(len(piece))
        try:
            self._connection.publish_nowait(self._peer_inbox, head, piece)
        except RelayError as error:
            self.on_lost(str(error))
            raise trio.BrokenResourceError(self._broken) from error

    async def _wait_sendable(self) -> None:
        await self._connection.wait_room()
        self._check_sendable()
        while not self._tunnel.sendable_bytes:
            await self._credit.park()
            self._check_sendable()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the peer has given credit and the connection has room."""
        with self._only_sender():
            self._check_sendable()
            await trio.lowlevel.checkpoint()
            await self._wait_sendable()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; the other direction stays open."""
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("the tunnel is closed")
            if self._released:
                raise trio.BrokenResourceError(self._broken or "the peer closed the tunnel")
            if self._tunnel.can_send:
                self._send_control(self._tunnel.send_end())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, at most `max_bytes`, or `b""` at the peer's end."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if not await self._wait_readable():
            return b""
        taken = self._take(max_bytes or _RECEIVE_BYTES)
        data = b"".join(taken)
        self._account(len(data))
        return data

    async def receive_into(self, target: memoryview) -> int:
        """Fill the beginning of `target` with what is there; 0 at the peer's end."""
        if not await self._wait_readable():
            return 0
        count = 0
        for piece in self._take(len(target)):
            target[count : count + len(piece)] = piece
            count += len(piece)
        self._account(count)
        return count

    async def _wait_readable(self) -> bool:
        """Wait for bytes; gives False at the peer's end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this tunnel")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("the tunnel is closed")
                if self._broken:
                    raise trio.BrokenResourceError(self._broken)
                if self._pieces:
                    return True
                if self._peer_done or self._tunnel.state in (TunnelState.REMOTE_END, TunnelState.BOTH_END):
                    return False
                await self._arrival.park()
        finally:
            self._receiving = False

    def _take(self, max_bytes: int) -> list[memoryview | bytearray]:
        taken: list[memoryview | bytearray] = []
        left = max_bytes
        while self._pieces and left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(memoryview(piece)[left:])
                piece = memoryview(piece)[:left]
            taken.append(piece)
            left -= len(piece)
        return taken

    def _account(self, count: int) -> None:
        """Tell the tunnel what the reader took; a reader that keeps up gets a larger window."""
        if self._released:
            return
        window = self._tunnel.window_bytes
        keeps_up = not self._pieces and self._tunnel.credit_is_due(count)
        if keeps_up and 2 * window <= MAX_TUNNEL_WINDOW_BYTES and self._budget.take(window):
            self._borrowed_bytes += window
            self._tunnel.grow_window(window)
        frame = self._tunnel.consumed(count)
        if frame is not None:
            self._send_control(frame)

    def say_goodbye(self) -> None:
        """Tell the peer that the tunnel ends; nothing more can be sent or received."""
        if not self._released:
            self._send_control(self._tunnel.send_close(CloseCode.DONE))
            self._broken = self._broken or "the connection to the relay was closed"
            self._release()

    async def aclose(self) -> None:
        """Close both directions; what was sent before still arrives."""
        if not self._closed:
            self._closed = True
            self._pieces.clear()
            self.say_goodbye()
            self._arrival.unpark_all()
            self._credit.unpark_all()
        await trio.lowlevel.checkpoint()
