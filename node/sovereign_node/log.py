"""Structured log events: a past-tense name and fields with units, one redaction step."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# Fields whose values must never reach a log, whoever adds them.
SECRET_FIELDS = frozenset({"passphrase", "seed", "secret", "kit", "token", "key", "private_key"})
MAX_VALUE_CHARACTERS = 300


def redact(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secret fields and cut what a peer could have made long."""
    for name, value in event.items():
        if name in SECRET_FIELDS:
            event[name] = "[hidden]"
        elif isinstance(value, bytes):
            event[name] = value[:32].hex()
        elif isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            event[name] = value[:MAX_VALUE_CHARACTERS] + "…"
    return event


def configure_logging(level: str = "warning") -> None:
    """Send events of ``level`` and above to standard error, one line each.

    Args:
        level: debug, info, warning or error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
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
