"""What both ends of the chunk protocol share: frames in, frames out, and the time a peer may take."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Final

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.messages import MAX_PAYLOAD_BYTES, Message, decode_message, encode_message
from sovereign_protocols.framing import FrameDecoder, Payload

Buffer = bytes | bytearray | memoryview
#: Largest piece handed to a stream at once; smaller neighbours are joined up to `_JOIN_BYTES`.
MAX_SEND_BYTES: Final = 1024**2
_JOIN_BYTES: Final = 65_536

_EMPTY: Final = Payload()


class Endpoint(ABC):
    """Base of the client and the server core.

    Args:
        now: seconds on any steady clock; all later times are of the same clock.
    """

    def __init__(self, now: float) -> None:
        self._decoder: FrameDecoder[Message] = FrameDecoder(
            self._parse, max_header_bytes=limits.MAX_HEADER_BYTES, max_payload_bytes=MAX_PAYLOAD_BYTES
        )
        self._outgoing: deque[Buffer] = deque()
        self.outgoing_bytes = 0
        self._active_at = now
        self._frame_began_at = now

    @property
    @abstractmethod
    def is_waiting(self) -> bool:
        """True while this end owes or expects nothing, so that silence counts as idleness."""

    @abstractmethod
    def _check_message(self, message: Message, payload_bytes: int) -> None:
        """Refuse a message that may not come now; called before its payload is read."""

    def receive_data(self, data: bytes, now: float) -> bool:
        """Take bytes from the peer.

        Returns:
            False if they only made a payload longer: there is nothing to do then but to receive more.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        decoder = self._decoder
        was_mid_frame, frames_before, in_payload = decoder.mid_frame, decoder.frames, decoder.in_payload
        decoder.receive_data(data)
        self._active_at = now
        if in_payload and decoder.frames == frames_before:
            return False
        if decoder.mid_frame and (not was_mid_frame or decoder.frames != frames_before):
            self._frame_began_at = now
        return True

    def restart_clock(self, now: float) -> None:
        """Forget the time in which this end did not read, for it is not the peer's fault."""
        self._active_at = self._frame_began_at = now

    @property
    def deadline(self) -> float:
        """When the peer must have sent more; later than that, the session is given up."""
        if self._decoder.mid_frame:
            allowed = limits.FRAME_GRACE_S + self._decoder.frame_bytes / limits.MIN_RATE_BYTES_PER_S
            return self._frame_began_at + allowed
        return self._active_at + limits.IDLE_TIMEOUT_S if self.is_waiting else float("inf")

    def parts_to_send(self) -> Iterator[list[Buffer]]:
        """Yield what is to be sent, in groups of buffers that are sent as if joined; about 1 MiB, or one chunk."""
        while self._outgoing:
            parts: list[Buffer] = []
            size_bytes = 0
            while self._outgoing and size_bytes < MAX_SEND_BYTES:
                parts.append(self._outgoing.popleft())
                size_bytes += len(parts[-1])
            self.outgoing_bytes -= size_bytes
            yield parts

    def data_to_send(self) -> Iterator[bytes | memoryview]:
        """Yield what is to be sent, in pieces of at most 1 MiB; small messages share a piece."""
        for parts in self.parts_to_send():
            joined = bytearray()
            for buffer in parts:
                if len(joined) + len(buffer) <= _JOIN_BYTES:
                    joined += buffer
                    continue
                if joined:
                    yield bytes(joined)
                    joined.clear()
                if len(buffer) <= _JOIN_BYTES // 4:
                    joined += buffer
                    continue
                view = memoryview(buffer)
                for start in range(0, len(view), MAX_SEND_BYTES):
                    yield view[start : start + MAX_SEND_BYTES]
            if joined:
                yield bytes(joined)

    def _parse(self, header: bytes, payload_bytes: int) -> Message:
        message = decode_message(header, payload_bytes)
        self._check_message(message, payload_bytes)
        return message

    def _queue(self, message: Message, payload: Payload = _EMPTY) -> None:
        head = encode_message(message, len(payload))
        self._outgoing.append(head)
        self._outgoing.extend(payload.pieces)
        self.outgoing_bytes += len(head) + len(payload)
