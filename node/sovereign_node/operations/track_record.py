"""What this identity has seen of a provider itself in the last 30 days: uptime and audits."""

from __future__ import annotations

from typing import Any

from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.node import Node

RECORD_S = 30 * 86_400


def track_record(node: Node, peer_id: str) -> dict[str, Any]:
    """Sum windows and audits over all contracts with a provider; nothing without one. Blocks."""
    device = public_key_from_peer_id(peer_id)
    since_at = node.clock() - RECORD_S
    good = observed = passed = failed = 0
    for contract in node.contracts.live_as_customer():
        if contract.provider_device != device:
            continue
        seen = node.uptime.book.view(contract, max(contract.started_at, since_at), node.clock()).seen
        audits = node.state.audits.count(contract.contract_id, since_at=since_at)
        good, observed = good + seen.good, observed + seen.observed
        passed, failed = passed + audits.passed, failed + audits.failed
    return {
        "windows_good": good,
        "windows_observed": observed,
        "audits_passed": passed,
        "audits_failed": failed,
    }
