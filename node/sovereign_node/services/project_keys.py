"""Keys of projects at rest: sealed in the state database, and as entries of the identity record."""

from __future__ import annotations

from sovereign_crypto.project import ProjectKeys
from sovereign_node.keys import DeviceKeys
from sovereign_node.store import State
from sovereign_node.store.projects import Project
from sovereign_protocols.recovery.record import ProjectEntry


def seal_project_keys(keys: DeviceKeys, project_keys: ProjectKeys) -> bytes:
    """Seal the keys of a project for this device's database."""
    return keys.seal_local(_context(project_keys.project_id), project_keys.to_bytes())


def open_project_keys(keys: DeviceKeys, project: Project) -> ProjectKeys:
    """Open the keys of a project row.

    Raises:
        CryptoError: the row is damaged or belongs to another device.
    """
    return ProjectKeys.from_bytes(keys.open_local(_context(project.project_id), project.sealed_keys))


def project_entries(state: State, keys: DeviceKeys) -> list[ProjectEntry]:
    """Return every project of this device, also those it no longer protects, as entries of the identity record."""
    return [
        ProjectEntry(project.project_id, project.name, open_project_keys(keys, project).to_bytes(), project.copies)
        for project in state.projects.all(include_removed=True)
    ]


def adopt_project(entry: ProjectEntry, state: State, keys: DeviceKeys, *, at: int) -> bool:
    """Add a project that another device made; returns False if it is known.

    Raises:
        CryptoError: its keys are malformed.
    """
    if state.projects.get(entry.project_id) is not None:
        return False
    project_keys = ProjectKeys.from_bytes(entry.keys)
    state.projects.save(
        Project(
            project_id=entry.project_id,
            name=free_project_name(state, entry.name),
            sources=(),
            sealed_keys=seal_project_keys(keys, project_keys),
            added_at=at,
            copies=entry.copies,
        )
    )
    return True


def free_project_name(state: State, wanted: str) -> str:
    """Return ``wanted``, or with a number behind it if the name is taken."""
    taken = {project.name for project in state.projects.all()}
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


def _context(project_id: bytes) -> bytes:
    return b"project keys" + project_id
