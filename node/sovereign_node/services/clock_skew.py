"""How far this device's clock is from those of the providers that it talked to."""

from __future__ import annotations

import statistics

from sovereign_node.clock import Clock
from sovereign_node.services.finding import Finding
from sovereign_node.units import format_count, format_duration
from sovereign_protocols.chunk.limits import CLOCK_SKEW_S

MAX_PEERS = 64
#: What a person may want to know of; from CLOCK_SKEW_S on, providers refuse this device.
WORTH_TELLING_S = 120


class ClockSkew:
    """Remembers what others said the time was.

    Args:
        clock: of this device.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s: dict[str, int] = {}

    def note(self, peer_id: str, their_clock_at: int) -> None:
        """Note the time of a peer, seconds UTC, as it said just now."""
        self._ahead_s.pop(peer_id, None)
        self._ahead_s[peer_id] = self._clock() - their_clock_at
        if len(self._ahead_s) > MAX_PEERS:
            del self._ahead_s[next(iter(self._ahead_s))]

    def examine(self) -> Finding:
        """Judge the clock by what most peers said."""
        # 2026-01-01: a device whose battery died starts in 1970, and every signature it makes is refused.
        if self._clock() < 1_767_225_600:
            return Finding("clock", "error", "the clock of this device is wrong", "set date and time")
        if not self._ahead_s:
            return Finding("clock", "ok", "the clock is plausible; no provider was asked yet")
        ahead_s = round(statistics.median(self._ahead_s.values()))
        others = format_count(len(self._ahead_s), "provider")
        if abs(ahead_s) < WORTH_TELLING_S:
            return Finding("clock", "ok", f"the clock agrees with {others} to within {max(1, abs(ahead_s))} s")
        where = "ahead of" if ahead_s > 0 else "behind"
        return Finding(
            "clock",
            "error" if abs(ahead_s) > CLOCK_SKEW_S else "warning",
            f"the clock of this device is {format_duration(abs(ahead_s))} {where} {others}",
            "set date and time, or let the system take them from the network",
        )
