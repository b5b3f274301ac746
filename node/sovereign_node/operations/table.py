"""All operations of the local API, by name."""

from __future__ import annotations

from sovereign_node.api.operations import Operation
from sovereign_node.node import Node
from sovereign_node.operations import (
    audits,
    devices,
    health,
    limits,
    maintenance,
    market,
    market_provider,
    money,
    placement,
    projects,
    provider,
    sponsors,
    status,
)


def all_operations(node: Node) -> dict[str, Operation]:
    """Return the table that the local API serves."""
    families = (
        status,
        devices,
        market,
        money,
        sponsors,
        projects,
        placement,
        maintenance,
        provider,
        market_provider,
        audits,
        limits,
        health,
    )
    return {item.name: item for family in families for item in family.operations(node)}
