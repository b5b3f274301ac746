"""What a connection tells its caller, and the bounds it is given."""

from dataclasses import dataclass

from sovereign_protocols.yamux.frames import HEADER_BYTES
from sovereign_protocols.yamux.stream import Stream


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection.

    Attributes:
        max_inbound_streams: streams of the peer that may be open; further ones are reset at once.
        max_outbound_streams: streams of ours that may be open; further ones raise.
        max_window_bytes: credit to which the window of a stream that is read fast may grow.
        max_refresh_bytes: credit is given again at the latest when this much has been read.
        max_frame_bytes: largest DATA payload that we send. Any size up to the credit is accepted.
        growth_period_s: half a window read within this time lets the window double.
    """

    max_inbound_streams: int = 64
    max_outbound_streams: int = 256
    max_window_bytes: int = 4 * 1024 * 1024
    max_refresh_bytes: int = 2 * 1024 * 1024
    max_frame_bytes: int = 4 * 65519 - HEADER_BYTES
    growth_period_s: float = 0.5


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream; it is acknowledged and may be read and written."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamReadable:
    """Bytes or the end of the peer's direction arrived."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream is broken; what was received before may still be read."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The peer answered our ping."""

    value: int


@dataclass(frozen=True, slots=True)
class PeerGoneAway:
    """The peer will not take new streams."""

    code: int


Event = StreamOpened | StreamReadable | StreamReset | PingAnswered | PeerGoneAway
