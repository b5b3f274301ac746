"""How much a provider takes on: requests per second, streams per peer, bytes in memory."""

from typing import Final

import trio

from sovereign_protocols.chunk import limits

#: Requests of one peer that is known, and look-ups of recovery records by strangers, one and all of them.
PEER_RATE: Final = (200.0, 400.0)
STRANGER_RATE: Final = (1.0, 5.0)
ALL_STRANGERS_RATE: Final = (10.0, 40.0)
MAX_STREAMS_PER_PEER: Final = 4
MAX_STREAMS: Final = 256
MAX_HELD_BYTES: Final = 256 * 1024**2
# Buckets of peers that have not asked for long are full again and may be forgotten.
_MAX_BUCKETS: Final = 4_096


class TokenBucket:
    """Allows `rate` events per second and `burst` at once.

    Args:
        rate: tokens per second.
        burst: size of the bucket, full at first.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = 0.0

    def delay_s(self, now: float) -> float:
        """Take a token and return how long to wait before using it."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


class Admission:
    """Counts what the sessions of a service use together.

    Args:
        max_held_bytes: payload bytes of all streams that may wait to be stored. Every stream may hold one chunk
            beyond it, so that a stream in the middle of a frame can always go on.
    """

    def __init__(self, *, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._streams: dict[str, int] = {}
        self._held: dict[object, int] = {}
        self._buckets: dict[tuple[str, bool], TokenBucket] = {}
        self._all_strangers = TokenBucket(*ALL_STRANGERS_RATE)
        self._room = trio.Event()

    def open_stream(self, peer_id: str) -> bool:
        """Count a stream of a peer; False if it has enough, or all have."""
        count = self._streams.get(peer_id, 0)
        if count >= MAX_STREAMS_PER_PEER or sum(self._streams.values()) >= MAX_STREAMS:
            return False
        self._streams[peer_id] = count + 1
        return True

    def close_stream(self, peer_id: str, session: object) -> None:
        """Forget a stream and what it held."""
        self._streams[peer_id] -= 1
        if not self._streams[peer_id]:
            del self._streams[peer_id]
        if self._held.pop(session, 0):
            self._room.set()

    async def wait_for_room(self, session: object, held_bytes: int) -> bool:
        """Note what a session holds and wait until it may receive more; tell whether that took time."""
        self._held[session] = held_bytes
        waited = False
        while self._held[session] > limits.MAX_CHUNK_BYTES and sum(self._held.values()) > self._max_held_bytes:
            waited = True
            # Several sessions wait for the same event.
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        return waited

    def release(self, session: object, size_bytes: int) -> None:
        """Note that a session has stored or dropped bytes."""
        self._held[session] = max(0, self._held.get(session, 0) - size_bytes)
        self._room.set()

    async def pace(self, peer_id: str) -> None:
        """Delay a peer that asks more often than it may."""
        delay_s = self._bucket(peer_id, is_stranger=False).delay_s(trio.current_time())
        if delay_s:
            await trio.sleep(delay_s)

    def admit_stranger(self, peer_id: str) -> bool:
        """Tell whether a caller without certificate may look up a recovery record now."""
        now = trio.current_time()
        return self._bucket(peer_id, is_stranger=True).take(now) and self._all_strangers.take(now)

    def _bucket(self, peer_id: str, *, is_stranger: bool) -> TokenBucket:
        key = (peer_id, is_stranger)
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(*(STRANGER_RATE if is_stranger else PEER_RATE))
            if len(self._buckets) >= _MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
        # Last used is last in the dictionary.
        self._buckets[key] = bucket
        return bucket
