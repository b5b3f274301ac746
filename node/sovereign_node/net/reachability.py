"""Whether other peers can reach this node, and at which addresses, as confirmed by others.

The node asks peers to which it is connected to dial it anew. What they say does not count: a port is reachable when
the token for it arrived at our own listener, handed over by the peer that was asked.
"""

import ipaddress
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.connection import ConnectionInfo
from sovereign_node.net.errors import AddressError, NetError, ProtocolNotSupportedError
from sovereign_node.net.paths import is_immediate
from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.messages import encode_frame
from sovereign_protocols.circuit.reach import (
    MAX_MESSAGE_BYTES,
    MAX_PORTS,
    PROTOCOL_ID,
    TOKEN_BYTES,
    ReachAnswer,
    ReachRequest,
    decode_answer,
    encode_request,
)
from sovereign_protocols.circuit.shell import receive_message

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from sovereign_node.net.network import Network

_log = structlog.get_logger(__name__)

SERVERS_PER_ROUND = 3
FIRST_ROUND_S = 1.0
# Until there is a verdict, then while nobody gets through, then while all is well.
UNKNOWN_INTERVAL_S = 15.0
UNREACHABLE_INTERVAL_S = 120.0
REACHABLE_INTERVAL_S = 900.0
# A server waits for a dial that nobody answers.
ASK_TIMEOUT_S = 12.0
# Servers refuse to be asked more often than every ten seconds.
SHORTEST_INTERVAL_S = 11.0
# Connections come in groups: ask when the first few are there.
SETTLE_S = 0.5
_REMEMBERED_UNABLE = 256


class Reach(Enum):
    """Whether others can connect to this node."""

    UNKNOWN = "unknown"
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


