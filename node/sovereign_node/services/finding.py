"""One thing that was looked at: the unit of `sovereign doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, what to do.

    Args:
        check: one word.
        level: ok, warning or error.
        message: one sentence.
        next_step: what to do; empty if nothing.
    """

    check: str
    level: str
    message: str
    next_step: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        return vars(self).copy()
