"""What may be wrong between this node and its peers: reachability, relays, message brokers."""

from __future__ import annotations

from collections.abc import Sequence

from sovereign_node.net.nats.client import ClientStatus
from sovereign_node.net.paths import is_plain
from sovereign_node.net.reachability import NatKind, Reach, ReachReport
from sovereign_node.services.finding import Finding
from sovereign_node.units import format_count

_NAT_WORDS = {
    NatKind.NONE: "no router translates its address, so a firewall may be in the way",
    NatKind.CONE: "it is behind a router (cone NAT: direct connections can be punched through)",
    NatKind.SYMMETRIC: "it is behind a router (symmetric NAT: direct connections can't be punched through)",
    NatKind.UNKNOWN: "it is behind a router of unknown kind",
}


def examine_listening(addresses: Sequence[str], listen: Sequence[str]) -> list[Finding]:
    """Judge at which addresses this node can be reached at all.

    Args:
        addresses: those that it publishes.
        listen: those of the settings.
    """
    if not addresses:
        text = "nobody can reach this node: it does not listen"
        return [Finding("listen", "error", text, "set net.listen or use --listen")]
    own = [item for item in addresses if is_plain(item)]
    if not own:
        return [Finding("listen", "ok", f"it does not listen, peers come through others: {addresses[0]}")]
    count = format_count(len(own), "address", "addresses")
    findings = [Finding("listen", "ok", f"listening on {count}, first {own[0]}")]
    if not all("/127." in item or "/::1/" in item for item in addresses):
        return findings
    if any("/ip4/0.0.0.0/" in item or "/ip6/::/" in item for item in listen):
        text = "this machine is in no network: it has no address but its own loopback"
        step = "connect it; the node listens on every address and notices by itself"
    else:
        text = "only this machine can reach the node: it listens on loopback"
        step = "use --listen /ip4/0.0.0.0/tcp/PORT if other machines are to reach it"
    return [*findings, Finding("reach", "warning", text, step)]


def examine_dht(contacts: int, *, is_alone: bool) -> Finding:
    """Judge whether this node can find others.

    Args:
        contacts: nodes of the DHT that it knows.
        is_alone: it was given no address to begin with, and nobody is connected.
    """
    if contacts:
        return Finding("dht", "ok", f"the DHT has {format_count(contacts, 'contact')}")
    if is_alone:
        text = "no node of the DHT is known"
        return Finding("dht", "error", text, "give one with --bootstrap /ip4/…/tcp/…/p2p/…")
    text = "no node of the DHT answers, so new peers can't be found"
    return Finding(
        "dht", "warning", text, "check the network of this device, or give another node with --bootstrap"
    )


def examine_paths(report: ReachReport, *, relays: Sequence[str], brokers: Sequence[ClientStatus]) -> list[Finding]:
    """Judge how peers reach this node.

    Args:
        report: what others found out.
        relays: peer ids of the relays that accept circuits for this node.
        brokers: connections to the configured NATS servers.
    """
    findings = [_reach(report, is_indirect=bool(relays) or any(item.connected for item in brokers))]
    if relays:
        verb = "relay accepts" if len(relays) == 1 else "relays accept"
        text = f"{len(relays)} {verb} connections for this node: {', '.join(relays)}"
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