class NatKind(Enum):
    """What stands between this node and those that it asked."""

    UNKNOWN = "unknown"
    NONE = "none"
    # The same outside port whoever is called: holes can be punched.
    CONE = "cone"
    # Another outside port for everybody.
    SYMMETRIC = "symmetric"


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What one round with one server told."""

    server: str
    server_host: str
    answer: ReachAnswer
    ports: tuple[int, ...]
    arrived: tuple[bool, ...]
    local_port: int | None

    @property
    def is_global(self) -> bool:
        return ipaddress.ip_address(self.answer.ip).is_global

    def is_credible(self, own_hosts: frozenset[str]) -> bool:
        """Say whether the server can have seen what it says: a neighbour does not see us in the open network."""
        if self.answer.ip in own_hosts or not self.is_global:
            return True
        return bool(self.server_host) and ipaddress.ip_address(self.server_host).is_global


@dataclass(frozen=True, slots=True)
class ReachReport:
    """What is known.

    Attributes:
        reach: whether others can connect.
        nat: what stands between.
        confirmed: multiaddrs, without peer id, at which somebody got through.
        refuted: hosts of our interfaces at which nobody got through.
        outside: multiaddrs at which others see our listening port from outside; for punching holes.
        servers: how many peers were asked in the last round.
    """

    reach: Reach = Reach.UNKNOWN
    nat: NatKind = NatKind.UNKNOWN
    confirmed: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    servers: int = 0


@dataclass(slots=True)
class _Expected:
    """Tokens that are to arrive from one server."""

    server: str
    arrived: set[bytes] = field(default_factory=set)


class Reachability:
    """Asks, and tells the network which addresses to publish.

    Args:
        network: connections of this node.
        extra_ports: ports of configured addresses behind a forwarding router.
        on_change: called when the report differs from the one before.
    """

    def __init__(
        self,
        network: "Network",
        *,
        extra_ports: Sequence[int] = (),
        on_change: Callable[[ReachReport], None] = lambda _report: None,
    ) -> None:
        self._network = network
        self._extra_ports = tuple(extra_ports)
        self._on_change = on_change
        self._expected: dict[bytes, _Expected] = {}
        self._unable: dict[str, None] = {}
        self._woken = trio.Event()
        self.report = ReachReport()

    def check_soon(self) -> None:
        """Ask again now, as after a change of addresses."""
        self._unable.clear()
        self._woken.set()

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Ask now and then until cancelled."""
        self._network.set_knock_handler(self._take_token)
        unwatch = self._network.watch_connections(self._note_connection)
        task_status.started()
        try:
            await trio.sleep(FIRST_ROUND_S)
            while True:
                asked = await self.check()
                earliest = trio.current_time() + (SHORTEST_INTERVAL_S if asked else SETTLE_S)
                with trio.move_on_after(self._interval_s()):
                    await self._woken.wait()
                    await trio.sleep_until(earliest)
                self._woken = trio.Event()
        finally:
            unwatch()

    def _interval_s(self) -> float:
        return {
            Reach.UNKNOWN: UNKNOWN_INTERVAL_S,
            Reach.UNREACHABLE: UNREACHABLE_INTERVAL_S,
            Reach.REACHABLE: REACHABLE_INTERVAL_S,
        }[self.report.reach]

    def _note_connection(self, _peer_id: str, connected: bool) -> None:
        if connected and self.report.reach is Reach.UNKNOWN:
            self._woken.set()

    def _take_token(self, peer_id: str, token: bytes) -> bool:
        expected = self._expected.get(token)
        if expected is None or expected.server != peer_id:
            return False
        expected.arrived.add(token)
        return True

    async def check(self) -> int:
        """Ask up to three peers now; returns how many answered."""
        ports = self._ports()
        verdicts: list[_Verdict] = []

        async def ask(server: ConnectionInfo) -> None:
            verdict = await self._ask(server, ports)
            if verdict is not None:
                verdicts.append(verdict)

        async with trio.open_nursery() as nursery:
            for server in self._servers():
                nursery.start_soon(ask, server)
        self._conclude(verdicts)
        return len(verdicts)

    def _ports(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys([*self._network.own.ports(), *self._extra_ports]))[:MAX_PORTS]

    def _servers(self) -> list[ConnectionInfo]:
        """Choose peers without a third party between, those of the open network first."""
        found = {
            info.peer_id: info
            for info in self._network.connections()
            if is_immediate(info.path) and info.remote is not None and info.peer_id not in self._unable
        }
        ordered = sorted(found.values(), key=lambda info: (info.path == "lan", info.inbound))
        return ordered[:SERVERS_PER_ROUND]

    async def _ask(self, server: ConnectionInfo, ports: tuple[int, ...]) -> _Verdict | None:
        tokens = tuple(secrets.token_bytes(TOKEN_BYTES) for _ in ports)
        expected = _Expected(server.peer_id)
        self._expected.update(dict.fromkeys(tokens, expected))
        try:
            with trio.fail_after(ASK_TIMEOUT_S):
                async with await self._network.open_stream(server.peer_id, PROTOCOL_ID) as stream:
                    await stream.send_all(encode_frame(encode_request(ReachRequest(ports, tokens))))
                    answer = decode_answer(await receive_message(stream, MAX_MESSAGE_BYTES))
        except ProtocolNotSupportedError:
            self._note_unable(server.peer_id)
            return None
        except (NetError, CircuitMessageError, trio.TooSlowError, trio.BrokenResourceError) as error:
            _log.debug("reachability_server_failed", peer_id=server.peer_id, reason=str(error))
            return None
        finally:
            for token in tokens:
                del self._expected[token]
        if len(answer.reached) != len(ports):
            return None
        arrived = tuple(token in expected.arrived for token in tokens)
        # An address may name the network interface, too.
        server_host = server.remote[0].partition("%")[0] if server.remote is not None else ""
        return _Verdict(server.peer_id, server_host, answer, ports, arrived, server.local_port)

    def _note_unable(self, peer_id: str) -> None:
        self._unable[peer_id] = None
        while len(self._unable) > _REMEMBERED_UNABLE:
            del self._unable[next(iter(self._unable))]

    def _conclude(self, verdicts: list[_Verdict]) -> None:
        if not verdicts:
            # Nobody to ask: what was true before the network went away is not worth less than nothing.
            return
        listening = set(self._network.own.ports())
        own_hosts = self._network.own.hosts()
        credible = [item for item in verdicts if item.is_credible(own_hosts)]
        # A neighbour that gets through says nothing about the rest of the world.
        judged = [item for item in credible if item.is_global] or credible
        before = {parse_tcp(address).host for address in self.report.confirmed}
        believed = _believed_hosts({item.server: item.answer.ip for item in judged}, own_hosts, before)
        confirmed = {
            _address(item.answer.ip, port): None
            for item in judged
            if item.answer.ip in believed
            for port, arrived in zip(item.ports, item.arrived, strict=True)
            if arrived
        }
        seen_at = {
            _address(item.answer.ip, item.answer.port): item.answer.ip
            for item in judged
            if item.local_port in listening
        }
        reached_hosts = {parse_tcp(address).host for address in confirmed}
        refuted = {item.answer.ip for item in judged if item.answer.ip in own_hosts} - reached_hosts
        report = ReachReport(
            reach=Reach.REACHABLE if confirmed else Reach.UNREACHABLE,
            nat=_nat_kind(judged, own_hosts, len(seen_at)),
            confirmed=tuple(confirmed),
            refuted=tuple(sorted(refuted)),
            outside=tuple(address for address, host in seen_at.items() if host in believed),
            servers=len(verdicts),
        )
        changed = report != self.report
        self.report = report
        self._network.own.set_confirmed(report.confirmed, report.refuted)
        if changed:
            self._on_change(report)


