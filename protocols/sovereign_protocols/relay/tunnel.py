"""One side of a tunnel: sequence, credit, half-close and keepalive, without I/O and without a clock.

Core NATS has no backpressure: who publishes faster than the other side reads loses messages or the connection.
So each side tells the other how many bytes of the stream it may send in all (CREDIT), and what is buffered never
exceeds the window. The window grows while the reader keeps up, so a stranger who only floods gets the smallest.

    state         | we end     | peer ends     | either closes
    OPEN          | LOCAL_END  | REMOTE_END    | CLOSED
    LOCAL_END     | (error)    | BOTH_END      | CLOSED
    REMOTE_END    | BOTH_END   | (error)       | CLOSED
    BOTH_END      | (error)    | (error)       | CLOSED
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.relay import tunnel_frames as frames
from sovereign_protocols.relay.tunnel_frames import HEAD, CloseCode, FrameType, Opening

INITIAL_WINDOW_BYTES: Final = 256 * 1024
# Peers that vanish without a word are noticed within the second figure.
PING_AFTER_S: Final = 20.0
DEAD_AFTER_S: Final = 60.0
# PINGs that a peer may send at once; after that, one per second.
MAX_PING_BURST: Final = 8


class TunnelState(Enum):
    """Which directions are open."""

    OPEN = auto()
    LOCAL_END = auto()
    REMOTE_END = auto()
    BOTH_END = auto()
    CLOSED = auto()


_AFTER_LOCAL_END: Final = {
    TunnelState.OPEN: TunnelState.LOCAL_END,
    TunnelState.REMOTE_END: TunnelState.BOTH_END,
}
_AFTER_REMOTE_END: Final = {
    TunnelState.OPEN: TunnelState.REMOTE_END,
    TunnelState.LOCAL_END: TunnelState.BOTH_END,
}


class TunnelError(RemoteProtocolError):
    """The peer broke the tunnel's rules.

    Attributes:
        close_code: what to tell it in CLOSE.
    """

    def __init__(self, code: ErrorCode, detail: str, close_code: CloseCode) -> None:
        super().__init__(code, detail)
        self.close_code = close_code


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of the stream; hand them to `consumed` once the reader took them."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class CreditReceived:
    """More may be sent."""


@dataclass(frozen=True, slots=True)
class EndReceived:
    """The peer will send no more data."""


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer is gone; with `DONE`, what it sent before is whole."""

    code: CloseCode


@dataclass(frozen=True, slots=True)
class ReplyDue:
    """Send this frame back."""

    frame: bytes


TunnelEvent = DataReceived | CreditReceived | EndReceived | CloseReceived | ReplyDue


