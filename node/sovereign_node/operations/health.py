"""Doctor, kit, audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.node import Node
from sovereign_node.services.doctor import examine
from sovereign_node.services.setup import note_confirmed_kit, read_kit
from sovereign_node.store.audit import AuditEntry


@dataclass(frozen=True)
class KitParameters:
    """What `kit_confirm` takes."""

    kit: str


@dataclass(frozen=True)
class AuditParameters:
    """What `audit_log` takes."""

    limit: int = 100
    verify: bool = False


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def doctor(_: NoParameters, _report: ReportProgress) -> Any:
        return {"findings": [finding.as_json() for finding in await examine(node)]}

    async def kit_confirm(parameters: KitParameters, _report: ReportProgress) -> Any:
        kit, _hints = read_kit(parameters.kit)
        await trio.to_thread.run_sync(note_confirmed_kit, node.state, node.identity, kit)
        return {"confirmed": True}

    async def audit_log(parameters: AuditParameters, _report: ReportProgress) -> Any:
        def read() -> Any:
            entries = node.state.audit.entries(limit=max(1, min(parameters.limit, 10_000)))
            verdict = node.state.audit.verify() if parameters.verify else None
            return {
                "entries": [_entry(item) for item in entries],
                "ok": None if verdict is None else verdict.ok,
                "broken_seq": None if verdict is None else verdict.broken_seq,
            }

        return await trio.to_thread.run_sync(read)

    return [
        Operation("doctor", "Look for what may be wrong", NoParameters, doctor),
        Operation("kit_confirm", "Note that the recovery kit was entered", KitParameters, kit_confirm),
        Operation("audit_log", "Read and check the audit log", AuditParameters, audit_log),
    ]


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "time": entry.time,
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "outcome": entry.outcome,
        "hash": entry.hash.hex(),
    }
