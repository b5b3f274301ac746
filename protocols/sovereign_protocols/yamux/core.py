"""The connection: frames in, events out; parts to send in, batches out.

A core is used by one task at a time and never waits. Its caller passes what arrived to `receive_data`, acts on
the events, and after every call takes `next_batch` for as long as `has_output` is true.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from weakref import WeakSet

from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.errors import (
    GoneAwayError,
    StreamFinishedError,
    StreamLimitError,
    StreamResetError,
    YamuxViolationError,
)
from sovereign_protocols.yamux.events import (
    Event,
    Limits,
    PeerGoneAway,
    PingAnswered,
    StreamOpened,
    StreamReadable,
    StreamReset,
)
from sovereign_protocols.yamux.frames import (
    INITIAL_WINDOW_BYTES,
    MAX_UINT32,
    Flag,
    FrameType,
    GoAwayCode,
)
from sovereign_protocols.yamux.outbox import Outbox
from sovereign_protocols.yamux.parser import Parser
from sovereign_protocols.yamux.stream import (
    FINAL_STATES,
    RECEIVING_STATES,
    SENDING_STATES,
    Part,
    Stream,
    StreamState,
    Trigger,
)

_SYN, _ACK, _FIN, _RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
_DATA, _UPDATE = int(FrameType.DATA), int(FrameType.WINDOW_UPDATE)
_PING, _GO_AWAY = int(FrameType.PING), int(FrameType.GO_AWAY)


def _nothing() -> None:
    """Stand in for a hook that nobody has set."""


class Yamux:
    """One side of a connection.

    Args:
        initiator: whether this side dialled; it then numbers its streams oddly.
        limits: bounds.
        budget: receive memory of this connection.

    Attributes:
        on_shed: called when a stream was reset because memory is full, perhaps with the bytes of another
            connection; `take_events` then tells which.
    """

    def __init__(self, *, initiator: bool, limits: Limits, budget: WindowBudget) -> None:
        self.streams: dict[int, Stream] = {}
        self._limits = limits
        self._budget = budget
        self._outbox = Outbox(limits.max_frame_bytes)
        self._next_id = 1 if initiator else 2
        self._peer_parity = 0 if initiator else 1
        self._newest_peer_id = 0
        self._inbound = self._outbound = 0
        self._next_ping = 0
        self._pings: set[int] = set()
        self._said_goodbye = self._heard_goodbye = False
        self._parser = Parser(self._take_header, self._take_payload)
        # The payload under way: its stream (None: drop it), and whether FIN follows.
        self._payload_stream: Stream | None = None
        self._payload_fin = False
        self._events: list[Event] = []
        self.on_shed: Callable[[], None] = _nothing
        # Streams that have ended in both directions while bytes of theirs wait to be read.
        self._unread: WeakSet[Stream] = WeakSet()
        budget.on_overflow = self._shed

    @property
    def has_output(self) -> bool:
        """Whether `next_batch` would give something."""
        return bool(self._outbox)

    @property
    def takes_streams(self) -> bool:
        """Whether new streams may still be opened."""
        return not (self._said_goodbye or self._heard_goodbye)

    @property
    def is_drained(self) -> bool:
        """Whether goodbye was said or heard and every stream has ended."""
        return not self.takes_streams and not self.streams

    # Streams, as this side uses them.

    def open_stream(self) -> Stream:
        """Begin a stream; its SYN goes out with the next batch, and data may follow at once.

        Raises:
            GoneAwayError: one side said goodbye.
            StreamLimitError: too many streams of ours are open, or all ids have been used.
        """
        if not self.takes_streams:
            raise GoneAwayError("the connection is closing")
        if self._outbound >= self._limits.max_outbound_streams or self._next_id > MAX_UINT32:
            raise StreamLimitError(f"{self._outbound} streams are open")
        stream = self._add(self._next_id, inbound=False)
        self._next_id += 2
        self._outbox.add_control(_UPDATE, _SYN, stream.stream_id, 0)
        return stream

    def send(self, stream: Stream, parts: Sequence[Part]) -> None:
        """Queue bytes. The parts are not copied and must not change until they are drained or withdrawn.

        Raises:
            StreamResetError: the stream is broken.
            StreamFinishedError: our direction has ended.
        """
        if stream.state is StreamState.RESET:
            raise StreamResetError("the stream was reset")
        if stream.state not in SENDING_STATES:
            raise StreamFinishedError("the stream was finished")
        for part in parts:
            view = memoryview(part).cast("B")
            if len(view):
                stream.pending.append(view)
                stream.pending_bytes += len(view)
        self._outbox.add_stream(stream)

    def withdraw(self, stream: Stream) -> int:
        """Take back what was queued and has not gone out.

        Returns:
            Bytes that will not be sent.
        """
        withdrawn = stream.pending_bytes
        stream.pending.clear()
        stream.pending_bytes = 0
        return withdrawn

    def finish(self, stream: Stream) -> None:
        """Say that nothing more will be sent; a repetition does nothing.

        Raises:
            StreamResetError: the stream is broken.
            StreamFinishedError: bytes are still queued.
        """
        if stream.state is StreamState.RESET:
            raise StreamResetError("the stream was reset")
        if stream.pending_bytes:
            raise StreamFinishedError("bytes are still waiting to be sent")
        if stream.move(Trigger.SEND_FIN):
            self._outbox.add_control(_UPDATE, _FIN, stream.stream_id, 0)
            self._forget_if_final(stream)

    def reset(self, stream: Stream) -> None:
        """Break the stream in both directions; a repetition does nothing."""
        self._drop_received(stream)
        if stream.move(Trigger.RESET):
            self.withdraw(stream)
            self._outbox.add_control(_UPDATE, _RST, stream.stream_id, 0)
            self._forget_if_final(stream)

    def abandon(self, stream: Stream) -> None:
        """Stop reading for good: what is buffered is dropped, and further data is answered with RST."""
        stream.abandoned = True
        self._drop_received(stream)

    def read(self, stream: Stream, max_bytes: int, now: float) -> bytes:
        """Take 1..max_bytes received bytes; nothing when none are there.

        Args:
            stream: where to read.
            max_bytes: at least 1.
            now: seconds on any steady clock.
        """
        data = stream.received.take(max_bytes)
        self._consumed(stream, len(data), now)
        return data

    def read_into(self, stream: Stream, target: memoryview, now: float) -> int:
        """Move received bytes into `target`.

        Returns:
            Bytes moved, 0 when none are there.
        """
        count = stream.received.take_into(target)
        self._consumed(stream, count, now)
        return count

    def ping(self) -> int:
        """Ask for a sign of life.

        Returns:
            The value that `PingAnswered` will carry.
        """
        self._next_ping = (self._next_ping + 1) & MAX_UINT32
        self._pings.add(self._next_ping)
        self._outbox.add_control(_PING, _SYN, 0, self._next_ping)
        return self._next_ping

    def go_away(self, code: int = GoAwayCode.NORMAL) -> None:
        """Say goodbye: no new streams from either side; those that are open may end. A repetition does nothing."""
        if not self._said_goodbye:
            self._said_goodbye = True
            self._outbox.add_control(_GO_AWAY, 0, 0, code)

    def next_batch(self, room_bytes: int, drained: Callable[[Stream], None]) -> list[Part]:
        """Take what is to be sent now; see `Outbox.next_batch`."""
        return self._outbox.next_batch(room_bytes, drained)

    def close(self) -> None:
        """Break all streams, once their bytes can no longer flow; what was received counts until it is read."""
        for stream in list(self.streams.values()):
            stream.move(Trigger.RESET)
            self.withdraw(stream)
            self._forget_if_final(stream)

    def receive_data(self, data: bytes | memoryview) -> list[Event]:
        """Take bytes that arrived, in pieces of any size; they may change afterwards.

        Returns:
            What they mean, in order.

        Raises:
            YamuxViolationError: the peer broke the rules; say goodbye with its code and close.
        """
        self._parser.feed(data)
        self._outbox.check_control()
        return self.take_events()

    def take_events(self) -> list[Event]:
        """Take what happened since the last call."""
        events, self._events = self._events, []
        return events

    def _take_header(self, frame_type: int, flags: int, stream_id: int, length: int) -> int:
        """Act on a header, and tell how many bytes of payload follow it."""
        if frame_type == _DATA:
            self._take_data_header(flags, stream_id, length)
            return length
        if frame_type == _UPDATE:
            stream = self._accept(stream_id) if flags & _SYN else self.streams.get(stream_id)
            if stream is not None:
                if length:
                    self._add_credit(stream, length)
                self._take_flags(stream, flags)
        elif frame_type == _PING:
            if flags & _SYN:
                self._outbox.add_control(_PING, _ACK, 0, length)
            elif flags & _ACK and length in self._pings:
                self._pings.discard(length)
                self._events.append(PingAnswered(length))
        else:
            self._heard_goodbye = True
            self._events.append(PeerGoneAway(length))
        return 0

    def _take_data_header(self, flags: int, stream_id: int, length: int) -> None:
        stream = self._accept(stream_id) if flags & _SYN else self.streams.get(stream_id)
        self._expect_payload(stream, length)
        # FIN follows the data; the other flags come before it.
        self._payload_fin = bool(length and flags & _FIN)
        if stream is not None:
            self._take_flags(stream, flags & ~_FIN if length else flags)

    def _accept(self, stream_id: int) -> Stream | None:
        if stream_id & 1 != self._peer_parity or stream_id <= self._newest_peer_id:
            raise YamuxViolationError(f"stream {stream_id} is not the peer's to open")
        self._newest_peer_id = stream_id
        if self._said_goodbye or self._inbound >= self._limits.max_inbound_streams:
            self._outbox.add_control(_UPDATE, _RST, stream_id, 0)
            return None
        stream = self._add(stream_id, inbound=True)
        self._outbox.add_control(_UPDATE, _ACK, stream_id, 0)
        self._events.append(StreamOpened(stream))
        return stream

    def _expect_payload(self, stream: Stream | None, length: int) -> None:
        # What was still under way to a stream that has ended is dropped, but never more than one window of it.
        ended = max(self._limits.max_window_bytes, INITIAL_WINDOW_BYTES)
        allowed = ended if stream is None else stream.receive_credit
        if length > allowed:
            raise YamuxViolationError(f"{length} bytes exceed the credit of {allowed}")
        self._payload_stream = stream
        if stream is None:
            return
        stream.receive_credit -= length
        if length and (stream.abandoned or stream.state not in RECEIVING_STATES):
            self._payload_stream = None
            self._break(stream)

    def _take_payload(self, piece: bytes | memoryview, is_last: bool) -> None:
        stream = self._payload_stream
        # A stream that ended within its own frame leaves the rest of the payload to be dropped.
        if stream is not None and stream.state in RECEIVING_STATES and not stream.abandoned:
            stream.received.append(piece)
            self._note_readable(stream)
            if self._budget.is_over:
                self._budget.relieve()
        if is_last:
            self._payload_stream = None
            if self._payload_fin and stream is not None and stream.state not in FINAL_STATES:
                self._take_flags(stream, _FIN)

    def _add_credit(self, stream: Stream, length: int) -> None:
        if stream.send_credit + length > MAX_UINT32:
            raise YamuxViolationError("credit does not fit in 32 bits")
        stream.send_credit += length
        self._outbox.add_stream(stream)

    def _take_flags(self, stream: Stream, flags: int) -> None:
        if flags & _RST:
            if stream.move(Trigger.RESET):
                self.withdraw(stream)
                self._events.append(StreamReset(stream))
                self._forget_if_final(stream)
            return
        if flags & _ACK:
            stream.move(Trigger.RECEIVE_ACK)
        if flags & _FIN:
            if not stream.move(Trigger.RECEIVE_FIN):
                self._break(stream)
                return
            stream.peer_finished = True
            self._note_readable(stream)
            self._forget_if_final(stream)

    def _break(self, stream: Stream) -> None:
        """Answer a violation within one stream, or data that nobody wants, by ending that stream."""
        self.reset(stream)
        self._events.append(StreamReset(stream))

    def _shed(self) -> bool:
        """Give up the stream that holds the most memory, when more is buffered than may be."""
        every = chain(self.streams.values(), self._unread)
        largest = max(every, key=lambda stream: stream.received.size_bytes, default=None)
        if largest is None or not largest.received.size_bytes:
            return False
        self._break(largest)
        self.on_shed()
        return True

    def _note_readable(self, stream: Stream) -> None:
        last = self._events[-1] if self._events else None
        if not (isinstance(last, StreamReadable) and last.stream is stream):
            self._events.append(StreamReadable(stream))

    # Book-keeping.

    def _add(self, stream_id: int, *, inbound: bool) -> Stream:
        stream = Stream(stream_id, self._budget, inbound=inbound)
        self.streams[stream_id] = stream
        self._inbound += inbound
        self._outbound += not inbound
        self._budget.promise(stream.window)
        return stream

    def _forget_if_final(self, stream: Stream) -> None:
        if stream.state in FINAL_STATES and self.streams.pop(stream.stream_id, None) is not None:
            self._inbound -= stream.inbound
            self._outbound -= not stream.inbound
            self._budget.release(stream.window)
            if stream.received.size_bytes:
                self._unread.add(stream)

    def _drop_received(self, stream: Stream) -> None:
        if stream.received.size_bytes:
            # What the peer sent is no longer complete, even if it finished.
            stream.peer_finished = False
            stream.received.clear()

    def _consumed(self, stream: Stream, count: int, now: float) -> None:
        """Count bytes that were read, and give credit again when half a window is gone."""
        if not count or not stream.consume(count, now, self._limits.max_refresh_bytes):
            return
        credit = stream.consumed
        growth = min(stream.window, self._limits.max_window_bytes - stream.window)
        fast = now - (stream.refreshed_at or 0.0) <= self._limits.growth_period_s
        if fast and growth > 0 and self._budget.grow(growth):
            stream.window += growth
            credit += growth
        stream.consumed = 0
        stream.refreshed_at = now
        stream.receive_credit += credit
        self._outbox.add_control(_UPDATE, 0, stream.stream_id, credit)
