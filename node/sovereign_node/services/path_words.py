"""Paths and reachability in the words that a user sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sovereign_node.net.circuit.addresses import relay_of
from sovereign_node.net.connection import ConnectionInfo
from sovereign_node.net.paths import RELAYED
from sovereign_node.net.reachability import NatKind, Reach, ReachReport
from sovereign_node.units import format_count

_WORDS = {"lan": "LAN", "nats": "NATS"}
_SHORT_ID_CHARACTERS = 8

_ROUTERS = {
    NatKind.NONE: "no router in between",
    NatKind.CONE: "behind a router that lets holes be punched",
    NatKind.SYMMETRIC: "behind a router that uses another port for everybody",
    NatKind.UNKNOWN: "behind a router",
}


def path_text(info: ConnectionInfo, name_of: Callable[[str], str]) -> str:
    """Name the path of a connection: LAN, direct, hole-punched, relayed via X, NATS.

    Args:
        info: of the connection.
        name_of: gives the name of a peer, empty if it has none.
    """
    if info.path != RELAYED:
        return _WORDS.get(info.path, info.path)
    relay_id = relay_of(info.address)
    return f"relayed via {name_of(relay_id) or relay_id[-_SHORT_ID_CHARACTERS:]}"


def reach_text(report: ReachReport, connections: Iterable[ConnectionInfo], relays: Iterable[str]) -> str:
    """Say in one sentence how other peers reach this node.

    Args:
        report: what others found out.
        connections: those that are open.
        relays: names of the relays at which circuits for this node are accepted.
    """
    by_relay = ", ".join(relays)
    if report.reach is Reach.REACHABLE:
        return f"others can connect to it ({format_count(len(report.confirmed), 'address', 'addresses')} confirmed)"
    if report.reach is Reach.UNREACHABLE:
        how = f"reached through {by_relay}" if by_relay else "no relay accepts connections for it"
        return f"others can't connect to it directly, {_ROUTERS[report.nat]}; {how}"
    if not list(connections):
        return "no peer connected yet"
    return "not checked yet: no connected peer could try to reach it"
