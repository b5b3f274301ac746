"""What a provider looks at and sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.chunkstore import UnknownContractError
from sovereign_node.config import load_config, save_config
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.lookup import only
from sovereign_node.store.contracts import Contract

SCRUB_STEP_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class OfferParameters:
    """What `provider_offer_set` takes; None leaves a value as it is."""

    capacity_bytes: int | None = None
    price_micro_vibe_per_gb_month: int | None = None
    price_micro_vibe_per_gb_transfer: int | None = None
    reserve_bytes: int | None = None


@dataclass(frozen=True)
class ExportParameters:
    """What `provider_export` takes."""

    to: str
    contract: str | None = None


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def provider_status(_: NoParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(_status, node)

    async def offer_set(parameters: OfferParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(_set_offer, node, parameters)

    async def export(parameters: ExportParameters, report: ReportProgress) -> Any:
        contracts = await trio.to_thread.run_sync(_contracts_to_export, node, parameters.contract)
        target = Path(parameters.to)
        chunks = size_bytes = 0
        for contract in contracts:
            folder = target / contract.contract_id.hex()
            chunks += await trio.to_thread.run_sync(_export_one, node, contract, folder)
            size_bytes += await trio.to_thread.run_sync(node.contracts.stored_bytes, contract)
            await report({"phase": "export", "chunks_done": chunks})
        return {
            "chunks": chunks,
            "bytes": size_bytes,
            "to": str(target),
            "contracts": [item.contract_id.hex() for item in contracts],
        }

    async def scrub(_: NoParameters, report: ReportProgress) -> Any:
        started = trio.current_time()
        checked, checked_bytes, cursor = 0, 0, None
        damaged: list[dict[str, str]] = []
        while True:
            step = await trio.to_thread.run_sync(
                lambda at=cursor: node.chunk_store.scrub(cursor=at, max_bytes=SCRUB_STEP_BYTES)
            )
            checked += step.checked
            checked_bytes += step.checked_bytes
            damaged += [{"contract": owner.hex(), "chunk": chunk.hex()} for owner, chunk in step.corrupt]
            await report({"phase": "scrub", "chunks_done": checked, "bytes_done": checked_bytes})
            cursor = step.cursor
            if cursor is None:
                break
        return {
            "chunks_checked": checked,
            "bytes_checked": checked_bytes,
            "damaged": damaged,
            "seconds": round(trio.current_time() - started, 3),
        }

    return [
        Operation("provider_status", "What this provider stores and earns", NoParameters, provider_status),
        Operation("provider_offer_set", "Change what is offered", OfferParameters, offer_set),
        Operation("provider_export", "Write stored chunks to files", ExportParameters, export, streams=True),
        Operation("provider_scrub", "Re-hash every stored chunk", NoParameters, scrub, streams=True),
    ]


def _status(node: Node) -> dict[str, Any]:
    contracts = node.state.contracts.all(role="provider")
    statistics = node.chunk_store.statistics()
    committed = node.state.contracts.committed_bytes()
    provider = node.config.provider
    return {
        "peer_id": node.keys.peer_id,
        "device_id": node.keys.public.hex(),
        "capacity_bytes": provider.capacity_bytes,
        "stored_bytes": statistics.size_bytes,
        "free_bytes": max(0, provider.capacity_bytes - committed),
        "disk_free_bytes": statistics.disk_free_bytes,
        "replicas": node.contracts.replica_count(),
        "quarantined": statistics.quarantined,
        "contracts": [_contract(node, item) for item in contracts],
        "vibe_per_month_micro": sum(node.contracts.price_per_month(item) for item in contracts),
        "offer": {
            "price_micro_vibe_per_gb_month": provider.price_micro_vibe_per_gb_month,
            "price_micro_vibe_per_gb_transfer": provider.price_micro_vibe_per_gb_transfer,
            "uptime_bonus_permille": provider.uptime_bonus_permille,
            "public": node.config.is_provider,
        },
    }


def _contract(node: Node, contract: Contract) -> dict[str, Any]:
    return {
        "id": contract.contract_id.hex(),
        "state": contract.state,
        "customer": contract.customer_identity.hex(),
        "capacity_bytes": contract.capacity_bytes,
        "stored_bytes": node.contracts.stored_bytes(contract),
    }


def _set_offer(node: Node, parameters: OfferParameters) -> dict[str, Any]:
    changes: dict[str, Any] = {name: value for name, value in vars(parameters).items() if value is not None}
    if any(value < 0 for value in changes.values()):
        raise NodeError("bad_request", "sizes and prices are not negative", "", ExitCode.USAGE)
    stored = load_config(node.data_dir.config)
    provider = replace(stored.provider, **changes)
    save_config(replace(stored, provider=provider), node.data_dir.config)
    node.contracts.change_offer(provider)
    offer = node.contracts.current_offer().offer
    return {
        "capacity_bytes": offer.capacity_bytes,
        "free_bytes": offer.free_bytes,
        "price_micro_vibe_per_gb_month": offer.price_per_gb_month,
        "price_micro_vibe_per_gb_transfer": offer.price_per_gb_transfer,
    }


def _contracts_to_export(node: Node, name: str | None) -> list[Contract]:
    if name is None:
        return node.state.contracts.all(role="provider")
    found = [item for item in node.state.contracts.find(name) if item.role == "provider"]
    return [only("contract", name, found, lambda item: item.contract_id.hex(), "sovereign provider status")]


def _export_one(node: Node, contract: Contract, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return node.chunk_store.export(contract.contract_id, folder)
    except UnknownContractError:
        return 0
