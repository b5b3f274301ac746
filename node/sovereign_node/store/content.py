"""content_index: what the newest snapshot of each device holds, for search and for listings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from sovereign_node.store.database import Database


@dataclass(frozen=True)
class ContentEntry:
    """One file, folder or symlink of a project, as one device last saved it.

    Args:
        project_id, device_id, snapshot_id: 32 bytes each.
        path: relative to the project, components joined with "/".
        kind: file, dir or symlink.
        size_bytes: 0 for all but files.
        modified_at: Unix seconds UTC.
    """

    project_id: bytes
    device_id: bytes
    path: str
    kind: str
    size_bytes: int
    modified_at: int
    snapshot_id: bytes


def _entry(row: sqlite3.Row) -> ContentEntry:
    return ContentEntry(
        project_id=bytes.fromhex(row["project_id"]),
        device_id=bytes.fromhex(row["device_id"]),
        path=row["path"],
        kind=row["kind"],
        size_bytes=row["size_bytes"],
        modified_at=row["modified_at"],
        snapshot_id=bytes.fromhex(row["snapshot_id"]),
    )


class ContentIndex:
    """Reads and writes of content_index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, project_id: bytes, device_id: bytes, entries: Iterable[ContentEntry]) -> None:
        """Make the index of one project and device exactly these entries, in one transaction.

        Unchanged rows are not written, so a backup without changes costs one read; about 100 bytes of memory are
        taken for each entry.

        Args:
            project_id: 32 bytes.
            device_id: 32 bytes.
            entries: all of that project and device.
        """
        scope = (project_id.hex(), device_id.hex())
        with self._database.transaction():
            known = {
                row[0]: tuple(row)[1:]
                for row in self._database.query(
                    "SELECT path, kind, size_bytes, modified_at FROM content_index"
                    " WHERE project_id = ? AND device_id = ?",
                    scope,
                )
            }
            changed = []
            for entry in entries:
                if (entry.project_id, entry.device_id) != (project_id, device_id):
                    raise ValueError("an entry belongs to another project or device")
                values = (entry.kind, entry.size_bytes, entry.modified_at)
                if known.pop(entry.path, None) != values:
                    changed.append((*scope, entry.path, *values, entry.snapshot_id.hex()))
            self._write(changed)
            self._database.execute_many(
                "DELETE FROM content_index WHERE project_id = ? AND device_id = ? AND path = ?",
                [(*scope, path) for path in known],
            )

    def _write(self, rows: list[tuple[str, str, str, str, int, int, str]]) -> None:
        self._database.execute_many(
            "INSERT INTO content_index (project_id, device_id, path, kind, size_bytes, modified_at, snapshot_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, device_id, path) DO UPDATE SET"
            " kind = excluded.kind, size_bytes = excluded.size_bytes, modified_at = excluded.modified_at,"
            " snapshot_id = excluded.snapshot_id",
            rows,
        )

    def entries(
        self, project_id: bytes, *, device_id: bytes | None = None, after_path: str = "", limit: int = 1000
    ) -> list[ContentEntry]:
        """Read entries in the order of their paths, a page at a time.

        Args:
            project_id: 32 bytes.
            device_id: only what this device saved.
            after_path: start behind this path, the last of the page before.
            limit: page length.
        """
        rows = self._database.query(
            "SELECT * FROM content_index WHERE project_id = :project AND path > :after"
            " AND (:device IS NULL OR device_id = :device) ORDER BY path, device_id LIMIT :limit",
            {
                "project": project_id.hex(),
                "device": None if device_id is None else device_id.hex(),
                "after": after_path,
                "limit": limit,
            },
        )
        return [_entry(row) for row in rows]

    def search(self, text: str, *, project_id: bytes | None = None, limit: int = 100) -> list[ContentEntry]:
        """Find entries whose path contains a text, without regard to ASCII case.

        Args:
            text: taken literally.
            project_id: only in this project.
            limit: most results.
        """
        literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        rows = self._database.query(
            "SELECT * FROM content_index WHERE path LIKE :pattern ESCAPE '\\'"
            " AND (:project IS NULL OR project_id = :project) ORDER BY path, project_id LIMIT :limit",
            {
                "pattern": f"%{literal}%",
                "project": None if project_id is None else project_id.hex(),
                "limit": limit,
            },
        )
        return [_entry(row) for row in rows]
