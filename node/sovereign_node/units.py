"""Quantities as people write and read them: sizes, durations, percentages, VIBE and dollars, times.

Parsers raise ValueError with a sentence that says what is accepted; formatters never fail. One GB is 10^9 bytes
and one VIBE is $0.01, as in contracts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

MICRO_VIBE_PER_VIBE = 1_000_000
MICRO_VIBE_PER_DOLLAR = 100 * MICRO_VIBE_PER_VIBE
BYTES_PER_GB = 10**9

_DECIMAL_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_SIZE_FACTORS = {
    "": 1,
    **{name: 1000**power for power, name in enumerate(_DECIMAL_UNITS)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGTP", start=1)},
}
_DURATION_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000, "y": 31_536_000}
_LONGEST_NUMBER = 30  # digits; more is never a quantity and would make Decimal work for nothing


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``5GB``, ``1.5 TB``, ``512MiB`` or ``4096``.

    Raises:
        ValueError: not a size, negative, or not a whole number of bytes.
    """
    number, unit = _split(text)
    factor = _SIZE_FACTORS.get(unit.upper())
    size = None if number is None or factor is None else number * factor
    if size is None or size != int(size):
        raise ValueError(f"{text!r} is not a size: write for example 500MB, 5GB, 1.5TB or 512MiB")
    return int(size)


def format_size(size_bytes: int) -> str:
    """Return a size with three significant digits, ``1.23 GB``."""
    value, power = float(abs(size_bytes)), 0
    # 999.5 and not 1000: what would be rounded up to 1000 belongs to the next unit.
    while value >= 999.5 and power < len(_DECIMAL_UNITS) - 1:
        value /= 1000
        power += 1
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    sign = "-" if size_bytes < 0 else ""
    return f"{sign}{value:.{digits}f} {_DECIMAL_UNITS[power]}"


def format_rate(bytes_per_s: float) -> str:
    """Return a rate, ``12.3 MB/s``."""
    return f"{format_size(int(bytes_per_s))}/s"


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as ``90s``, ``12h``, ``30d`` or ``1y6mo``.

    A month is 30 days and a year 365. A bare ``m`` is refused: it means minutes to some and months to others.

    Raises:
        ValueError: not a duration.
    """
    compact = text.replace(" ", "")
    parts = re.findall(r"(\d{1,9})([a-z]+)", compact.lower())
    complete = "".join(number + unit for number, unit in parts) == compact.lower()
    if not parts or not complete or any(unit not in _DURATION_SECONDS for _, unit in parts):
        raise ValueError(f"{text!r} is not a duration: write for example 90s, 15min, 12h, 30d, 8w, 6mo or 1y6mo")
    return sum(int(number) * _DURATION_SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Return a duration by its two largest units, ``3 h 05 min``, or ``0.4 s``, or ``12 ms``."""
    if 0.0005 <= seconds < 0.05:
        return f"{round(seconds * 1000)} ms"
    if 0.05 <= seconds < 9.95 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def parse_percent(text: str) -> float:
    """Return a percentage such as ``10%`` or ``2.5`` as a number from 0 to 100.

    Raises:
        ValueError: not a percentage, or outside 0 to 100.
    """
    number, unit = _split(text)
    if number is None or unit not in ("", "%") or number > 100:
        raise ValueError(f"{text!r} is not a percentage: write for example 10% or 100%")
    return float(number)


def parse_vibe(text: str) -> int:
    """Return the micro-VIBE of an amount such as ``2``, ``0.5 VIBE`` or ``$0.02``.

    Raises:
        ValueError: not an amount, negative, or finer than one micro-VIBE.
    """
    stripped = text.strip()
    dollars = stripped.startswith("$")
    number, unit = _split(stripped.removeprefix("$"))
    amount = None
    if number is not None and ((unit.upper() == "VIBE" and not dollars) or unit == ""):
        amount = number * (MICRO_VIBE_PER_DOLLAR if dollars else MICRO_VIBE_PER_VIBE)
    if amount is None or amount != int(amount):
        raise ValueError(
            f"{text!r} is not an amount: write for example 2, 0.5 or $0.02 (at most 6 decimals of a VIBE)"
        )
    return int(amount)


def format_vibe(micro_vibe: int) -> str:
    """Return an exact amount, ``10.5 VIBE``."""
    whole, micro = divmod(abs(micro_vibe), MICRO_VIBE_PER_VIBE)
    decimals = f"{micro:06d}".rstrip("0")
    sign = "-" if micro_vibe < 0 else ""
    return f"{sign}{whole}{'.' + decimals if decimals else ''} VIBE"


def format_dollars(micro_vibe: int) -> str:
    """Return what an amount is worth, ``$12.50``; amounts below a dollar are not rounded to whole cents."""
    dollars = Decimal(abs(micro_vibe)) / MICRO_VIBE_PER_DOLLAR
    # Two significant digits at least, but never more than a micro-VIBE is worth.
    digits = 2 if dollars == 0 or dollars >= 1 else min(8, max(4, 1 - dollars.adjusted()))
    whole, _, decimals = f"{dollars:,.{digits}f}".partition(".")
    sign = "-" if micro_vibe < 0 else ""
    return f"{sign}${whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def format_price(micro_vibe: int) -> str:
    """Return an amount in both units, ``2 VIBE ($0.02)``."""
    return f"{format_vibe(micro_vibe)} ({format_dollars(micro_vibe)})"


def format_time(at: int) -> str:
    """Return a time, seconds since 1970 UTC, in the zone of this machine: ``2026-03-01 14:05``."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def format_age(at: int, now: int) -> str:
    """Return how long ago ``at`` was, ``5 min ago``; both in seconds since 1970 UTC."""
    seconds = now - at
    if seconds < 10:
        return "just now"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{round(seconds / unit)} {name} ago"
    return f"{round(seconds / 86_400)} days ago"


def format_count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, ``1 file`` or ``1,234 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _split(text: str) -> tuple[Decimal | None, str]:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*|%)\s*", text, re.ASCII)
    if found is None or len(found[1]) > _LONGEST_NUMBER:
        return None, ""
    try:
        return Decimal(found[1]), found[2]
    except InvalidOperation:  # pragma: no cover - the pattern admits only numbers
        return None, ""
