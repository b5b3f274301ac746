"""What this node is and how it is doing."""

from __future__ import annotations

import dataclasses
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.node import Node
from sovereign_node.services.path_words import reach_text
from sovereign_node.services.setup import is_kit_confirmed
from sovereign_node.version import VERSION


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def status(_: NoParameters, _report: ReportProgress) -> Any:
        return await status_document(node)

    async def config_show(_: NoParameters, _report: ReportProgress) -> Any:
        return dataclasses.asdict(node.config)

    async def shutdown(_: NoParameters, _report: ReportProgress) -> Any:
        node.stop()
        return {}

    return [
        Operation("status", "What this node is and how it is doing", NoParameters, status),
        Operation("config_show", "Settings in force", NoParameters, config_show),
        Operation("shutdown", "Stop the node", NoParameters, shutdown),
    ]


async def status_document(node: Node) -> dict[str, Any]:
    """Return the status of the node, as `status` and the banner of `up` show it."""
    connections = node.network.connections()
    document = {
        "name": node.config.name,
        "roles": list(node.config.roles),
        "identity": node.identity.identity_id.hex(),
        "peer_id": node.network.peer_id,
        "addresses": node.discovery.addresses(),
        "peers": len({info.peer_id for info in connections}),
        "reachability": reachability(node),
        "dht": {
            "mode": "server" if node.config.is_always_on else "client",
            "peers": node.kademlia.statistics()["contacts"],
        },
        "connections": {"taken": node.network.places.taken, "total": node.network.places.total},
        "limits": node.traffic.document(),
        "waiting": await node.waiting.document(),
        "version": VERSION,
        "pid": node.data_dir.read_pid(),
        "uptime_s": node.clock() - node.started_at,
        "listening": bool(node.network.addresses()),
    }
    return document | await trio.to_thread.run_sync(_stored_facts, node)


def reachability(node: Node) -> str:
    """Say in words how peers reach this node."""
    return reach_text(
        node.connectivity.reachability.report,
        node.network.connections(),
        [relay_id[-8:] for relay_id in node.connectivity.circuits.relays()],
    )


def _stored_facts(node: Node) -> dict[str, Any]:
    as_provider = node.state.contracts.all(role="provider")
    as_customer = node.state.contracts.all(role="customer")
    statistics = node.chunk_store.statistics()
    live = [item for item in as_provider if item.state not in ("closed", "proposed")]
    paying = live if node.config.is_provider else as_customer
    return {
        "projects": [node.projects.summary(project) for project in node.state.projects.all()],
        "stored": {"chunks": statistics.chunks, "bytes": statistics.size_bytes},
        "contracts": len(live) if node.config.is_always_on else len(as_customer),
        "replicas": node.contracts.replica_count() if node.config.is_always_on else 0,
        "vibe_per_month_micro": sum(node.contracts.price_per_month(item) for item in paying),
        "kit_confirmed": is_kit_confirmed(node.state),
    }