class Tunnel:
    """State of one side after REQUEST and ACCEPT have crossed.

    Args:
        local: what we announced.
        remote: what the peer announced.
        max_payload_bytes: largest message that our server takes.
        now: any steady clock, seconds.
    """

    def __init__(self, local: Opening, remote: Opening, *, max_payload_bytes: int, now: float) -> None:
        self.state = TunnelState.OPEN
        self._max_data_bytes = min(remote.max_frame_bytes, max_payload_bytes) - HEAD.size
        self._send_sequence = self._receive_sequence = 1
        self._sent_bytes = 0
        self._send_limit = remote.window_bytes
        self._window_bytes = local.window_bytes
        self._received_bytes = self._consumed_bytes = 0
        self._receive_limit = local.window_bytes
        self._max_frame_bytes = local.max_frame_bytes
        self._heard_at = now
        self._pinged_at = self._last_ping_at = now
        self._pings_open = 0
        self._ping_debt = 0.0

    @property
    def window_bytes(self) -> int:
        """Most bytes that can wait for our reader."""
        return self._window_bytes

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not yet consumed."""
        return self._received_bytes - self._consumed_bytes

    @property
    def sendable_bytes(self) -> int:
        """How much the next DATA frame may carry; 0 while the peer has given no credit."""
        return max(0, min(self._max_data_bytes, self._send_limit - self._sent_bytes))

    @property
    def can_send(self) -> bool:
        """Whether our direction is open."""
        return self.state in _AFTER_LOCAL_END

    def send_data(self, count: int) -> bytes:
        """Account for one DATA frame; returns its head, which the `count` bytes follow."""
        if not self.can_send or not 0 < count <= self.sendable_bytes:
            raise LocalProtocolError("data without credit, or after the end")
        self._sent_bytes += count
        return self._head(FrameType.DATA)

    def send_end(self) -> bytes:
        """End our direction; returns the frame."""
        if not self.can_send:
            raise LocalProtocolError("the direction has ended")
        self.state = _AFTER_LOCAL_END[self.state]
        return self._head(FrameType.EOF)

    def send_close(self, code: CloseCode) -> bytes:
        """Close both directions; returns the frame."""
        if self.state is TunnelState.CLOSED:
            raise LocalProtocolError("the tunnel is closed")
        self.state = TunnelState.CLOSED
        return frames.encode_close(self._take_sequence(), code)

    def consumed(self, count: int) -> bytes | None:
        """Account for bytes that the reader took.

        Returns:
            A CREDIT frame, once half of the window is free again.
        """
        due = self.credit_is_due(count)
        self._consumed_bytes += count
        if not due:
            return None
        self._receive_limit = self._consumed_bytes + self._window_bytes
        return frames.encode_credit(self._take_sequence(), self._receive_limit)

    def credit_is_due(self, count: int) -> bool:
        """Say whether `consumed(count)` would return a CREDIT frame."""
        if self.state not in (TunnelState.OPEN, TunnelState.LOCAL_END):
            return False
        free = self._consumed_bytes + count + self._window_bytes - self._receive_limit
        return free >= self._window_bytes // 2

    def grow_window(self, count: int) -> None:
        """Let the peer have `count` more bytes on the way; told to it with the next CREDIT."""
        self._window_bytes += count

    def receive_frame(self, frame: bytes, now: float) -> TunnelEvent | None:
        """Handle one frame from the peer's side.

        Raises:
            TunnelError: it broke the rules; send CLOSE with the error's code and drop the tunnel.
        """
        try:
            kind, sequence = frames.decode_head(frame)
        except RemoteProtocolError as error:
            raise TunnelError(error.code, error.detail, CloseCode.MALFORMED) from error
        if len(frame) > self._max_frame_bytes or kind in (FrameType.REQUEST, FrameType.ACCEPT):
            raise TunnelError(ErrorCode.UNEXPECTED, f"{kind.name} in an open tunnel", CloseCode.MALFORMED)
        if sequence != self._receive_sequence:
            raise TunnelError(ErrorCode.UNEXPECTED, "a frame was lost, doubled or moved", CloseCode.SEQUENCE)
        self._receive_sequence += 1
        self._heard_at = now
        if kind is FrameType.DATA:
            return self._on_data(frame)
        return self._on_control(kind, frame, now)

    def _on_data(self, frame: bytes) -> DataReceived:
        if self.state not in (TunnelState.OPEN, TunnelState.LOCAL_END):
            raise TunnelError(ErrorCode.UNEXPECTED, "data after the end", CloseCode.MALFORMED)
        if len(frame) == HEAD.size:
            raise TunnelError(ErrorCode.MALFORMED, "data without a byte", CloseCode.MALFORMED)
        self._received_bytes += len(frame) - HEAD.size
        if self._received_bytes > self._receive_limit:
            raise TunnelError(ErrorCode.RATE, "data without credit", CloseCode.CREDIT)
        return DataReceived(memoryview(frame)[HEAD.size :])

    def _on_control(self, kind: FrameType, frame: bytes, now: float) -> TunnelEvent | None:
        if kind is FrameType.CREDIT:
            limit = frames.decode_credit(frame)
            if not self._send_limit < limit <= self._sent_bytes + frames.MAX_WINDOW_BYTES:
                raise TunnelError(ErrorCode.UNEXPECTED, "credit out of range", CloseCode.MALFORMED)
            self._send_limit = limit
            return CreditReceived()
        if kind is FrameType.EOF:
            if self.state not in _AFTER_REMOTE_END:
                raise TunnelError(ErrorCode.UNEXPECTED, "a second end", CloseCode.MALFORMED)
            self.state = _AFTER_REMOTE_END[self.state]
            return EndReceived()
        if kind is FrameType.CLOSE:
            self.state = TunnelState.CLOSED
            return CloseReceived(frames.decode_close(frame))
        return self._on_liveness(kind, now)

    def _on_liveness(self, kind: FrameType, now: float) -> TunnelEvent | None:
        if kind is FrameType.PONG:
            if not self._pings_open:
                raise TunnelError(ErrorCode.UNEXPECTED, "an answer to no ping", CloseCode.MALFORMED)
            self._pings_open -= 1
            return None
        # Each PING makes us send; a peer that sends them in a row makes our relay connection its amplifier.
        self._ping_debt = max(0.0, self._ping_debt - (now - self._last_ping_at)) + 1
        self._last_ping_at = now
        if self._ping_debt > MAX_PING_BURST:
            raise TunnelError(ErrorCode.RATE, "too many pings", CloseCode.CREDIT)
        return ReplyDue(self._head(FrameType.PONG))

    def next_timer(self) -> float:
        """When `handle_timer` should be called, on the clock of `now`."""
        return min(self._heard_at + DEAD_AFTER_S, max(self._heard_at, self._pinged_at) + PING_AFTER_S)

    def handle_timer(self, now: float) -> bytes | None:
        """Return a PING frame if one is due.

        Raises:
            TunnelError: nothing was heard for too long.
        """
        if now >= self._heard_at + DEAD_AFTER_S:
            raise TunnelError(ErrorCode.TIMEOUT, "the peer is silent", CloseCode.TIMEOUT)
        if self.state is TunnelState.CLOSED or now < self.next_timer():
            return None
        self._pinged_at = now
        self._pings_open += 1
        return self._head(FrameType.PING)

    def _head(self, kind: FrameType) -> bytes:
        return frames.encode_head(kind, self._take_sequence())

    def _take_sequence(self) -> int:
        sequence = self._send_sequence
        self._send_sequence += 1
        return sequence
