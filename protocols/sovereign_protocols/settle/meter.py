"""Counting usage in O(1): byte-seconds grow with time, everything else with events.

Source: protocols/specs/settle.md, "Metering".
"""

from dataclasses import dataclass, replace

from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.prices import Usage


@dataclass(frozen=True)
class Meter:
    """The counters of one contract, cumulative since its start.

    Args:
        at: until when byte-seconds are counted, Unix seconds UTC; never moves back.
        stored_bytes: now.
        stored_chunks: now.
        byte_seconds: exact, not limited to 64 bits.
        bytes_in: moved to the provider.
        bytes_out: moved from the provider.
    """

    at: int
    stored_bytes: int = 0
    stored_chunks: int = 0
    byte_seconds: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def advance(self, at: int) -> "Meter":
        """Count up to a time; an earlier time changes nothing, so a clock set back never bills twice."""
        if at <= self.at:
            return self
        return replace(self, at=at, byte_seconds=self.byte_seconds + self.stored_bytes * (at - self.at))

    def put(self, size_bytes: int, at: int, *, chunks: int = 1) -> "Meter":
        """Count chunks that a receipt names, from its time on."""
        now = self.advance(at)
        return replace(now, stored_bytes=now.stored_bytes + size_bytes, stored_chunks=now.stored_chunks + chunks)

    def release(self, size_bytes: int, at: int, *, chunks: int = 1) -> "Meter":
        """Stop counting chunks at the time of their release receipt.

        Raises:
            LocalProtocolError: more is released than is stored.
        """
        now = self.advance(at)
        if size_bytes > now.stored_bytes or chunks > now.stored_chunks:
            raise LocalProtocolError("more is released than is stored")
        return replace(now, stored_bytes=now.stored_bytes - size_bytes, stored_chunks=now.stored_chunks - chunks)

    def move(self, *, bytes_in: int = 0, bytes_out: int = 0) -> "Meter":
        """Count transferred bytes."""
        return replace(self, bytes_in=self.bytes_in + bytes_in, bytes_out=self.bytes_out + bytes_out)

    def usage_since(self, earlier: "Meter") -> Usage:
        """Give what was used between two readings, for the prices in force between them."""
        moved = self.bytes_in + self.bytes_out - earlier.bytes_in - earlier.bytes_out
        return Usage(self.byte_seconds - earlier.byte_seconds, moved)
