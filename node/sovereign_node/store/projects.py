"""projects and project_collaborators."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_node.store.database import Database
from sovereign_node.store.rows import find_by_prefix, from_json, to_json


@dataclass(frozen=True)
class Project:
    """One row of projects.

    Args:
        project_id: 32 bytes.
        name: unique among the projects in use.
        sources: absolute paths, or empty on a device that only restores.
        sealed_keys: the project's keys as an SVE1 record.
        added_at: Unix seconds UTC.
        copies: how many providers must hold each chunk.
        placement: peer ids of the providers that the user asked for; empty for any.
        removed_at: Unix seconds UTC, None while in use.
        last_backup_at: Unix seconds UTC, None before the first.
    """

    project_id: bytes
    name: str
    sources: tuple[str, ...]
    sealed_keys: bytes
    added_at: int
    copies: int = 1
    placement: tuple[str, ...] = ()
    removed_at: int | None = None
    last_backup_at: int | None = None


@dataclass(frozen=True)
class Collaborator:
    """One row of project_collaborators: who has which role, as the membership log says."""

    project_id: bytes
    identity: bytes
    role: str
    added_at: int
    removed_at: int | None = None


def _project(row: sqlite3.Row) -> Project:
    return Project(
        project_id=bytes.fromhex(row["project_id"]),
        name=row["name"],
        sources=from_json(row["sources"]),
        sealed_keys=row["sealed_keys"],
        added_at=row["added_at"],
        copies=row["copies"],
        placement=from_json(row["placement"]),
        removed_at=row["removed_at"],
        last_backup_at=row["last_backup_at"],
    )


def _collaborator(row: sqlite3.Row) -> Collaborator:
    return Collaborator(
        project_id=bytes.fromhex(row["project_id"]),
        identity=bytes.fromhex(row["identity"]),
        role=row["role"],
        added_at=row["added_at"],
        removed_at=row["removed_at"],
    )


class Projects:
    """Reads and writes of projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, project: Project) -> None:
        """Add a project or replace its row.

        Raises:
            StateConflictError: another project in use has that name.
        """
        self._database.execute(
            "INSERT INTO projects (project_id, name, sources, copies, placement, sealed_keys, added_at,"
            " removed_at, last_backup_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (project_id) DO UPDATE SET name = excluded.name, sources = excluded.sources,"
            " copies = excluded.copies, placement = excluded.placement, sealed_keys = excluded.sealed_keys,"
            " removed_at = excluded.removed_at, last_backup_at = excluded.last_backup_at",
            (
                project.project_id.hex(),
                project.name,
                to_json(project.sources),
                project.copies,
                to_json(project.placement),
                project.sealed_keys,
                project.added_at,
                project.removed_at,
                project.last_backup_at,
            ),
        )

    def get(self, project_id: bytes) -> Project | None:
        """Read one project by its 32-byte id."""
        row = self._database.query_one("SELECT * FROM projects WHERE project_id = ?", (project_id.hex(),))
        return None if row is None else _project(row)

    def all(self, *, include_removed: bool = False) -> list[Project]:
        """Read the projects, oldest first."""
        rows = self._database.query(
            "SELECT * FROM projects WHERE ? OR removed_at IS NULL ORDER BY added_at, project_id",
            (int(include_removed),),
        )
        return [_project(row) for row in rows]

    def find(self, text: str) -> Sequence[Project]:
        """Find projects in use by exact name, or by the start of their id."""
        rows = self._database.query("SELECT * FROM projects WHERE name = ? AND removed_at IS NULL", (text,))
        if rows:
            return [_project(row) for row in rows]
        found = find_by_prefix(self._database, "projects", "project_id", text, _project)
        return [project for project in found if project.removed_at is None]

    def remove(self, project_id: bytes, at: int) -> bool:
        """Stop protecting a project; its keys stay, so that it can be restored. Returns whether it was in use."""
        changed = self._database.execute(
            "UPDATE projects SET removed_at = ? WHERE project_id = ? AND removed_at IS NULL",
            (at, project_id.hex()),
        )
        return changed == 1

    def set_last_backup(self, project_id: bytes, at: int) -> bool:
        """Record a finished backup; returns whether the project is known."""
        changed = self._database.execute(
            "UPDATE projects SET last_backup_at = ? WHERE project_id = ?", (at, project_id.hex())
        )
        return changed == 1


class Collaborators:
    """Reads and writes of project_collaborators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, collaborator: Collaborator) -> None:
        """Add a person to a project, or change role and dates.

        Raises:
            StateConflictError: the project is unknown or the role does not exist.
        """
        self._database.execute(
            "INSERT INTO project_collaborators (project_id, identity, role, added_at, removed_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (project_id, identity) DO UPDATE SET"
            " role = excluded.role, added_at = excluded.added_at, removed_at = excluded.removed_at",
            (
                collaborator.project_id.hex(),
                collaborator.identity.hex(),
                collaborator.role,
                collaborator.added_at,
                collaborator.removed_at,
            ),
        )

    def all(self, project_id: bytes, *, include_removed: bool = False) -> list[Collaborator]:
        """Read the people of a project, in the order in which they came."""
        rows = self._database.query(
            "SELECT * FROM project_collaborators WHERE project_id = ? AND (? OR removed_at IS NULL)"
            " ORDER BY added_at, identity",
            (project_id.hex(), int(include_removed)),
        )
        return [_collaborator(row) for row in rows]

    def remove(self, project_id: bytes, identity: bytes, at: int) -> bool:
        """Mark a person as removed; returns whether the person was a member."""
        changed = self._database.execute(
            "UPDATE project_collaborators SET removed_at = ?"
            " WHERE project_id = ? AND identity = ? AND removed_at IS NULL",
            (at, project_id.hex(), identity.hex()),
        )
        return changed == 1
