"""How the process of a running node is set up: turns of the GIL, garbage collection, memory kept for reuse."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

# A worker thread that runs Python code gives the event loop its turn after this time at the latest. The default of
# 5 ms shows in round trips while a backup runs; below 1 ms, switching itself begins to cost.
_SWITCH_INTERVAL_S: Final = 0.001
# Collecting the youngest generation every 700 objects, as by default, costs 2 % of a backup.
_YOUNGEST_OBJECTS: Final = 10_000

# Parameters of glibc's mallopt. Chunks of 4 MiB come and go a hundred times per second; left alone, the allocator
# returns each to the system, which zeroes the pages for the next, and keeps a heap for every thread. Measured: 10 %
# less processor time, and 40 MB less at the peak.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_KEPT_BYTES: Final = 64 * 1024 * 1024
# The largest that glibc takes.
_LARGEST_IN_HEAP_BYTES: Final = 32 * 1024 * 1024


def set_up_interpreter() -> None:
    """Call once, after everything has been imported and before threads and the event loop start."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    # What was imported lives as long as the process; looking through its 100,000 objects takes 60 ms.
    gc.freeze()
    gc.set_threshold(_YOUNGEST_OBJECTS, 10, 10)
    _keep_memory()


def _keep_memory() -> None:
    """Let the allocator keep what is used again and again; other C libraries than glibc go without."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
