"""Verify, forget, collect garbage, repair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from sovereign_node.api.operations import Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.operations.progress import forward_progress
from sovereign_node.services.orphans import MIN_AGE_S
from sovereign_node.vault.policy import ForgetPolicy
from sovereign_node.vault.verify import VerifyError


@dataclass(frozen=True)
class VerifyParameters:
    """What `verify` takes; without a project, all of them."""

    project: str | None = None
    read_data_percent: float = 0.0
    repair: bool = False


@dataclass(frozen=True)
class ForgetParameters:
    """What `forget` takes."""

    project: str
    keep_last: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within_s: int = 0
    snapshots: list[str] | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class GcParameters:
    """What `gc` takes; without a project, all of them, and chunks that no project lists."""

    project: str | None = None
    dry_run: bool = False
    orphan_age_s: int = MIN_AGE_S


@dataclass(frozen=True)
class RepairParameters:
    """What `repair_index` takes; without a project, all of them."""

    project: str | None = None


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""
    return [
        Operation(
            "verify", "Check snapshots and stored data", VerifyParameters, partial(_verify, node), streams=True
        ),
        Operation("forget", "Drop snapshots by a rule", ForgetParameters, partial(_forget, node)),
        Operation("gc", "Delete chunks that no snapshot needs", GcParameters, partial(_gc, node), streams=True),
        Operation(
            "repair_index", "Rebuild the local index", RepairParameters, partial(_repair_index, node), streams=True
        ),
    ]


async def _verify(node: Node, parameters: VerifyParameters, report: ReportProgress) -> Any:
    if not 0 <= parameters.read_data_percent <= 100:
        raise NodeError("bad_request", "a percentage goes from 0 to 100", "", ExitCode.USAGE)
    total: dict[str, Any] = {
        "chunks_checked": 0,
        "bytes_checked": 0,
        "snapshots_checked": 0,
        "errors": [],
        "repaired": [],
        "lost": [],
    }
    started = trio.current_time()
    for project in await trio.to_thread.run_sync(node.projects.chosen, parameters.project):
        async with node.projects.open(project) as opened, forward_progress(report) as on_progress:
            done = await opened.vault.verify(
                read_data=parameters.read_data_percent / 100,
                repair=parameters.repair,
                on_progress=on_progress,
            )
        total["chunks_checked"] += done.chunks_checked
        total["bytes_checked"] += done.bytes_read
        total["snapshots_checked"] += done.snapshots
        total["errors"] += [_verify_error(item) for item in done.errors]
        total["repaired"] += done.repaired
        total["lost"] += done.lost
    return total | {"seconds": round(trio.current_time() - started, 3)}


async def _forget(node: Node, parameters: ForgetParameters, _report: ReportProgress) -> Any:
    policy = ForgetPolicy(
        last=parameters.keep_last,
        daily=parameters.keep_daily,
        weekly=parameters.keep_weekly,
        monthly=parameters.keep_monthly,
        yearly=parameters.keep_yearly,
        within_s=parameters.keep_within_s,
    )
    if policy.empty and not parameters.snapshots:
        raise NodeError(
            "no_rule", "nothing says what to keep", "use --keep-last 7, --keep-daily 30, …", ExitCode.USAGE
        )
    project = await trio.to_thread.run_sync(node.projects.find, parameters.project)
    async with node.projects.open(project, for_writing=not parameters.dry_run) as opened:
        plan = await opened.vault.forget(policy, snapshots=parameters.snapshots or [], dry_run=parameters.dry_run)
    return {
        "project": project.project_id.hex(),
        "keep": [
            {"id": item.snapshot_id.hex(), "time": item.content.created_at, "reasons": list(reasons)}
            for item, reasons in plan.keep
        ],
        "remove": [{"id": item.snapshot_id.hex(), "time": item.content.created_at} for item in plan.forget],
        "dry_run": parameters.dry_run,
    }


async def _gc(node: Node, parameters: GcParameters, _report: ReportProgress) -> Any:
    if parameters.orphan_age_s < 0:
        raise NodeError("bad_request", "an age is not negative", "", ExitCode.USAGE)
    started = trio.current_time()
    total = dict.fromkeys(("chunks_kept", "chunks_deleted", "chunks_repacked", "bytes_deleted", "bytes_sent"), 0)
    failed: list[str] = []
    for project in await trio.to_thread.run_sync(node.projects.chosen, parameters.project):
        async with node.projects.open(project, for_writing=not parameters.dry_run) as opened:
            done = await opened.vault.gc(dry_run=parameters.dry_run)
        total["chunks_kept"] += done.chunks_kept
        total["chunks_deleted"] += done.chunks_deleted
        total["chunks_repacked"] += done.chunks_repacked
        total["bytes_deleted"] += done.bytes_freed
        total["bytes_sent"] += done.bytes_sent
        failed += done.failed_targets
    if parameters.project is None:
        total |= await _collect_orphans(node, parameters, failed)
    return total | {
        "dry_run": parameters.dry_run,
        "failed_targets": sorted(set(failed)),
        "delete_after_at": await trio.to_thread.run_sync(_delete_after_at, node),
        "seconds": round(trio.current_time() - started, 3),
    }


async def _repair_index(node: Node, parameters: RepairParameters, _report: ReportProgress) -> Any:
    started = trio.current_time()
    total = dict.fromkeys(("segments", "blobs", "chunks", "chunks_read", "snapshots_recovered"), 0)
    unreadable: list[str] = []
    for project in await trio.to_thread.run_sync(node.projects.chosen, parameters.project):
        async with node.projects.open(project) as opened:
            done = await opened.vault.repair_index()
        for name in total:
            total[name] += getattr(done, name)
        unreadable += done.unreadable
    return total | {"unreadable": unreadable, "seconds": round(trio.current_time() - started, 3)}


async def _collect_orphans(node: Node, parameters: GcParameters, failed: list[str]) -> dict[str, int]:
    """Collect under every contract; add to ``failed`` what could not be done."""
    sums = {"orphans_found": 0, "orphans_deleted": 0, "orphan_bytes": 0}
    for contract in await trio.to_thread.run_sync(node.contracts.live_as_customer):
        try:
            done = await node.orphans.collect(
                contract, min_age_s=parameters.orphan_age_s, dry_run=parameters.dry_run
            )
        except NodeError as error:
            failed.append(error.message)
            continue
        sums["orphans_found"] += done.found
        sums["orphans_deleted"] += done.deleted
        sums["orphan_bytes"] += done.size_bytes
    return sums


def _verify_error(error: VerifyError) -> dict[str, str]:
    row = {"kind": error.kind, "target": error.target, "reason": error.reason}
    # A tree is named by its path, everything else by its chunk.
    return row | ({"path": error.subject} if error.kind == "tree" else {"chunk": error.subject})


def _delete_after_at(node: Node) -> int:
    """Return when providers will have deleted what is given up now."""
    grace_s = max((item.grace_s for item in node.contracts.live_as_customer()), default=0)
    return node.clock() + grace_s
