"""Limits on bytes per second, as users write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sovereign_node.units import parse_size

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIMES = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")
_RATE = re.compile(r"^(up|down)=(.+)$")


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of both directions, bytes per second; 0 is none."""

    upload_bytes_per_s: int = 0
    download_bytes_per_s: int = 0


UNLIMITED = Rates()


@dataclass(frozen=True)
class Period:
    """Other limits at some times of the week.

    Args:
        days: on which it begins, 0 is Monday.
        from_minute: of the day, local time.
        until_minute: of the same day, or of the next if it is not after the beginning.
        upload_bytes_per_s: limit, None for the usual one.
        download_bytes_per_s: limit, None for the usual one.
    """

    days: frozenset[int]
    from_minute: int
    until_minute: int
    upload_bytes_per_s: int | None
    download_bytes_per_s: int | None

    def holds_at(self, moment: datetime) -> bool:
        """Tell whether a local time lies within."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.from_minute < self.until_minute:
            return day in self.days and self.from_minute <= minute < self.until_minute
        began_yesterday = (day - 1) % 7 in self.days and minute < self.until_minute
        return began_yesterday or (day in self.days and minute >= self.from_minute)


def parse_period(text: str) -> Period:
    """Read ``[DAYS] HH:MM-HH:MM [up=SIZE] [down=SIZE]``.

    DAYS is a day or a range of days, such as ``sun`` or ``mon-fri``; every day without it. A period may pass
    midnight. SIZE is per second, 0 for no limit.

    Raises:
        ValueError: says what is wrong.
    """
    words = text.lower().split()
    days = frozenset(range(7))
    if words and not _TIMES.match(words[0]):
        days = _days(words.pop(0), text)
    times = _TIMES.match(words.pop(0)) if words else None
    if times is None:
        raise ValueError(f"{text!r} has no times: write for example '22:00-06:00 up=0 down=0'")
    first_h, first_min, last_h, last_min = map(int, times.groups())
    upload, download = _rates(words, text)
    return Period(days, first_h * 60 + first_min, last_h * 60 + last_min, upload, download)


def parse_peer_limit(text: str) -> tuple[str, Rates]:
    """Read ``PEER [up=SIZE] [down=SIZE]``, where PEER is a peer id.

    Raises:
        ValueError: says what is wrong.
    """
    peer_id, *words = text.split()
    if not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{40,60}", peer_id):
        raise ValueError(f"{text!r} does not begin with a peer id, as `sovereign peers --json` shows it")
    upload, download = _rates(words, text)
    return peer_id, Rates(upload or 0, download or 0)


def _days(word: str, text: str) -> frozenset[int]:
    first, _, last = word.partition("-")
    if first not in DAYS or (last or first) not in DAYS:
        raise ValueError(f"{text!r}: {word!r} is neither a time nor a day: write for example mon-fri 08:00-18:00")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return frozenset((begin + count) % 7 for count in range((end - begin) % 7 + 1))


def _rates(words: Sequence[str], text: str) -> tuple[int | None, int | None]:
    found: dict[str, int] = {}
    for word in words:
        match = _RATE.match(word)
        if match is None or match.group(1) in found:
            raise ValueError(f"{text!r}: {word!r} is not a limit: write for example up=500KB down=2MB")
        found[match.group(1)] = parse_size(match.group(2).removesuffix("/s"))
    if not found:
        raise ValueError(f"{text!r} limits nothing: write for example up=500KB down=2MB")
    return found.get("up"), found.get("down")
