"""Frames: a small header that is always decoded whole, and a payload that is never copied.

    offset  size  field
    0       4     header length, big-endian
    4       4     payload length, big-endian
    8       h     header (canonical CBOR)
    8+h     p     payload (raw bytes)

Both lengths are checked before a byte after them is kept. A payload stays in the pieces in which the stream
delivered it: hashing and writing to disk take pieces, so a stored chunk is copied by nobody on its way.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError

PREFIX: Final = struct.Struct(">II")
MAX_HEADER_BYTES: Final = 65_536
# A peer that sends one byte per packet must not cost an object per byte.
_SMALL_PIECE_BYTES: Final = 4_096

Message = TypeVar("Message")


class Payload:
    """Raw bytes in one or more pieces.

    Args:
        pieces: bytes-like objects, kept by reference.
    """

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: Iterable[bytes | bytearray | memoryview] = ()) -> None:
        self.pieces: list[bytes | bytearray | memoryview] = list(pieces)
        self._size = sum(len(piece) for piece in self.pieces)

    def __len__(self) -> int:
        return self._size

    def append(self, piece: memoryview) -> None:
        """Add the next piece; small ones are joined to bound the number of objects."""
        self._size += len(piece)
        if len(piece) >= _SMALL_PIECE_BYTES:
            self.pieces.append(piece)
        elif self.pieces and isinstance(self.pieces[-1], bytearray) and len(self.pieces[-1]) < _SMALL_PIECE_BYTES:
            self.pieces[-1] += piece
        else:
            self.pieces.append(bytearray(piece))

    def sha256(self) -> bytes:
        """Return the SHA-256 digest of the whole payload."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            digest.update(piece)
        return digest.digest()

    def to_bytes(self) -> bytes:
        """Return the payload as one `bytes` object."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return self.pieces[0]
        return b"".join(self.pieces)


def encode_frame(header: bytes, payload_bytes: int = 0) -> bytes:
    """Return prefix and header of a frame; `payload_bytes` raw bytes must follow it on the wire."""
    return PREFIX.pack(len(header), payload_bytes) + header


class FrameDecoder(Generic[Message]):
    """Turns received bytes into (message, payload) pairs.

    Args:
        parse: called with a header and the length of the payload that follows as soon as the header is
            complete, so a message with a payload it may not have is refused before that payload is read.
        max_header_bytes: largest header accepted.
        max_payload_bytes: largest payload accepted for any message.

    Attributes:
        frames: how many frames have been completed.
    """

    def __init__(
        self,
        parse: Callable[[bytes, int], Message],
        *,
        max_header_bytes: int = MAX_HEADER_BYTES,
        max_payload_bytes: int = 0,
    ) -> None:
        self._parse = parse
        self._max_header_bytes = max_header_bytes
        self._max_payload_bytes = max_payload_bytes
        self._frames: deque[tuple[Message, Payload]] = deque()
        self._head = bytearray()
        self._header_bytes: int | None = None
        self._payload_bytes = 0
        self._message: Message | None = None
        self._payload = Payload()
        self.frames = 0

    @property
    def payload_received_bytes(self) -> int:
        """Bytes held of a payload that is not complete yet."""
        return len(self._payload)

    @property
    def mid_frame(self) -> bool:
        """True while a frame has begun and not ended."""
        return bool(self._head) or self._header_bytes is not None

    @property
    def in_payload(self) -> bool:
        """True while the header of a frame is known and its payload is not complete."""
        return self._message is not None

    @property
    def frame_bytes(self) -> int:
        """Length of the frame being received, as far as it is known; 0 between frames."""
        if self._header_bytes is None:
            return PREFIX.size if self._head else 0
        return PREFIX.size + self._header_bytes + self._payload_bytes

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the stream.

        Raises:
            RemoteProtocolError: a length is above its limit, or `parse` refused a header.
        """
        view = memoryview(data)
        while len(view):
            if self._header_bytes is None:
                view = self._take_prefix(view)
            elif self._message is None:
                view = self._take_header(view)
            else:
                view = self._take_payload(view)

    def next_frame(self) -> tuple[Message, Payload] | None:
        """Return the oldest complete frame, or None when more bytes are needed."""
        return self._frames.popleft() if self._frames else None

    def _take_prefix(self, view: memoryview) -> memoryview:
        wanted = PREFIX.size - len(self._head)
        self._head += view[:wanted]
        if len(self._head) == PREFIX.size:
            header_bytes, payload_bytes = PREFIX.unpack(self._head)
            if not 0 < header_bytes <= self._max_header_bytes or payload_bytes > self._max_payload_bytes:
                raise RemoteProtocolError(ErrorCode.TOO_LARGE, f"frame of {header_bytes} + {payload_bytes} bytes")
            self._header_bytes, self._payload_bytes = header_bytes, payload_bytes
            self._head.clear()
        return view[wanted:]

    def _take_header(self, view: memoryview) -> memoryview:
        assert self._header_bytes is not None
        wanted = self._header_bytes - len(self._head)
        self._head += view[:wanted]
        if len(self._head) == self._header_bytes:
            self._message = self._parse(bytes(self._head), self._payload_bytes)
            self._head.clear()
            if self._payload_bytes == 0:
                self._finish()
        return view[wanted:]

    def _take_payload(self, view: memoryview) -> memoryview:
        wanted = self._payload_bytes - len(self._payload)
        self._payload.append(view[:wanted])
        if len(self._payload) == self._payload_bytes:
            self._finish()
        return view[wanted:]

    def _finish(self) -> None:
        assert self._message is not None
        self._frames.append((self._message, self._payload))
        self.frames += 1
        self._message, self._payload, self._header_bytes, self._payload_bytes = None, Payload(), None, 0
