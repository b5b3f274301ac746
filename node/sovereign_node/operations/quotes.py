"""What a backup, a restore or less history will cost, before it happens."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.money.wallet import price_lines
from sovereign_node.store.contracts import Contract
from sovereign_node.store.projects import Project
from sovereign_protocols.market.prices import LIST_PRICES, MONTH_S, quote

KINDS = ("storage", "backup", "restore", "retention")


@dataclass(frozen=True)
class QuoteParameters:
    """What `quote` takes.

    Args:
        kind: storage, backup, restore or retention.
        project: for which; all that have sources here without it.
        stored_bytes: instead of a project, a size.
        months: how long it is stored.
    """

    kind: str = "storage"
    project: str | None = None
    stored_bytes: int | None = None
    months: int = 1


@dataclass(frozen=True)
class _Work:
    """What will be stored and moved: `stored_bytes` for the months, `moved_bytes` once."""

    stored_bytes: int
    moved_bytes: int
    copies: int


async def make_quote(node: Node, parameters: QuoteParameters) -> dict[str, Any]:
    """Price a piece of work under the contracts in force, or at list price without one.

    Raises:
        NodeError: the kind is unknown, or the project.
    """
    if parameters.kind not in KINDS or not 1 <= parameters.months <= 600:
        raise NodeError("bad_request", f"the kind is one of {', '.join(KINDS)}", "sovereign quote", ExitCode.USAGE)
    work = await _work(node, parameters)
    return await trio.to_thread.run_sync(_price, node, parameters, work)


async def _work(node: Node, parameters: QuoteParameters) -> _Work:
    if parameters.stored_bytes is not None:
        size = parameters.stored_bytes
        return _Work(0, size, 1) if parameters.kind == "restore" else _Work(size, size, 1)
    projects = await trio.to_thread.run_sync(node.projects.chosen, parameters.project)
    if parameters.kind == "retention":
        freed = 0
        for project in projects:
            async with node.projects.open(project) as opened:
                freed += (await opened.vault.gc(dry_run=True)).bytes_freed
        return _Work(freed, 0, 1)
    sizes = [await trio.to_thread.run_sync(_size, node, item, parameters.kind) for item in projects]
    copies = max((item.copies for item in projects), default=1)
    total = sum(sizes)
    return _Work(0, total, 1) if parameters.kind == "restore" else _Work(total, total, copies)


def _size(node: Node, project: Project, kind: str) -> int:
    """Return the most that a project can need: its newest snapshot, or what changed since its last backup."""
    newest = node.state.snapshots.newest(project.project_id)
    if kind == "restore" or (kind == "storage" and newest):
        return newest.size_bytes if newest else 0
    since = project.last_backup_at or 0
    return sum(_changed_bytes(Path(source), since) for source in project.sources)


def _changed_bytes(source: Path, since: int) -> int:
    if source.is_file():
        return source.stat().st_size if source.stat().st_mtime >= since else 0
    total, pending = 0, [str(source)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                total += found.st_size if max(found.st_mtime, found.st_ctime) >= since else 0
    return total


def _price(node: Node, parameters: QuoteParameters, work: _Work) -> dict[str, Any]:
    contracts = [item for item in node.contracts.live_as_customer() if item.state in ("active", "renewing")]
    lines = [_line(node, item, parameters, work) for item in contracts]
    # Copies go to as many providers as the project asks for; the dearest ones bound the price.
    ordered = sorted(lines, key=lambda line: -int(line["customer_pays_at_most_micro_vibe"]))
    counted = ordered[: work.copies] if parameters.kind != "restore" else ordered[-1:]
    basis = "contracts"
    if not lines:
        basis = "list prices"
        found = quote(
            LIST_PRICES,
            stored_bytes=work.stored_bytes,
            duration_s=parameters.months * MONTH_S,
            transfer_bytes=work.moved_bytes,
        )
        counted = [
            {
                "price_micro_vibe": found.price * work.copies,
                "bonus_micro_vibe": found.bonus * work.copies,
                "customer_pays_at_most_micro_vibe": found.customer_pays_at_most * work.copies,
                "provider_earns_at_most_micro_vibe": found.provider_earns_at_most * work.copies,
            }
        ]
    names = ("price", "bonus", "customer_pays_at_most", "provider_earns_at_most")
    return {
        "kind": parameters.kind,
        "basis": basis,
        "stored_bytes": work.stored_bytes,
        "moved_bytes": work.moved_bytes,
        "months": parameters.months,
        "copies": work.copies,
        **{f"{name}_micro_vibe": sum(line[f"{name}_micro_vibe"] for line in counted) for name in names},
        "contracts": lines,
    }


def _line(node: Node, contract: Contract, parameters: QuoteParameters, work: _Work) -> dict[str, Any]:
    return price_lines(
        node.money.customer_book,
        contract,
        stored_bytes=work.stored_bytes,
        transfer_bytes=work.moved_bytes,
        months=parameters.months,
    )
