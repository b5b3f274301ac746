"""Keeping a place at one or two relays while nobody can reach this node directly."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.clock import Clock, wall_clock
from sovereign_node.net.circuit.addresses import CircuitAddress
from sovereign_node.net.circuit.errors import CircuitError
from sovereign_node.net.circuit.transport import CircuitTransport
from sovereign_node.net.errors import ProtocolNotSupportedError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from sovereign_node.net.network import Network

_log = structlog.get_logger(__name__)

# Two, so that one relay that goes away takes nothing with it but its own circuits.
WANTED_RELAYS = 2
# A peer that does not relay, or refuses, is asked again after this.
REFUSED_PAUSE_S = 600.0
# One that did not answer may just be starting again; the later ones are for those that are gone.
FAILED_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 20.0)
TICK_S = 30.0
SHORTEST_RENEWAL_S = 30.0


# A relay that was lost is asked again for some minutes, although nothing else leads back to it.
MAX_FORMER = 4
FORMER_FAILURES = 10


@dataclass(slots=True)
class _Held:
    renew_at: float


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    failures: int = 0


class Reservations:
    """Reserves at relays, renews in time, and moves to others when one is lost.

    Args:
        network: tells when a relay's connection ends.
        transport: asks the relays.
        candidates: peer ids of possible relays, best first; they are connected or have known addresses.
        is_needed: whether relays are wanted now.
        clock: wall time, to read the end of a reservation.
    """

    def __init__(
        self,
        network: "Network",
        transport: CircuitTransport,
        *,
        candidates: Callable[[], Sequence[str]],
        is_needed: Callable[[], bool],
        clock: Clock = wall_clock,
    ) -> None:
        self._network = network
        self._transport = transport
        self._candidates = candidates
        self._is_needed = is_needed
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._pauses: dict[str, _Pause] = {}
        self._former: dict[str, None] = {}
        self._woken = trio.Event()

    def check_soon(self) -> None:
        """Look for work now, as when the node has learnt that it cannot be reached, or that the network is back."""
        self._pauses.clear()
        self._woken.set()

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        unwatch = self._network.watch_connections(self._note_connection)
        task_status.started()
        try:
            while True:
                if self._is_needed():
                    await self._renew()
                    await self._fill()
                else:
                    self._release()
                with trio.move_on_after(self._pause_s()):
                    await self._woken.wait()
                self._woken = trio.Event() if self._woken.is_set() else self._woken
        finally:
            unwatch()
            self._release()

    def _note_connection(self, peer_id: str, connected: bool) -> None:
        if connected and len(self._held) < WANTED_RELAYS:
            # It may have been restarted, with another mind.
            self._pauses.pop(peer_id, None)
            self._woken.set()
        elif not connected and peer_id in self._held:
            # The relay has forgotten us with the connection.
            self._lose(peer_id)
            self._former[peer_id] = None
            if len(self._former) > MAX_FORMER:
                del self._former[next(iter(self._former))]
            self._woken.set()

    def _pause_s(self) -> float:
        now = trio.current_time()
        due = [held.renew_at for held in self._held.values()]
        if len(self._held) < WANTED_RELAYS:
            due += [pause.until for pause in self._pauses.values() if pause.until > now]
        return max(1.0, min([TICK_S, *(at - now for at in due)]))

    def _release(self) -> None:
        for relay_id in list(self._held):
            self._lose(relay_id)

    def _lose(self, relay_id: str) -> None:
        self._held.pop(relay_id, None)
        self._transport.drop(relay_id)

    async def _renew(self) -> None:
        now = trio.current_time()
        for relay_id in [relay_id for relay_id, held in self._held.items() if held.renew_at <= now]:
            if not await self._reserve(relay_id):
                self._lose(relay_id)

    async def _fill(self) -> None:
        for relay_id in dict.fromkeys([*self._candidates(), *self._former]):
            if len(self._held) >= WANTED_RELAYS:
                return
            pause = self._pauses.get(relay_id)
            waits = pause is not None and pause.until > trio.current_time()
            if relay_id not in self._held and relay_id != self._network.peer_id and not waits:
                await self._reserve(relay_id)

    async def _reserve(self, relay_id: str) -> bool:
        now = trio.current_time()
        try:
            reservation = await self._transport.reserve(CircuitAddress(relay_id, ""))
        except CircuitError as error:
            _log.debug("reservation_failed", relay_id=relay_id, reason=error.reason)
            is_final = error.status is not None or isinstance(error.__cause__, ProtocolNotSupportedError)
            self._pause(relay_id, now, is_final=is_final)
            return False
        left_s = reservation.expires_at - self._clock()
        self._held[relay_id] = _Held(now + max(SHORTEST_RENEWAL_S, left_s / 2))
        self._pauses.pop(relay_id, None)
        self._former.pop(relay_id, None)
        return True

    def _pause(self, relay_id: str, now: float, *, is_final: bool) -> None:
        pause = self._pauses.setdefault(relay_id, _Pause())
        pause_s = REFUSED_PAUSE_S if is_final else FAILED_PAUSES_S[min(pause.failures, len(FAILED_PAUSES_S) - 1)]
        # Jitter, so that the peers of a restarted relay do not come back in step.
        pause.until = now + pause_s * random.uniform(0.75, 1.25)  # noqa: S311
        pause.failures += 1
        if is_final or pause.failures >= FORMER_FAILURES:
            self._former.pop(relay_id, None)
