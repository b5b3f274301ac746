"""One stream of a connection: its state, its credit both ways, and what waits in it."""

from collections import deque
from enum import Enum, auto

from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.frames import INITIAL_WINDOW_BYTES

Part = bytes | bytearray | memoryview


class StreamState(Enum):
    """Where a stream stands between its SYN and its end."""

    OPENING = auto()
    """We sent SYN, the peer has not sent ACK; data may flow already."""
    OPEN = auto()
    LOCAL_CLOSED = auto()
    """We sent FIN."""
    REMOTE_CLOSED = auto()
    """The peer sent FIN."""
    CLOSED = auto()
    RESET = auto()


class Trigger(Enum):
    """What moves a stream from one state to another."""

    RECEIVE_ACK = auto()
    SEND_FIN = auto()
    RECEIVE_FIN = auto()
    RESET = auto()
    """Either side sent RST."""


# The state diagram of the spec is drawn from this table; what is not in it is a protocol error.
TRANSITIONS: dict[tuple[StreamState, Trigger], StreamState] = {
    (StreamState.OPENING, Trigger.RECEIVE_ACK): StreamState.OPEN,
    (StreamState.OPENING, Trigger.SEND_FIN): StreamState.LOCAL_CLOSED,
    (StreamState.OPENING, Trigger.RECEIVE_FIN): StreamState.REMOTE_CLOSED,
    (StreamState.OPENING, Trigger.RESET): StreamState.RESET,
    # An ACK may come with more than one of the first frames.
    (StreamState.OPEN, Trigger.RECEIVE_ACK): StreamState.OPEN,
    (StreamState.OPEN, Trigger.SEND_FIN): StreamState.LOCAL_CLOSED,
    (StreamState.OPEN, Trigger.RECEIVE_FIN): StreamState.REMOTE_CLOSED,
    (StreamState.OPEN, Trigger.RESET): StreamState.RESET,
    (StreamState.LOCAL_CLOSED, Trigger.RECEIVE_ACK): StreamState.LOCAL_CLOSED,
    (StreamState.LOCAL_CLOSED, Trigger.RECEIVE_FIN): StreamState.CLOSED,
    (StreamState.LOCAL_CLOSED, Trigger.RESET): StreamState.RESET,
    (StreamState.REMOTE_CLOSED, Trigger.RECEIVE_ACK): StreamState.REMOTE_CLOSED,
    (StreamState.REMOTE_CLOSED, Trigger.SEND_FIN): StreamState.CLOSED,
    (StreamState.REMOTE_CLOSED, Trigger.RESET): StreamState.RESET,
}

SENDING_STATES = frozenset({StreamState.OPENING, StreamState.OPEN, StreamState.REMOTE_CLOSED})
RECEIVING_STATES = frozenset({StreamState.OPENING, StreamState.OPEN, StreamState.LOCAL_CLOSED})
FINAL_STATES = frozenset({StreamState.CLOSED, StreamState.RESET})

# Neighbours below this are joined; above it, keeping and handing out a piece alone costs less than the copy. It
# also bounds what the pieces take: one of two bytes would have twenty times their memory.
_JOIN_BELOW_BYTES = 16 * 1024


