"""What may be wrong between this node and its peers: reachability, relays, message brokers."""

from __future__ import annotations

from collections.abc import Sequence

from sovereign_node.net.nats.client import ClientStatus
from sovereign_node.net.reachability import NatKind, Reach, ReachReport
from sovereign_node.services.finding import Finding

_NAT_WORDS = {
    NatKind.NONE: "no router translates its address, so a firewall may be in the way",
    NatKind.CONE: "it is behind a router (cone NAT: direct connections can be punched through)",
    NatKind.SYMMETRIC: "it is behind a router (symmetric NAT: direct connections can't be punched through)",
    NatKind.UNKNOWN: "it is behind a router of unknown kind",
}


def examine_paths(report: ReachReport, *, relays: Sequence[str], brokers: Sequence[ClientStatus]) -> list[Finding]:
    """Judge how peers reach this node.

    Args:
        report: what others found out.
        relays: peer ids of the relays that accept circuits for this node.
        brokers: connections to the configured NATS servers.
    """
    findings = [_reach(report, is_indirect=bool(relays) or any(item.connected for item in brokers))]
    if relays:
        text = f"{len(relays)} relay(s) accept connections for this node: {', '.join(relays)}"
        findings.append(Finding("relay", "ok", text))
    elif report.reach is Reach.UNREACHABLE:
        findings.append(
            Finding(
                "relay",
                "warning",
                "no relay accepts connections for this node",
                "run a server of yours where others can reach it, or open a contract with a provider",
            )
        )
    return findings + [_broker(item) for item in brokers]


def _reach(report: ReachReport, *, is_indirect: bool) -> Finding:
    if report.reach is Reach.REACHABLE:
        return Finding("nat", "ok", f"others can connect to this node, for instance at {report.confirmed[0]}")
    if report.reach is Reach.UNKNOWN:
        return Finding("nat", "ok", "whether others can connect to this node is not known yet: nobody was asked")
    return Finding(
        "nat",
        "ok" if is_indirect else "warning",
        f"others can't connect to this node directly: {_NAT_WORDS[report.nat]}",
        "forward a TCP port to it and set net.announce, if you want direct connections",
    )


def _broker(status: ClientStatus) -> Finding:
    if status.connected:
        return Finding("nats", "ok", f"the relay {status.server} works")
    reason = f": {status.last_error}" if status.last_error else ""
    return Finding(
        "nats", "warning", f"the relay {status.server} can't be reached{reason}", "check relay.nats in the settings"
    )
