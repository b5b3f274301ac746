"""One sentence and one next step for everything that may be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from sovereign_node.keys import secret_place
from sovereign_node.services.finding import Finding
from sovereign_node.services.missed_copies import has_missed_copies
from sovereign_node.services.path_findings import examine_dht, examine_listening, examine_paths
from sovereign_node.services.setup import is_kit_confirmed
from sovereign_node.services.waiting_words import waiting_text
from sovereign_node.units import format_age, format_count, format_size

if TYPE_CHECKING:
    from sovereign_node.node import Node

LOW_DISK_BYTES = 1_000_000_000
OLD_BACKUP_S = 3 * 86400
CERTIFICATE_WARNING_S = 30 * 86400


async def examine(node: Node) -> list[Finding]:
    """Look at everything and return what was found, in the order of the checks."""
    local = await trio.to_thread.run_sync(_examine_local, node)
    return [
        *_examine_network(node),
        *_network_use(node),
        *_waiting(await node.waiting.document(), node.clock()),
        *local,
    ]


def _examine_network(node: Node) -> list[Finding]:
    config = node.config.net
    is_alone = not config.bootstrap and not node.network.connections()
    return [
        *examine_listening(node.discovery.addresses(), config.listen),
        *examine_paths(
            node.connectivity.reachability.report,
            relays=node.connectivity.circuits.relays(),
            brokers=node.connectivity.brokers(),
        ),
        examine_dht(node.kademlia.statistics()["contacts"], is_alone=is_alone),
    ]


def _examine_local(node: Node) -> list[Finding]:
    return [
        _disk(node),
        _kit(node),
        _secret(node),
        _certificate(node),
        node.clock_skew.examine(),
        *_contracts(node),
        *_backups(node),
        *_missed_copies(node),
    ]


def _waiting(items: Sequence[dict[str, Any]], now: int) -> list[Finding]:
    """Name each backup that is on this device only."""
    return [Finding("waiting", "warning", waiting_text(item, now), _next_step(item)) for item in items]


def _next_step(item: dict[str, Any]) -> str:
    if not item["waits_for"]:
        return "see `sovereign offers`, then `sovereign contract open PROVIDER --capacity 5GB`"
    if not any(peer["connected"] for peer in item["waits_for"]):
        return "it goes out by itself when the provider is back; see `sovereign peers`"
    return f"it is tried again by itself; or now: sovereign backup {item['project']}"


def _network_use(node: Node) -> list[Finding]:
    findings = []
    if node.traffic.is_paused:
        findings.append(
            Finding(
                "metered",
                "warning",
                "this network is metered: waiting backups, repairs and relaying wait for another one",
                "if it is not: sovereign limits set --metered no",
            )
        )
    places = node.network.places
    if places.is_full:
        findings.append(
            Finding(
                "connections",
                "warning",
                f"all {places.total} connections are in use, so nobody new can come",
                "raise net.max_connections, if the router bears it",
            )
        )
    return findings


def _disk(node: Node) -> Finding:
    config = node.config
    offered = config.provider.capacity_bytes if config.is_provider else 0
    return examine_disk(
        free_bytes=shutil.disk_usage(node.data_dir.root).free,
        reserve_bytes=config.provider.reserve_bytes if config.is_always_on else LOW_DISK_BYTES,
        unfilled_bytes=offered - node.chunk_store.statistics().size_bytes,
        place=str(node.data_dir.root),
    )


def examine_disk(*, free_bytes: int, reserve_bytes: int, unfilled_bytes: int, place: str) -> Finding:
    """Judge whether the disk holds what may still come.

    Args:
        free_bytes: of the file system.
        reserve_bytes: what is never touched.
        unfilled_bytes: what this node offers to others and does not store yet.
        place: the data directory.
    """
    if free_bytes < reserve_bytes:
        return Finding(
            "disk", "error", f"only {format_size(free_bytes)} are free below {place}", "make space, or move it"
        )
    room_bytes = free_bytes - reserve_bytes
    if room_bytes < unfilled_bytes:
        room, more = format_size(room_bytes), format_size(unfilled_bytes)
        return Finding(
            "disk",
            "warning",
            f"the disk has room for {room}, this provider offers {more} more",
            "make space, or offer less: sovereign provider offer set --capacity SIZE",
        )
    return Finding("disk", "ok", f"{format_size(free_bytes)} are free")


def _kit(node: Node) -> Finding:
    if is_kit_confirmed(node.state):
        return Finding("kit", "ok", "the recovery kit has been entered once")
    return Finding(
        "kit",
        "error",
        "the recovery kit was never checked; without it nothing comes back when all devices are lost",
        "enter it once: sovereign kit confirm",
    )


def _secret(node: Node) -> Finding:
    if secret_place(node.data_dir) == "keyring":
        return Finding("keys", "ok", "device keys are sealed under the OS keyring")
    return Finding(
        "keys",
        "warning",
        "device keys are sealed under a file beside them, since no OS keyring works here",
        "encrypt the disk, so that a stolen device can't be read",
    )


def _certificate(node: Node) -> Finding:
    left_s = node.identity.certificate.not_after - node.clock()
    renew = "renew it with: sovereign device renew"
    if left_s <= 0:
        return Finding("certificate", "error", "the certificate of this device has ended; nobody serves it", renew)
    if left_s < CERTIFICATE_WARNING_S:
        words = f"the certificate of this device ends in {format_count(left_s // 86400, 'day')}"
        return Finding("certificate", "warning", words, renew)
    return Finding("certificate", "ok", f"the certificate of this device holds for {left_s // 86400} days")


def _contracts(node: Node) -> list[Finding]:
    missing = [item for item in node.contracts.provider_peer_ids() if not node.network.is_connected(item)]
    if not node.contracts.provider_peer_ids():
        if not node.state.projects.all():
            return []
        return [
            Finding(
                "contracts",
                "error",
                "nothing is backed up elsewhere: there is no contract with a provider",
                "see `sovereign offers`, then `sovereign contract open PROVIDER --capacity 5GB`",
            )
        ]
    if missing:
        return [
            Finding(
                "contracts",
                "warning",
                f"under contract, and not on line: {', '.join(_last_seen(node, item) for item in sorted(missing))}",
                "backups wait for them; see `sovereign peers`",
            )
        ]
    return [Finding("contracts", "ok", "every provider under contract is connected")]


def _missed_copies(node: Node) -> list[Finding]:
    """Name each project whose newest backup is not at all of its providers."""
    return [
        Finding(
            "copies",
            "warning",
            f"{project.name}: a provider was away and missed something; fewer copies than wanted are there",
            "it is copied by itself when the provider is back; see `sovereign peers`",
        )
        for project in node.state.projects.all()
        if has_missed_copies(node.state, project.project_id)
    ]


def _last_seen(node: Node, peer_id: str) -> str:
    """Name a peer, and say since when it is away."""
    device = node.state.devices.get_by_peer_id(peer_id)
    if device is None:
        return peer_id
    if device.last_seen is None:
        return f"{device.device_name} (never seen)"
    return f"{device.device_name} (seen {format_age(device.last_seen, node.clock())})"


def _backups(node: Node) -> list[Finding]:
    findings = []
    for project in node.state.projects.all():
        if not project.sources:
            continue
        age = None if project.last_backup_at is None else node.clock() - project.last_backup_at
        if age is None:
            findings.append(
                Finding(
                    "backup", "error", f"{project.name} was never backed up", f"sovereign backup {project.name}"
                )
            )
        elif age > OLD_BACKUP_S:
            text = f"the last backup of {project.name} is {age // 86400} days old"
            findings.append(Finding("backup", "warning", text, f"sovereign backup {project.name}"))
        else:
            when = format_age(project.last_backup_at or 0, node.clock())
            findings.append(Finding("backup", "ok", f"{project.name} was backed up {when}"))
    return findings
