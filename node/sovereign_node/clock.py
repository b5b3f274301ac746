"""The only place of the node that reads wall time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], int]
"""Seconds since 1970 UTC, as an integer."""


def wall_clock() -> int:
    """Return the time of the system, seconds UTC."""
    return int(time.time())


def local_time() -> datetime:
    """Return the time of the system in its own zone, for what people set by the clock on the wall."""
    return datetime.now().astimezone()
