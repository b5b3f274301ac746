"""Sending what a restore has written to the disk early, and out of the system's memory once it is there."""

from __future__ import annotations

import os
import threading
import time
from collections import deque

# Less than this at once is left to the system.
LARGE_BYTES = 256 * 1024
# What was written last, and is probably not on the disk yet.
_LAG_BYTES = 64 * 1024 * 1024
_MOST_PIECES = 128
# A disk that takes less than this in a second of waiting is slower than the restore; waiting on would be no gain.
_SLOW_BYTES_PER_S = 64 * 1024 * 1024
_PATIENCE_S = 1.0


class WriteBehind:
    """Keeps large restores from filling the memory with what nobody reads soon; safe to use from several threads.

    Without it every write has to find fresh pages and everything else is pushed out of the page cache; where the
    system has given unused memory back, as virtual machines do, a fresh page costs several times the copy into it.

    Args:
        lag_bytes: so much stays in memory before it is dropped.
    """

    def __init__(self, lag_bytes: int = _LAG_BYTES) -> None:
        self._lag_bytes = lag_bytes
        self._lock = threading.Lock()
        self._written: deque[tuple[int, int, int]] = deque()
        self._written_bytes = 0
        self._total_bytes = 0
        self._waited_s = 0.0
        self._is_worth_it = hasattr(os, "posix_fadvise")

    def wrote(self, descriptor: int, at: int, size_bytes: int) -> None:
        """Note a large piece of a file that was just written."""
        if not self._is_worth_it:
            return
        started = time.monotonic()
        self._advise(descriptor, at, size_bytes)
        with self._lock:
            self._written.append((os.dup(descriptor), at, size_bytes))
            self._written_bytes += size_bytes
        self._drop(self._lag_bytes, _MOST_PIECES)
        with self._lock:
            self._waited_s += time.monotonic() - started
            self._total_bytes += size_bytes
            is_slow = self._total_bytes < self._waited_s * _SLOW_BYTES_PER_S
            if self._waited_s > _PATIENCE_S and is_slow:
                self._is_worth_it = False

    def close(self) -> None:
        """Let go of all files."""
        self._drop(0, 0)

    def _drop(self, keep_bytes: int, keep_pieces: int) -> None:
        while True:
            with self._lock:
                if not self._written or (self._written_bytes <= keep_bytes and len(self._written) <= keep_pieces):
                    return
                descriptor, at, size_bytes = self._written.popleft()
                self._written_bytes -= size_bytes
            try:
                self._advise(descriptor, at, size_bytes)
            finally:
                os.close(descriptor)

    @staticmethod
    def _advise(descriptor: int, at: int, size_bytes: int) -> None:
        """Begin to write the piece, or drop it if it is written; a hint, which a file system may not know."""
        try:
            os.posix_fadvise(descriptor, at, size_bytes, os.POSIX_FADV_DONTNEED)
        except OSError:
            return
