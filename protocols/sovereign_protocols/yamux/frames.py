"""Frame headers.

Layout, big-endian (Source: the public Yamux specification, section "Framing"):

    offset  bytes  field
    0       1      version, always 0
    1       1      type: 0 DATA, 1 WINDOW_UPDATE, 2 PING, 3 GO_AWAY
    2       2      flags: 1 SYN, 2 ACK, 4 FIN, 8 RST
    4       4      stream id; 0 for PING and GO_AWAY
    8       4      length of the data, credit to add, opaque value, or error code
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from sovereign_protocols.yamux.errors import YamuxViolationError

PROTOCOL_ID = "/yamux/1.0.0"
VERSION = 0
HEADER = struct.Struct(">BBHII")
HEADER_BYTES = HEADER.size
INITIAL_WINDOW_BYTES = 256 * 1024
MAX_UINT32 = 2**32 - 1


class FrameType(IntEnum):
    """What a frame is for."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """Bits of the flags field."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(IntEnum):
    """Why a connection ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


ALL_FLAGS = Flag.SYN | Flag.ACK | Flag.FIN | Flag.RST


@dataclass(frozen=True)
class Header:
    """The 12 bytes in front of every frame.

    Attributes:
        type: a `FrameType`.
        flags: any of `Flag`.
        stream_id: 0 for the connection itself.
        length: bytes of data, credit, opaque value or error code; 32 bits.
    """

    type: int
    flags: int
    stream_id: int
    length: int

    def encode(self) -> bytes:
        """Write the 12 bytes."""
        return HEADER.pack(VERSION, self.type, self.flags, self.stream_id, self.length)


def decode_header(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int, int, int]:
    """Read and check a header.

    Args:
        data: at least 12 bytes from `offset` on.
        offset: where the header starts.

    Returns:
        Type, flags, stream id and length.

    Raises:
        YamuxViolationError: unknown version, type or flag, or a stream id that does not fit the type.
    """
    version, frame_type, flags, stream_id, length = HEADER.unpack_from(data, offset)
    if version != VERSION:
        raise YamuxViolationError(f"version {version} is not spoken here")
    if frame_type > FrameType.GO_AWAY:
        raise YamuxViolationError(f"unknown frame type {frame_type}")
    if flags & ~int(ALL_FLAGS):
        raise YamuxViolationError(f"unknown flags {flags:#x}")
    if (stream_id == 0) != (frame_type >= FrameType.PING):
        raise YamuxViolationError(f"stream id {stream_id} does not fit frame type {frame_type}")
    return frame_type, flags, stream_id, length
