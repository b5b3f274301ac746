"""What goes out, and in which order: control frames first, then streams in turn.

A batch holds whole frames only. It is cut to the room it was given, so that bulk fills the records of the
encryption below exactly; only the last few bytes of what a stream has to send may exceed it.
"""

from collections import deque
from collections.abc import Callable

from sovereign_protocols.yamux.errors import YamuxViolationError
from sovereign_protocols.yamux.frames import HEADER, HEADER_BYTES, VERSION, FrameType
from sovereign_protocols.yamux.stream import Part, Stream

# A peer that makes us answer (PING, refused SYN) without reading the answers could fill our memory.
MAX_CONTROL_BYTES = 64 * 1024
# Starting a bulk frame for less than this much room would only make frames and records more.
_MIN_FRAME_ROOM_BYTES = 4096
# The last bytes of a large send go with the batch before, rather than in one of their own.
_TAIL_BYTES = 4096

_DATA = int(FrameType.DATA)


class Outbox:
    """Frames and data that wait for the connection to take them.

    Args:
        max_frame_bytes: largest DATA payload that we send.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._control = bytearray()
        self._round: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self._control or self._round)

    def add_control(self, frame_type: int, flags: int, stream_id: int, length: int) -> None:
        """Queue a frame without data."""
        self._control += HEADER.pack(VERSION, frame_type, flags, stream_id, length)

    def check_control(self) -> None:
        """Make sure that the answers which wait are within bounds.

        Raises:
            YamuxViolationError: the peer provokes answers faster than it takes them.
        """
        if len(self._control) > MAX_CONTROL_BYTES:
            raise YamuxViolationError("too many answers wait for a peer that does not read")

    def add_stream(self, stream: Stream) -> None:
        """Put a stream with data and credit at the end of the round, unless it is in it."""
        if not stream.queued and stream.pending_bytes and stream.send_credit:
            stream.queued = True
            self._round.append(stream)

    def next_batch(self, room_bytes: int, drained: Callable[[Stream], None]) -> list[Part]:
        """Take whole frames of `room_bytes` in all, and at most one tail more.

        Args:
            room_bytes: at least 4108.
            drained: called for each stream of which everything has been taken.

        Returns:
            Headers and data in order; the data are views of what was queued, to be used up before those who
            queued it are told.
        """
        batch: list[Part] = []
        if self._control:
            count = min(len(self._control), room_bytes - room_bytes % HEADER_BYTES)
            batch.append(bytes(self._control[:count]))
            del self._control[:count]
            room_bytes -= count
        while self._round:
            if batch and room_bytes < _MIN_FRAME_ROOM_BYTES + HEADER_BYTES:
                break
            stream = self._round.popleft()
            stream.queued = False
            size = min(stream.pending_bytes, stream.send_credit, self.max_frame_bytes, room_bytes - HEADER_BYTES)
            if not size:
                continue
            room_bytes -= _append_frame(batch, stream, size)
            if 0 < stream.pending_bytes <= min(_TAIL_BYTES, stream.send_credit):
                room_bytes -= _append_frame(batch, stream, stream.pending_bytes)
            if stream.pending_bytes:
                self.add_stream(stream)
            else:
                drained(stream)
        return batch


def _append_frame(batch: list[Part], stream: Stream, size: int) -> int:
    """Move `size` bytes of a stream into the batch as one frame.

    Returns:
        Bytes of the whole frame.
    """
    batch.append(HEADER.pack(VERSION, _DATA, 0, stream.stream_id, size))
    batch += stream.take_pending(size)
    stream.send_credit -= size
    return size + HEADER_BYTES