def _believed_hosts(named: dict[str, str], own_hosts: frozenset[str], before: set[str]) -> set[str]:
    """Choose the IP addresses that this node takes for its own.

    That somebody got through is proven by the token, the address at which is not: one liar must not be able to send
    all who look for this node to somebody else. Where an interface has an address of the open network, no other one
    counts. Else the one that most servers name does; without a majority, the one of before.

    Args:
        named: what each server says, by its peer id.
        own_hosts: of the interfaces.
        before: those of the last round.
    """
    believed = own_hosts & set(named.values())
    for version in (4, 6):
        if any(_is_of(host, version) and ipaddress.ip_address(host).is_global for host in own_hosts):
            continue
        others = Counter(host for host in named.values() if _is_of(host, version) and host not in own_hosts)
        ranked = others.most_common(2)
        if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
            believed |= before & set(others)
        elif ranked:
            believed |= {ranked[0][0]}
    return set(believed)


def _is_of(host: str, version: int) -> bool:
    return ipaddress.ip_address(host).version == version


def _nat_kind(verdicts: list[_Verdict], own_hosts: frozenset[str], outside: int) -> NatKind:
    """Conclude what is between from what servers see, which is `outside` addresses of the listening port."""
    if not verdicts:
        return NatKind.UNKNOWN
    if all(item.answer.ip in own_hosts for item in verdicts):
        return NatKind.NONE
    seen = [item for item in verdicts if item.local_port is not None]
    if outside > 1:
        return NatKind.SYMMETRIC
    kept = [item.answer.port == item.local_port for item in seen]
    # A router that keeps the port for one keeps it for the next; one that does not is known by two observations.
    if kept and all(kept):
        return NatKind.CONE
    if outside == 1 and sum(item.local_port in _ports_of(verdicts) for item in seen) > 1:
        return NatKind.CONE
    return NatKind.SYMMETRIC if kept else NatKind.UNKNOWN


def _ports_of(verdicts: list[_Verdict]) -> set[int]:
    return {port for item in verdicts for port in item.ports}


def _address(host: str, port: int) -> str:
    return f"/ip{ipaddress.ip_address(host).version}/{host}/tcp/{port}"


def ports_of_addresses(addresses: Sequence[str]) -> list[int]:
    """Return the ports of plain TCP addresses, as of configured ones."""
    found = []
    for address in addresses:
        try:
            found.append(parse_tcp(address).port)
        except AddressError:
            continue
    return found
