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

        Unchanged rows are not written, so a backup without changes costs reads only.

        Args:
            project_id: 32 bytes.
            device_id: 32 bytes.
            entries: all of that project and device.
        """
        with self._database.transaction():
            self._database.execute("CREATE TEMP TABLE IF NOT EXISTS kept (path TEXT PRIMARY KEY) WITHOUT ROWID")
            self._database.execute("DELETE FROM temp.kept")
            for entry in entries:
                if (entry.project_id, entry.device_id) != (project_id, device_id):
                    raise ValueError("an entry belongs to another project or device")
                self._upsert(entry)
                self._database.execute("INSERT INTO temp.kept (path) VALUES (?)", (entry.path,))
            self._database.execute(
                "DELETE FROM content_index WHERE project_id = :project AND device_id = :device"
                " AND path NOT IN (SELECT path FROM temp.kept)",
                {"project": project_id.hex(), "device": device_id.hex()},
            )
            self._database.execute("DELETE FROM temp.kept")

    def _upsert(self, entry: ContentEntry) -> None:
        self._database.execute(
            "INSERT INTO content_index (project_id, device_id, path, kind, size_bytes, modified_at, snapshot_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, device_id, path) DO UPDATE SET"
            " kind = excluded.kind, size_bytes = excluded.size_bytes, modified_at = excluded.modified_at,"
            " snapshot_id = excluded.snapshot_id"
            " WHERE (kind, size_bytes, modified_at)"
            " IS NOT (excluded.kind, excluded.size_bytes, excluded.modified_at)",
            (
                entry.project_id.hex(),
                entry.device_id.hex(),
                entry.path,
                entry.kind,
                entry.size_bytes,
                entry.modified_at,
                entry.snapshot_id.hex(),
            ),
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
