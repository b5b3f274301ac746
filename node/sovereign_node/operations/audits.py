"""Audit providers now, and what observers measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.api.operations import Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.lookup import only
from sovereign_node.store.audits import FAILED, NO_ANSWER, PASSED, AuditRecord
from sovereign_node.store.contracts import Contract
from sovereign_protocols.audit.proof import confidence_words
from sovereign_protocols.market.prices import UptimeCount, transfer_price

DEFAULT_SAMPLES = 24
MAX_SAMPLES = 10_000
DAY_S = 86_400
MAX_DAYS = 730


@dataclass(frozen=True)
class AuditNowParameters:
    """What `audit_now` takes; without a provider, all of them."""

    provider: str | None = None
    samples: int = DEFAULT_SAMPLES


@dataclass(frozen=True)
class UptimeParameters:
    """What `uptime` takes; without a provider, all of them."""

    provider: str | None = None
    days: int = 30


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def audit_now(parameters: AuditNowParameters, report: ReportProgress) -> Any:
        if not 1 <= parameters.samples <= MAX_SAMPLES:
            raise NodeError(
                "bad_request", f"samples go from 1 to {MAX_SAMPLES:,}", "use --samples 48", ExitCode.USAGE
            )
        contracts = await trio.to_thread.run_sync(
            lambda: _chosen(node, node.audits.contracts(), parameters.provider)
        )
        results = []
        for contract in contracts:
            done: list[AuditRecord] = []
            async for record in node.audits.sample(contract, parameters.samples):
                done.append(record)
                progress = {"phase": "audit", "chunks_done": len(done), "chunks_total": parameters.samples}
                await report(progress | {"bytes_done": sum(item.moved_bytes for item in done)})
            results.append(await trio.to_thread.run_sync(_result, node, contract, done))
        return results

    async def uptime(parameters: UptimeParameters, _report: ReportProgress) -> Any:
        if not 1 <= parameters.days <= MAX_DAYS:
            raise NodeError("bad_request", f"days go from 1 to {MAX_DAYS}", "use --days 30", ExitCode.USAGE)

        def read() -> Any:
            live = [*node.uptime.book.live("customer"), *node.uptime.book.live("provider")]
            return [_uptime(node, item, parameters.days) for item in _chosen(node, live, parameters.provider)]

        return await trio.to_thread.run_sync(read)

    return [
        Operation("audit_now", "Let providers prove that they hold your data", AuditNowParameters, audit_now, True),
        Operation("uptime", "How often providers answered", UptimeParameters, uptime),
    ]


def _chosen(node: Node, contracts: list[Contract], name: str | None) -> list[Contract]:
    """Return the contracts with one provider, by its name, peer id or a unique prefix of it; all for None."""
    if name is None:
        return contracts
    peers = {peer_id_from_public_key(item.provider_device) for item in contracts}
    found = [peer for peer in sorted(peers) if _name_of(node, peer) == name] or [
        peer for peer in sorted(peers) if peer.startswith(name)
    ]
    chosen = only("provider", name, found, lambda peer: peer, "sovereign contract list")
    return [item for item in contracts if peer_id_from_public_key(item.provider_device) == chosen]


def _name_of(node: Node, peer_id: str) -> str:
    device = node.state.devices.get_by_peer_id(peer_id)
    return device.device_name if device is not None else ""


def _with(node: Node, contract: Contract) -> dict[str, Any]:
    peer_id = peer_id_from_public_key(contract.provider_device)
    return {
        "contract": contract.contract_id.hex(),
        "role": contract.role,
        "provider": peer_id,
        "provider_name": _name_of(node, peer_id),
    }


def _result(node: Node, contract: Contract, done: list[AuditRecord]) -> dict[str, Any]:
    count = node.state.audits.count(contract.contract_id, since_at=node.clock() - 30 * DAY_S)
    moved = sum(item.moved_bytes for item in done)
    return _with(node, contract) | {
        "chunks": node.state.placed_chunks.count(contract.contract_id),
        "audited": len(done),
        "passed": sum(item.outcome == PASSED for item in done),
        "failed": sum(item.outcome == FAILED for item in done),
        "unanswered": sum(item.outcome == NO_ANSWER for item in done),
        "failures": [
            {"chunk": item.chunk_id.hex(), "size_bytes": item.size_bytes, "since_at": item.passed_before_at}
            for item in done
            if item.outcome == FAILED
        ],
        "samples": count.samples,
        "statistics": confidence_words(count.samples),
        "bytes_moved": moved,
        "cost_micro_vibe": transfer_price(moved, contract.price_micro_vibe_per_gb_transfer),
        "repairs_waiting": node.repair.waiting,
    }


def _uptime(node: Node, contract: Contract, days: int) -> dict[str, Any]:
    now = node.clock()
    from_at = max(contract.started_at, now - days * DAY_S)
    view = node.uptime.book.view(contract, from_at, now)
    notices = node.state.uptime.notices(contract.contract_id, after_at=from_at)
    return _with(node, contract) | {
        "from_at": from_at,
        "until_at": now,
        "seen": _count(view.seen),
        "counted": _count(view.counted) | {"earns_bonus": view.counted.earns_bonus},
        "observers": [peer_id_from_public_key(observer) for observer in view.observers],
        "maintenance": [{"from_at": item.from_at, "until_at": item.until_at} for item in notices],
    }


def _count(count: UptimeCount) -> dict[str, Any]:
    percent = round(100 * count.good / count.observed, 3) if count.observed else None
    return {"good": count.good, "observed": count.observed, "total": count.total, "percent": percent}
