"""snapshots: a cache of what the heads of all devices lead to."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sovereign_node.store.database import Database
from sovereign_node.store.rows import find_by_prefix, from_json, to_json


@dataclass(frozen=True)
class SnapshotRow:
    """One snapshot.

    Args:
        snapshot_id, project_id, device_id: 32 bytes each; the device took it.
        taken_at: Unix seconds UTC.
        file_count: files in it.
        size_bytes: sum of the files' sizes.
        parents: ids of the snapshots it follows.
        raw: the signed snapshot, or None if only the figures are cached.
        forgotten_at: when the retention rule dropped it, None while it is kept.
    """

    snapshot_id: bytes
    project_id: bytes
    device_id: bytes
    taken_at: int
    file_count: int
    size_bytes: int
    parents: tuple[bytes, ...] = ()
    raw: bytes | None = None
    forgotten_at: int | None = None


def _snapshot(row: sqlite3.Row) -> SnapshotRow:
    return SnapshotRow(
        snapshot_id=bytes.fromhex(row["snapshot_id"]),
        project_id=bytes.fromhex(row["project_id"]),
        device_id=bytes.fromhex(row["device_id"]),
        taken_at=row["taken_at"],
        file_count=row["file_count"],
        size_bytes=row["size_bytes"],
        parents=tuple(bytes.fromhex(parent) for parent in from_json(row["parents"])),
        raw=row["raw"],
        forgotten_at=row["forgotten_at"],
    )


class Snapshots:
    """Reads and writes of snapshots."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, snapshot: SnapshotRow) -> None:
        """Add a snapshot; a known one only learns its raw bytes and that it was forgotten."""
        self._database.execute(
            "INSERT INTO snapshots (snapshot_id, project_id, device_id, taken_at, file_count, size_bytes,"
            " parents, raw, forgotten_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (snapshot_id) DO UPDATE SET raw = coalesce(raw, excluded.raw),"
            " forgotten_at = coalesce(forgotten_at, excluded.forgotten_at)",
            (
                snapshot.snapshot_id.hex(),
                snapshot.project_id.hex(),
                snapshot.device_id.hex(),
                snapshot.taken_at,
                snapshot.file_count,
                snapshot.size_bytes,
                to_json([parent.hex() for parent in snapshot.parents]),
                snapshot.raw,
                snapshot.forgotten_at,
            ),
        )

    def get(self, snapshot_id: bytes) -> SnapshotRow | None:
        """Read one snapshot by its 32-byte id."""
        row = self._database.query_one("SELECT * FROM snapshots WHERE snapshot_id = ?", (snapshot_id.hex(),))
        return None if row is None else _snapshot(row)

    def all(self, project_id: bytes | None = None, *, include_forgotten: bool = False) -> list[SnapshotRow]:
        """Read the snapshots of one project or of all, oldest first."""
        rows = self._database.query(
            "SELECT * FROM snapshots WHERE (:project IS NULL OR project_id = :project)"
            " AND (:all OR forgotten_at IS NULL) ORDER BY taken_at, snapshot_id",
            {"project": None if project_id is None else project_id.hex(), "all": int(include_forgotten)},
        )
        return [_snapshot(row) for row in rows]

    def newest(self, project_id: bytes) -> SnapshotRow | None:
        """Read the last snapshot of a project that is kept."""
        row = self._database.query_one(
            "SELECT * FROM snapshots WHERE project_id = ? AND forgotten_at IS NULL"
            " ORDER BY taken_at DESC, snapshot_id LIMIT 1",
            (project_id.hex(),),
        )
        return None if row is None else _snapshot(row)

    def find(self, text: str, project_id: bytes | None = None) -> list[SnapshotRow]:
        """Find kept snapshots by the start of their id."""
        found = find_by_prefix(self._database, "snapshots", "snapshot_id", text, _snapshot)
        return [
            snapshot
            for snapshot in found
            if snapshot.forgotten_at is None and project_id in (None, snapshot.project_id)
        ]

    def forget(self, snapshot_id: bytes, at: int) -> bool:
        """Drop a snapshot from the listings; returns whether it was kept until now."""
        changed = self._database.execute(
            "UPDATE snapshots SET forgotten_at = ? WHERE snapshot_id = ? AND forgotten_at IS NULL",
            (at, snapshot_id.hex()),
        )
        return changed == 1

    def clear(self, project_id: bytes) -> None:
        """Throw the cache of one project away, before it is read again from providers."""
        self._database.execute("DELETE FROM snapshots WHERE project_id = ?", (project_id.hex(),))
