"""Everything that makes this node reachable and its paths better: relays, dial-backs, holes, changes of network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.errors import NodeError
from sovereign_node.net.circuit import CircuitTransport, RelayService, Reservations
from sovereign_node.net.circuit.punch import HolePuncher
from sovereign_node.net.nats import NatsTransport
from sovereign_node.net.nats.client import ClientStatus
from sovereign_node.net.network import Network
from sovereign_node.net.paths import CIRCUIT_END, is_immediate
from sovereign_node.net.reachability import Reach, Reachability, ReachReport, ports_of_addresses
from sovereign_node.net.reachability_server import ReachabilityServer
from sovereign_node.net.surroundings import Surroundings
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_protocols.circuit.relay_book import RelayLimits

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

# A connection through a third party is left alone for a moment, then improved more and more rarely.
FIRST_IMPROVEMENT_S = 1.0
LATER_IMPROVEMENTS_S = (5.0, 15.0, 30.0, 60.0, 300.0, 900.0)
IMPROVE_TICK_S = 1.0
# A peer that has come may be a relay, for us and for others, who need a moment to reserve there.
HASTENED_S = 4.0
MAX_IMPROVING = 4
MAX_SHARED_RELAYS = 2
MAX_RETURNS = 32


@dataclass(slots=True)
class _Plan:
    due_at: float
    attempts: int = 0


class Connectivity:
    """Runs relaying, reachability checks and path improvements of one node.

    Args:
        network: this node's connections.
        config: roles and configured addresses.
        finder: looks for addresses of peers.
        nats: the configured message brokers, None without.
        relay_candidates: peer ids of possible relays, best first.
        is_favoured: whether a peer's circuits are carried without the limits for strangers, and its connection is
            kept when there are too many.
        on_surroundings: called when the machine woke up or is in another network.
        is_paused: whether bytes of others should not be carried now, as on a metered network.
        clock: wall time.
    """

    def __init__(
        self,
        network: Network,
        config: Config,
        finder: PeerFinder,
        nats: NatsTransport | None,
        *,
        relay_candidates: Callable[[], Sequence[str]],
        is_favoured: Callable[[str], bool],
        on_surroundings: Callable[[], None],
        is_paused: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._network = network
        self._config = config
        self._finder = finder
        self._nats = nats
        self._relay_candidates = relay_candidates
        self._on_surroundings = on_surroundings
        network.crowd.is_friend = is_favoured
        self.circuits = CircuitTransport(network)
        self.reachability = Reachability(
            network, extra_ports=ports_of_addresses(config.net.announce), on_change=self._note_report
        )
        self.reservations = Reservations(
            network,
            self.circuits,
            candidates=self._candidates,
            is_needed=lambda: self.reachability.report.reach is Reach.UNREACHABLE,
            clock=clock,
        )
        budget = config.net.relay_bytes_per_peer_per_h
        self.relay = RelayService(
            network,
            RelayLimits(data_bytes=budget, budget_bytes=budget),
            is_favoured=is_favoured,
            is_willing=lambda: self.reachability.report.reach is not Reach.UNREACHABLE and not is_paused(),
            clock=clock,
        )
        self._puncher = HolePuncher(network, lambda: self.reachability.report.outside)
        self._plans: dict[str, _Plan] = {}
        self._checks: trio.MemorySendChannel[str] | None = None

    def shared_ways(self) -> list[str]:
        """List addresses without peer id at which any peer may be that uses the same relays or brokers."""
        relays = [
            f"/p2p/{relay_id}{CIRCUIT_END}"
            for relay_id in dict.fromkeys([*self.circuits.relays(), *self._candidates()])
            if self._network.is_connected(relay_id)
        ]
        return relays[:MAX_SHARED_RELAYS] + (self._nats.addresses() if self._nats is not None else [])

    def brokers(self) -> list[ClientStatus]:
        """Describe the connections to the configured message brokers."""
        return self._nats.status() if self._nats is not None else []

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        self._network.add_transport(self.circuits)
        ReachabilityServer(self._network).install()
        self._puncher.install()
        send, changes = trio.open_memory_channel[str](1)
        self._checks = send
        unwatch = self._network.watch_connections(self._hasten)
        try:
            await self._run_parts(changes, task_status)
        finally:
            unwatch()

    def _hasten(self, _peer_id: str, connected: bool) -> None:
        """Try again soon what did not work before somebody came."""
        if connected:
            soon = trio.current_time() + HASTENED_S
            for plan in self._plans.values():
                plan.due_at, plan.attempts = min(plan.due_at, soon), 0

    async def _run_parts(self, changes: trio.MemoryReceiveChannel[str], task_status: TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.reachability.run)
            await nursery.start(self.reservations.run)
            if self._config.is_always_on and self._config.net.relay:
                await nursery.start(self.relay.run)
            nursery.start_soon(Surroundings(self._note_surroundings).run)
            nursery.start_soon(self._follow_surroundings, changes)
            nursery.start_soon(self._improve_paths)
            task_status.started()

    def _candidates(self) -> list[str]:
        """List possible relays: the preferred ones, then whoever this node has dialled directly."""
        dialled = [
            info.peer_id for info in self._network.connections() if is_immediate(info.path) and not info.inbound
        ]
        return [*self._relay_candidates(), *dialled]

    def _note_report(self, report: ReachReport) -> None:
        log.info("reachability_changed", reach=report.reach.value, nat=report.nat.value)
        self.reservations.check_soon()

    def _note_surroundings(self, what: str) -> None:
        if self._checks is not None:
            try:
                self._checks.send_nowait(what)
            except trio.WouldBlock:
                log.debug("surroundings_check_pending", what=what)

    async def _follow_surroundings(self, changes: trio.MemoryReceiveChannel[str]) -> None:
        async with trio.open_nursery() as nursery:
            async for _what in changes:
                if self._nats is not None:
                    self._nats.retry_now()
                friends = self._connected_friends()
                # Whoever does not answer now is not there any more: dialling must not wait for the slow checks.
                await self._network.check_connections()
                self._plans.clear()
                self._on_surroundings()
                self.reachability.check_soon()
                self.reservations.check_soon()
                # Customers do not notice that this node has moved; the others are dialled by `Presence`, too.
                for peer_id in friends:
                    if not self._network.is_connected(peer_id):
                        nursery.start_soon(self._return_to, peer_id)

    def _connected_friends(self) -> list[str]:
        connected = {info.peer_id for info in self._network.connections()}
        return [peer_id for peer_id in connected if self._network.crowd.is_friend(peer_id)][:MAX_RETURNS]

    async def _return_to(self, peer_id: str) -> None:
        try:
            await self._finder.connect(peer_id, is_patient=True)
        except NodeError as error:
            log.info("friend_not_reached_again", peer_id=peer_id, reason=error.message)

    async def _improve_paths(self) -> None:
        limiter = trio.CapacityLimiter(MAX_IMPROVING)
        async with trio.open_nursery() as nursery:
            while True:
                for peer_id in self._due():
                    nursery.start_soon(self._improve, peer_id, limiter)
                await trio.sleep(IMPROVE_TICK_S)

    def _due(self) -> list[str]:
        """Return peers whose every connection has a third party between, and whose time has come."""
        now = trio.current_time()
        present: dict[str, bool] = {}
        for info in self._network.connections():
            present[info.peer_id] = present.get(info.peer_id, False) or is_immediate(info.path)
        indirect = {peer_id for peer_id, immediate in present.items() if not immediate}
        for peer_id in set(self._plans) - indirect:
            del self._plans[peer_id]
        due = []
        for peer_id in indirect:
            plan = self._plans.setdefault(peer_id, _Plan(now + FIRST_IMPROVEMENT_S))
            if plan.due_at <= now:
                later_s = LATER_IMPROVEMENTS_S[min(plan.attempts, len(LATER_IMPROVEMENTS_S) - 1)]
                plan.due_at, plan.attempts = now + later_s, plan.attempts + 1
                due.append(peer_id)
        return due

    async def _improve(self, peer_id: str, limiter: trio.CapacityLimiter) -> None:
        async with limiter, trio.open_nursery() as nursery:
            nursery.start_soon(self._finder.improve, peer_id)
            # The end that accepted the connection begins, as its protocol says, so that the two do not cross.
            accepted = [
                info.inbound
                for info in self._network.connections()
                if info.peer_id == peer_id and not is_immediate(info.path)
            ]
            if accepted and accepted[-1] and self._puncher.has_addresses:
                punched = await self._puncher.punch(peer_id)
                log.info("hole_punch_tried", peer_id=peer_id, punched=punched)
