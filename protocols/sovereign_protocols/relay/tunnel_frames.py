"""Frames of a tunnel.

    offset  size  field
    0       1     type
    1       8     sequence number, big-endian: 0 for the first frame of each direction, then one more each
    9       n     body

The bodies are fixed: REQUEST and ACCEPT carry 4 bytes of magic, 16 bytes of inbox token, the sender's window and
its largest frame (4 bytes each); DATA carries bytes of the stream; CREDIT 8 bytes; CLOSE one byte; EOF, PING and
PONG nothing.

Source: protocols/specs/relay.md, "Messages".
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.relay.subjects import INBOX_TOKEN_BYTES

MAGIC: Final = b"SVT1"
MAX_FRAME_BYTES: Final = 65_536
# Below this the frame header alone would cost more than a percent.
MIN_FRAME_BYTES: Final = 1_024
MIN_WINDOW_BYTES: Final = 65_536
MAX_WINDOW_BYTES: Final = 16 * 1024 * 1024
HEAD: Final = struct.Struct(">BQ")
_OPENING: Final = struct.Struct(">4s16sII")
_CREDIT: Final = struct.Struct(">Q")


class FrameType(IntEnum):
    """What a frame is for."""

    REQUEST = 0
    ACCEPT = 1
    DATA = 2
    CREDIT = 3
    EOF = 4
    CLOSE = 5
    PING = 6
    PONG = 7


class CloseCode(IntEnum):
    """Why a side closes."""

    DONE = 0
    MALFORMED = 1
    SEQUENCE = 2
    CREDIT = 3
    BUSY = 4
    TIMEOUT = 5


BODY_BYTES: Final = {
    FrameType.REQUEST: _OPENING.size,
    FrameType.ACCEPT: _OPENING.size,
    FrameType.CREDIT: _CREDIT.size,
    FrameType.EOF: 0,
    FrameType.CLOSE: 1,
    FrameType.PING: 0,
    FrameType.PONG: 0,
}


@dataclass(frozen=True)
class Opening:
    """Body of REQUEST and ACCEPT.

    Attributes:
        inbox: 16 random bytes that name where the sender receives.
        window_bytes: stream bytes that it takes before the first CREDIT.
        max_frame_bytes: largest frame that it takes, head included.
    """

    inbox: bytes
    window_bytes: int
    max_frame_bytes: int


def encode_head(kind: FrameType, sequence: int) -> bytes:
    """Encode the nine bytes before a body."""
    return HEAD.pack(kind, sequence)


def encode_opening(kind: FrameType, opening: Opening) -> bytes:
    """Encode a whole REQUEST or ACCEPT."""
    body = _OPENING.pack(MAGIC, opening.inbox, opening.window_bytes, opening.max_frame_bytes)
    return HEAD.pack(kind, 0) + body


def encode_credit(sequence: int, limit_bytes: int) -> bytes:
    """Encode a whole CREDIT; the limit counts stream bytes from the beginning of the tunnel."""
    return HEAD.pack(FrameType.CREDIT, sequence) + _CREDIT.pack(limit_bytes)


def encode_close(sequence: int, code: CloseCode) -> bytes:
    """Encode a whole CLOSE."""
    return HEAD.pack(FrameType.CLOSE, sequence) + bytes([code])


def decode_head(frame: bytes) -> tuple[FrameType, int]:
    """Read type and sequence number, and check the size of the body.

    Raises:
        RemoteProtocolError: too short, too long, an unknown type, or a body of the wrong size.
    """
    if not HEAD.size <= len(frame) <= MAX_FRAME_BYTES:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "size of a frame")
    number, sequence = HEAD.unpack_from(frame)
    try:
        kind = FrameType(number)
    except ValueError as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "unknown frame type") from error
    if BODY_BYTES.get(kind, len(frame) - HEAD.size) != len(frame) - HEAD.size:
        raise RemoteProtocolError(ErrorCode.MALFORMED, f"body of {kind.name}")
    return kind, sequence


def decode_opening(frame: bytes) -> Opening:
    """Read the body of a frame that `decode_head` found to be REQUEST or ACCEPT.

    Raises:
        RemoteProtocolError: another version, or a limit out of range.
    """
    magic, inbox, window, max_frame = _OPENING.unpack_from(frame, HEAD.size)
    if magic != MAGIC:
        raise RemoteProtocolError(ErrorCode.UNSUPPORTED_VERSION, "magic of a tunnel")
    if not MIN_WINDOW_BYTES <= window <= MAX_WINDOW_BYTES or not MIN_FRAME_BYTES <= max_frame <= MAX_FRAME_BYTES:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "limits of a tunnel")
    assert len(inbox) == INBOX_TOKEN_BYTES
    return Opening(inbox, window, max_frame)


def decode_credit(frame: bytes) -> int:
    """Read the limit of a CREDIT."""
    (limit,) = _CREDIT.unpack_from(frame, HEAD.size)
    return int(limit)


def decode_close(frame: bytes) -> CloseCode:
    """Read the code of a CLOSE; an unknown one counts as malformed."""
    try:
        return CloseCode(frame[HEAD.size])
    except ValueError:
        return CloseCode.MALFORMED
