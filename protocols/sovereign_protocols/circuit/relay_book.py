"""What a relay has promised and carries: reservations, circuits, and what each peer has used.

It reads no clock and draws nothing at random: every call that depends on time is given it.
"""

from collections import Counter
from dataclasses import dataclass

from sovereign_protocols.circuit.messages import Limit, Status


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a relay is willing to do.

    Attributes:
        reservations: peers that may wait for circuits at a time.
        reservation_s: how long a reservation holds.
        circuits: circuits at a time.
        circuits_per_peer: circuits at a time that one peer may be an end of.
        duration_s: how long a stranger's circuit may last; 0 for no limit.
        data_bytes: what a stranger's circuit may carry in each direction; 0 for no limit.
        budget_bytes: what all circuits of one stranger may carry per budget period; 0 for no limit.
        budget_period_s: length of that period.
    """

    reservations: int = 128
    reservation_s: int = 3600
    circuits: int = 64
    circuits_per_peer: int = 8
    duration_s: int = 1800
    data_bytes: int = 1_000_000_000
    budget_bytes: int = 1_000_000_000
    budget_period_s: int = 3600


@dataclass(slots=True)
class _Usage:
    since: float
    used_bytes: int = 0


@dataclass(eq=False, slots=True)
class Circuit:
    """One circuit that was admitted.

    Attributes:
        source: peer that asked for it.
        destination: peer that it leads to.
        limit: what it may do.
        carried_bytes: in both directions.
    """

    source: str
    destination: str
    limit: Limit
    carried_bytes: int = 0


class RelayBook:
    """Admission and accounting of one relay.

    Args:
        limits: for everybody.
    """

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._reservations: dict[str, float] = {}
        self._circuits: set[Circuit] = set()
        self._ends: Counter[str] = Counter()
        self._usage: dict[str, _Usage] = {}

    @property
    def circuits(self) -> int:
        """Circuits now."""
        return len(self._circuits)

    def reservations(self, now: float) -> int:
        """Count the reservations that hold."""
        self._expire(now)
        return len(self._reservations)

    def reserve(self, peer: str, now: float) -> Status:
        """Give a peer a reservation, or prolong the one that it has."""
        self._expire(now)
        if peer not in self._reservations and len(self._reservations) >= self.limits.reservations:
            return Status.RESERVATION_REFUSED
        self._reservations[peer] = now + self.limits.reservation_s
        return Status.OK

    def release(self, peer: str) -> None:
        """Forget the reservation of a peer that has gone."""
        self._reservations.pop(peer, None)

    def limit_of(self, *, favoured: bool) -> Limit:
        """Return what a circuit may do."""
        return Limit() if favoured else Limit(self.limits.duration_s, self.limits.data_bytes)

    def open(self, source: str, destination: str, now: float, *, favoured: bool) -> Circuit | Status:
        """Admit a circuit.

        Args:
            source: who asks.
            destination: whom it wants.
            now: seconds of any clock that only goes forward.
            favoured: whether the limits for strangers are waived.

        Returns:
            The circuit, to be closed by the caller; or why there is none.
        """
        self._expire(now)
        if destination not in self._reservations:
            return Status.NO_RESERVATION
        if len(self._circuits) >= self.limits.circuits:
            return Status.RESOURCE_LIMIT_EXCEEDED
        if max(self._ends[source], self._ends[destination]) >= self.limits.circuits_per_peer:
            return Status.RESOURCE_LIMIT_EXCEEDED
        if not favoured and self.limits.budget_bytes:
            left = self.limits.budget_bytes - self._usage_of(source, now).used_bytes
            if left <= 0:
                return Status.RESOURCE_LIMIT_EXCEEDED
        circuit = Circuit(source, destination, self.limit_of(favoured=favoured))
        self._circuits.add(circuit)
        self._ends.update((source, destination))
        return circuit

    def close(self, circuit: Circuit) -> None:
        """Give back the place of a circuit."""
        self._circuits.discard(circuit)
        self._ends.subtract((circuit.source, circuit.destination))
        self._ends += Counter()

    def carry(self, circuit: Circuit, count: int, now: float) -> bool:
        """Account for bytes that a circuit is about to carry.

        Returns:
            False if the peer's budget is used up: the circuit must be cut.
        """
        circuit.carried_bytes += count
        if circuit.limit == Limit() or not self.limits.budget_bytes:
            return True
        usage = self._usage_of(circuit.source, now)
        usage.used_bytes += count
        return usage.used_bytes <= self.limits.budget_bytes

    def _usage_of(self, peer: str, now: float) -> _Usage:
        usage = self._usage.get(peer)
        if usage is None or now - usage.since >= self.limits.budget_period_s:
            usage = self._usage[peer] = _Usage(now)
        return usage

    def _expire(self, now: float) -> None:
        for peer in [peer for peer, until in self._reservations.items() if until <= now]:
            del self._reservations[peer]
        for peer in [
            peer for peer, usage in self._usage.items() if now - usage.since >= self.limits.budget_period_s
        ]:
            del self._usage[peer]