class ReceiveBuffer:
    """Bytes that arrived and were not read yet, kept as the pieces in which they came.

    Args:
        budget: where the bytes count for as long as they are here.
    """

    __slots__ = ("_budget", "_offset", "_pieces", "size_bytes")

    def __init__(self, budget: WindowBudget) -> None:
        self._budget = budget
        self._pieces: deque[bytes | bytearray] = deque()
        self._offset = 0
        self.size_bytes = 0

    def append(self, piece: bytes | memoryview) -> None:
        """Add a piece at the end; it may change afterwards."""
        size = len(piece)
        if size >= _JOIN_BELOW_BYTES or not self._pieces or len(self._pieces[-1]) >= _JOIN_BELOW_BYTES:
            self._pieces.append(bytes(piece))
        else:
            self._join(piece)
        self.size_bytes += size
        self._budget.buffer(size)

    def _join(self, piece: bytes | memoryview) -> None:
        last = self._pieces[-1]
        if isinstance(last, bytes):
            last = self._pieces[-1] = bytearray(last)
        last += piece

    @property
    def is_bulk(self) -> bool:
        """Whether the next piece is a large one."""
        return bool(self._pieces) and len(self._pieces[0]) >= _JOIN_BELOW_BYTES

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self._budget.buffer(-self.size_bytes)
        self._offset = self.size_bytes = 0

    def take(self, max_bytes: int) -> bytes:
        """Remove and return 1..max_bytes bytes; nothing when empty. A large piece is returned without a copy."""
        if not self._pieces:
            return b""
        head = self._pieces[0]
        if self._offset or len(head) > max_bytes:
            taken = bytes(head[self._offset : self._offset + max_bytes])
            self._drop_head(len(taken))
        else:
            self._pieces.popleft()
            taken = bytes(head)
        self.size_bytes -= len(taken)
        self._budget.buffer(-len(taken))
        return taken

    def _drop_head(self, count: int) -> None:
        """Move on within the first piece."""
        self._offset += count
        if self._offset == len(self._pieces[0]):
            self._pieces.popleft()
            self._offset = 0

    def take_into(self, target: memoryview) -> int:
        """Move as much as fits into `target`.

        Returns:
            Bytes moved.
        """
        filled = 0
        room = len(target)
        while self._pieces and filled < room:
            head = self._pieces[0]
            count = min(len(head) - self._offset, room - filled)
            if count == len(head):
                target[filled : filled + count] = head
            else:
                with memoryview(head) as view:
                    target[filled : filled + count] = view[self._offset : self._offset + count]
            filled += count
            self._drop_head(count)
        self.size_bytes -= filled
        self._budget.buffer(-filled)
        return filled

    def __del__(self) -> None:
        if self.size_bytes:
            # The user of a stream may forget it with bytes unread.
            self._budget.buffer(-self.size_bytes)


class Stream:
    """The record of one stream.

    Attributes:
        send_credit: bytes that the peer allows us to send now.
        receive_credit: bytes that the peer may still send.
        window: credit that we keep topped up.
        consumed: bytes read since credit was last given.
        refreshed_at: when credit was last given or reading began, on the clock of the caller.
        pending: parts that wait to be sent.
        pending_bytes: their size.
        queued: whether the stream is in the outbox's round.
        peer_finished: the peer's FIN arrived, so its bytes are complete.
        abandoned: nobody will read any more; further data is answered with RST.

    Args:
        stream_id: as on the wire.
        budget: where received bytes count until they are read.
        inbound: whether the peer opened it.
    """

    __slots__ = (
        "__weakref__",
        "abandoned",
        "consumed",
        "inbound",
        "peer_finished",
        "pending",
        "pending_bytes",
        "queued",
        "receive_credit",
        "received",
        "refreshed_at",
        "send_credit",
        "state",
        "stream_id",
        "window",
    )

    def __init__(self, stream_id: int, budget: WindowBudget, *, inbound: bool) -> None:
        self.stream_id = stream_id
        self.inbound = inbound
        self.state = StreamState.OPEN if inbound else StreamState.OPENING
        self.send_credit = INITIAL_WINDOW_BYTES
        self.receive_credit = INITIAL_WINDOW_BYTES
        self.window = INITIAL_WINDOW_BYTES
        self.consumed = 0
        self.refreshed_at: float | None = None
        self.received = ReceiveBuffer(budget)
        self.pending: deque[memoryview] = deque()
        self.pending_bytes = 0
        self.queued = False
        self.peer_finished = False
        self.abandoned = False

    def move(self, trigger: Trigger) -> bool:
        """Follow the transition table.

        Returns:
            False if the table has no such move.
        """
        following = TRANSITIONS.get((self.state, trigger))
        if following is None:
            return False
        self.state = following
        return True

    def consume(self, count: int, now: float, max_refresh_bytes: int) -> bool:
        """Count bytes that were read.

        Returns:
            Whether enough have been read for the peer to get credit again.
        """
        if self.refreshed_at is None:
            self.refreshed_at = now
        self.consumed += count
        return self.consumed >= min(self.window // 2, max_refresh_bytes) and self.state in RECEIVING_STATES

    def take_pending(self, max_bytes: int) -> list[memoryview]:
        """Remove parts of at most `max_bytes` in all from what waits to be sent; no byte is copied."""
        parts = []
        left = max_bytes
        while left and self.pending:
            head = self.pending[0]
            if len(head) <= left:
                parts.append(self.pending.popleft())
                left -= len(head)
            else:
                parts.append(head[:left])
                self.pending[0] = head[left:]
                left = 0
        self.pending_bytes -= max_bytes - left
        return parts
