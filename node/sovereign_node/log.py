"""Structured log events: a past-tense name and fields with units, one redaction step."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

# Fields whose values must never reach a log, whoever adds them.
SECRET_FIELDS = frozenset({"passphrase", "seed", "secret", "kit", "token", "key", "private_key"})
MAX_VALUE_CHARACTERS = 300
MAX_LINES_PER_MINUTE = 100


def redact(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secret fields and cut what a peer could have made long."""
    for name, value in event.items():
        if name in SECRET_FIELDS:
            event[name] = "[hidden]"
        elif isinstance(value, bytes):
            event[name] = value[:32].hex()
        elif isinstance(value, str):
            event[name] = _harmless(value)
    return event


def _harmless(text: str) -> str:
    """Spell what steers a terminal or starts a line of its own, and cut."""
    if len(text) > MAX_VALUE_CHARACTERS:
        text = text[:MAX_VALUE_CHARACTERS] + "…"
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class LineBudget:
    """Drops events beyond so many of one name per minute, and counts them in the next one that passes.

    Peers cause most events, with as many identities as they like, so that a limit per peer would be none.

    Args:
        clock: seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute = -1
        self._lines: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass an event on, or drop it."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute = minute
            self._lines.clear()
        name = str(event.get("event"))
        self._lines[name] += 1
        if self._lines[name] > MAX_LINES_PER_MINUTE:
            self._left_out[name] += 1
            raise structlog.DropEvent
        if left_out := self._left_out.pop(name, 0):
            event["left_out_before"] = left_out
        return event


def configure_logging(level: str = "warning") -> None:
    """Send events of ``level`` and above to standard error, one line each.

    Args:
        level: debug, info, warning or error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            LineBudget(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # libp2p logs each refused peer as an error with a traceback; our own guards report what matters.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
