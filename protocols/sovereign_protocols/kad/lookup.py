"""The walk towards the contacts nearest to a place, as a state machine.

Each candidate goes *new -> asked -> (slow) -> answered | failed*. At most ``parallel`` candidates are
*asked* at a time. One that has been silent for ``hedge_s`` becomes *slow*: its answer still counts, but the
next candidate is asked beside it, and after ``patience_s`` nothing waits for it any more. So a hung peer
costs one short delay, not a whole deadline for each round.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sovereign_protocols.kad.keys import kad_id
from sovereign_protocols.kad.messages import Contact

# A lookup is over after a few dozen calls; an adversary who names ever nearer peers must not prolong it.
MAX_CALLS = 96
MAX_CANDIDATES = 512


class Status(Enum):
    """Where a candidate stands."""

    NEW = "new"
    ASKED = "asked"
    SLOW = "slow"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LookupLimits:
    """How wide and how patient a lookup is.

    Attributes:
        parallel: calls in flight that are not slow (alpha).
        width: the lookup is complete when this many nearest candidates have answered.
        hedge_s: silence after which the next candidate is asked as well, in seconds.
        patience_s: silence after which the end no longer waits for a candidate, in seconds.
    """

    parallel: int = 4
    width: int = 20
    hedge_s: float = 0.3
    patience_s: float = 1.0


@dataclass(slots=True)
class _Candidate:
    contact: Contact
    distance: int
    status: Status = Status.NEW
    asked_at: float = 0.0


class Lookup:
    """One walk. The caller asks the contacts that ``next_calls`` names and reports what came of it."""

    def __init__(
        self,
        target: int,
        seeds: Iterable[Contact],
        limits: LookupLimits = LookupLimits(),
        *,
        own_peer_id: bytes = b"",
    ) -> None:
        self._target = target
        self._limits = limits
        self._own_peer_id = own_peer_id
        self._candidates: dict[bytes, _Candidate] = {}
        self._calls = 0
        self._now = 0.0
        self._stopped = False
        self._add(seeds)

    @property
    def calls(self) -> int:
        """How many candidates have been asked."""
        return self._calls

    @property
    def finished(self) -> bool:
        """Whether nothing more is worth waiting for."""
        if self._stopped:
            return True
        return not self._askable() and not any(self._holds_the_end(item) for item in self._nearest_open())

    def stop(self) -> None:
        """End the walk: the caller has what it wanted."""
        self._stopped = True

    def next_calls(self, now: float) -> list[Contact]:
        """Return the candidates to ask now; they count as asked from this moment.

        Args:
            now: caller's clock, seconds.
        """
        self.handle_timer(now)
        if self._stopped:
            return []
        busy = sum(item.status is Status.ASKED for item in self._candidates.values())
        chosen = self._askable()[: max(0, self._limits.parallel - busy)]
        for item in chosen:
            item.status, item.asked_at = Status.ASKED, now
        self._calls += len(chosen)
        return [item.contact for item in chosen]

    def receive_answer(self, peer_id: bytes, closer: Iterable[Contact], now: float) -> None:
        """Note an answer and the contacts in it.

        Args:
            peer_id: who answered.
            closer: contacts that it named.
            now: caller's clock, seconds.
        """
        self._now = max(self._now, now)
        item = self._candidates.get(peer_id)
        if item is None or item.status not in (Status.ASKED, Status.SLOW):
            return
        item.status = Status.ANSWERED
        self._add(closer)

    def receive_failure(self, peer_id: bytes, now: float) -> None:
        """Note that a call failed.

        Args:
            peer_id: who was asked.
            now: caller's clock, seconds.
        """
        self._now = max(self._now, now)
        item = self._candidates.get(peer_id)
        if item is not None and item.status in (Status.ASKED, Status.SLOW):
            item.status = Status.FAILED

    def next_timer(self) -> float | None:
        """Return when ``handle_timer`` has something to do (caller's clock), or None."""
        # The same sums as in the comparisons: a difference may round to just below the limit for ever.
        moments = [
            item.asked_at + (self._limits.hedge_s if item.status is Status.ASKED else self._limits.patience_s)
            for item in self._candidates.values()
            if item.status in (Status.ASKED, Status.SLOW)
        ]
        return min((moment for moment in moments if moment > self._now), default=None)

    def handle_timer(self, now: float) -> None:
        """Let silent candidates become slow.

        Args:
            now: caller's clock, seconds.
        """
        self._now = max(self._now, now)
        for item in self._candidates.values():
            if item.status is Status.ASKED and item.asked_at + self._limits.hedge_s <= self._now:
                item.status = Status.SLOW

    def answered(self, count: int) -> list[Contact]:
        """Return the contacts that answered, nearest first.

        Args:
            count: how many at most.
        """
        items = [item for item in self._candidates.values() if item.status is Status.ANSWERED]
        items.sort(key=lambda item: item.distance)
        return [item.contact for item in items[:count]]

    def settled(self, width: int) -> bool:
        """Tell whether the nearest responsive candidates have all answered.

        Args:
            width: how many of them.
        """
        items = [item for item in self._candidates.values() if item.status not in (Status.FAILED, Status.SLOW)]
        items.sort(key=lambda item: item.distance)
        return all(item.status is Status.ANSWERED for item in items[:width])

    def silent(self, now: float, age_s: float) -> list[Contact]:
        """Return the contacts that were asked and have not answered for a while.

        Args:
            now: caller's clock, seconds.
            age_s: how long is a while, in seconds.
        """
        return [
            item.contact
            for item in self._candidates.values()
            if item.status in (Status.ASKED, Status.SLOW) and item.asked_at + age_s <= now
        ]

    def _add(self, contacts: Iterable[Contact]) -> None:
        for contact in contacts:
            if contact.peer_id in self._candidates or contact.peer_id == self._own_peer_id:
                continue
            if len(self._candidates) >= MAX_CANDIDATES:
                return
            distance = kad_id(contact.peer_id) ^ self._target
            self._candidates[contact.peer_id] = _Candidate(contact, distance)

    def _nearest_open(self) -> list[_Candidate]:
        """The nearest candidates up to the one that completes the width, failed and given-up ones left out."""
        items = [item for item in self._candidates.values() if not self._is_out(item)]
        items.sort(key=lambda item: item.distance)
        nearest: list[_Candidate] = []
        counted = 0
        for item in items:
            nearest.append(item)
            counted += item.status is not Status.SLOW
            if counted >= self._limits.width:
                break
        return nearest

    def _askable(self) -> list[_Candidate]:
        if self._calls >= MAX_CALLS:
            return []
        return [item for item in self._nearest_open() if item.status is Status.NEW]

    def _is_out(self, item: _Candidate) -> bool:
        given_up = item.status is Status.SLOW and item.asked_at + self._limits.patience_s <= self._now
        return item.status is Status.FAILED or given_up

    @staticmethod
    def _holds_the_end(item: _Candidate) -> bool:
        return item.status in (Status.ASKED, Status.SLOW)
