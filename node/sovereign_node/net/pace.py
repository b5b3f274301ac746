"""A rate of bytes per second that several tasks keep together."""

import trio

# What may pass at once after a pause. Short, so that the rate holds over any second; long enough for whole records.
BURST_S = 0.25
# Pieces into which a batch is cut, so that one connection does not hold the line for seconds at a low rate.
_PIECE_S = 0.1
# What a batch of frames needs at least, with the overhead of its record.
_SMALLEST_PIECE_BYTES = 8192
# Checks of life, windows, questions: they go ahead of bulk, which pays for them, while no more than this is owed.
SMALL_BYTES = 1024
SMALL_AHEAD_S = 2.0


class Pace:
    """Lets bytes through at a rate, small pieces first, large ones in the order in which tasks ask.

    Args:
        bytes_per_s: above 0.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        # When everything that was let through so far would have passed at exactly the rate.
        self._paid_until = float("-inf")

    @property
    def piece_bytes(self) -> int:
        """The most that should be asked for at once."""
        return max(_SMALLEST_PIECE_BYTES, int(self.bytes_per_s * _PIECE_S))

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        now = trio.current_time()
        begins = max(self._paid_until, now - BURST_S)
        self._paid_until = begins + count / self.bytes_per_s
        ahead_s = SMALL_AHEAD_S if count <= SMALL_BYTES else 0.0
        await trio.sleep(max(0.0, begins - ahead_s - now))


class JointPace:
    """Several limits that hold together, as that of a peer and that of the node.

    Args:
        paces: at least one.
    """

    def __init__(self, paces: tuple[Pace, ...]) -> None:
        self._paces = paces

    @property
    def piece_bytes(self) -> int:
        """The most that should be asked for at once."""
        return min(pace.piece_bytes for pace in self._paces)

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass everywhere."""
        for pace in self._paces:
            await pace.take(count)
