"""Ten-minute windows: numbering, announced maintenance, and the count that a statement needs.

Source: protocols/specs/probe.md, "Windows".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_protocols.market.prices import MONTH_S, UptimeCount

WINDOW_S: Final = 600
#: Announced maintenance that is left out of the count, for each month of a contract.
MAINTENANCE_S: Final = 30 * 60
#: What half an hour can touch; many short pauses must not take out more.
MAINTENANCE_WINDOWS: Final = MAINTENANCE_S // WINDOW_S + 1


@dataclass(frozen=True)
class Maintenance:
    """A pause that the provider announced.

    Args:
        announced_at: when it was signed, Unix seconds UTC.
        from_at: first second.
        until_at: first second after.
    """

    announced_at: int
    from_at: int
    until_at: int


def window_of(at: int) -> int:
    """Return the number of the window that holds a time, Unix seconds UTC."""
    return at // WINDOW_S


def whole_windows(from_at: int, until_at: int) -> range:
    """Return the numbers of the windows that lie wholly within a span of time."""
    return range(-(-from_at // WINDOW_S), until_at // WINDOW_S)


def excluded_windows(notices: Iterable[Maintenance], *, contract_start_at: int) -> frozenset[int]:
    """Return the windows that announced maintenance takes out of the count.

    In each month of the contract the first 30 minutes count, in the order in which they begin, and no more than 4
    windows; a notice that was signed after its beginning counts for nothing.

    Args:
        notices: of one provider, in any order; the same one twice counts once.
        contract_start_at: from which months are counted, Unix seconds UTC.
    """
    left: dict[int, int] = {}
    windows: dict[int, set[int]] = {}
    done_at = contract_start_at
    for notice in sorted(set(notices), key=lambda item: (item.from_at, item.until_at)):
        # What overlaps an earlier notice was paid for already.
        from_at = max(notice.from_at, done_at)
        if notice.announced_at >= notice.from_at or from_at >= notice.until_at:
            continue
        month = (from_at - contract_start_at) // MONTH_S
        length = min(notice.until_at - from_at, left.get(month, MAINTENANCE_S))
        if length <= 0:
            continue
        left[month] = left.get(month, MAINTENANCE_S) - length
        done_at = from_at + length
        touched = windows.setdefault(month, set())
        fresh = [
            number for number in range(window_of(from_at), window_of(done_at - 1) + 1) if number not in touched
        ]
        touched.update(fresh[: MAINTENANCE_WINDOWS - len(touched)])
    return frozenset().union(*windows.values())


def count_windows(windows: range, observations: Mapping[int, bool], excluded: frozenset[int]) -> UptimeCount:
    """Count the windows of a period.

    Args:
        windows: numbers of the period.
        observations: observed windows, and whether any observer had an answer.
        excluded: windows of announced maintenance.
    """
    good = observed = total = 0
    for number in windows:
        if number in excluded:
            continue
        total += 1
        answer = observations.get(number)
        observed += answer is not None
        good += answer is True
    return UptimeCount(good, observed, total)


def pack_bits(flags: Iterable[bool]) -> bytes:
    """Return flags as bytes, the first one in the highest bit of the first byte, zero bits at the end."""
    text = "".join("1" if flag else "0" for flag in flags)
    return bytes(int(text[start : start + 8].ljust(8, "0"), 2) for start in range(0, len(text), 8))


def unpack_bits(packed: bytes, count: int) -> list[bool]:
    """Return the first ``count`` flags."""
    return [bool(packed[number // 8] & (0x80 >> number % 8)) for number in range(count)]
