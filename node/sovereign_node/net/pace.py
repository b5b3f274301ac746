"""Limits on bytes per second, shared by all connections of a node."""

import trio

# What may pass at once after a pause. Short, so that the rate holds over any second; long enough for whole records.
BURST_S = 0.25
# Pieces into which a batch is cut, so that one connection does not hold the line for seconds at a low rate.
_PIECE_S = 0.1
_SMALLEST_PIECE_BYTES = 4096


class Pace:
    """Lets bytes through at a rate, in the order in which tasks ask.

    Args:
        bytes_per_s: above 0.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self.piece_bytes = max(_SMALLEST_PIECE_BYTES, int(bytes_per_s * _PIECE_S))
        # When everything that was let through so far would have passed at exactly the rate.
        self._paid_until = float("-inf")

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        now = trio.current_time()
        begins = max(self._paid_until, now - BURST_S)
        self._paid_until = begins + count / self.bytes_per_s
        await trio.sleep(max(0.0, begins - now))


def pace_or_none(bytes_per_s: int) -> Pace | None:
    """Make a limit; 0 is none."""
    return Pace(bytes_per_s) if bytes_per_s > 0 else None
