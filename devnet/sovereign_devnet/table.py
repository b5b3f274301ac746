"""The nodes of a test network as rows for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sovereign_devnet.member import Member
from sovereign_devnet.registry import Entry
from sovereign_node.errors import NodeError

ANSWER_TIMEOUT_S = 2.0
WIDTH = 180


def member_rows(members: Sequence[tuple[Entry, Member]]) -> list[dict[str, Any]]:
    """Return one row per node; ``state`` is up, down, or silent for one that runs and does not answer."""
    return [_row(entry, member) for entry, member in members]


def show_members(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "ROLES", "STATE", "PID", "PEER ID", "ADDRESS", "DATA"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (row["name"], ", ".join(row["roles"]), row["state"], str(row["pid"] or "-"), row["peer_id"])
        table.add_row(*cells, row["address"] or "-", row["data_dir"])
    # Ids and paths are there to be copied: a narrow terminal wraps the lines instead of the cells.
    Console(width=max(Console().width, WIDTH)).print(table)


def _row(entry: Entry, member: Member) -> dict[str, Any]:
    pid = member.pid
    state, address = ("silent", None) if pid else ("down", None)
    if pid:
        try:
            status = member.call("status", timeout_s=ANSWER_TIMEOUT_S)
        except NodeError:
            status = {}
        if status:
            state, address = "up", (status["addresses"][0].partition("/p2p/")[0] if status["addresses"] else None)
    return {
        "name": entry.name,
        "roles": entry.roles,
        "state": state,
        "pid": pid,
        "peer_id": entry.peer_id,
        "address": address,
        "data_dir": str(member.data_dir.root),
    }
