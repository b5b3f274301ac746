"""Making a project of a folder, a file or a database."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Final

from sovereign_crypto.project import ProjectKeys
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.project_keys import free_project_name, seal_project_keys
from sovereign_node.store import State
from sovereign_node.store.projects import Project

MAX_NAME_CHARACTERS: Final = 64


def existing_source(path: str, own_root: Path) -> Path:
    """Return the absolute path of what a user wants to protect. Blocks.

    Args:
        path: as the user gave it.
        own_root: data directory of this node.

    Raises:
        NodeError: nothing is there, or it is the node's own data.
    """
    source = Path(path).expanduser()
    if not source.is_absolute() or not source.exists():
        raise NodeError(
            "path_not_found", f"there is nothing at {source}", "give an existing folder or file", ExitCode.NOT_FOUND
        )
    source, own = source.resolve(), own_root.resolve()
    if source == own or own in source.parents:
        raise NodeError(
            "own_data", "the data directory of the node can't be protected by itself", "choose another folder"
        )
    return source


def make_project(
    state: State, keys: DeviceKeys, source: Path, name: str | None, copies: int, *, at: int
) -> Project:
    """Return a project with fresh keys, not saved yet. Blocks.

    Args:
        state: the other projects.
        keys: of this device; seal the project's.
        source: absolute path.
        name: chosen by the user; the last part of the path without.
        copies: wanted number of providers.
        at: now, Unix seconds UTC.

    Raises:
        NodeError: protected already, or the name is taken or not usable.
    """
    projects = state.projects.all()
    for project in projects:
        if str(source) in project.sources:
            raise NodeError(
                "already_protected",
                f"{source} is protected as {project.name}",
                f"back it up with: sovereign backup {project.name}",
            )
    if name is not None:
        # What goes into the identity record has one encoding only.
        name = unicodedata.normalize("NFC", name)
        _check_name(name, {project.name for project in projects})
    project_keys = ProjectKeys.generate()
    return Project(
        project_id=project_keys.project_id,
        name=name or free_project_name(state, _default_name(source)),
        sources=(str(source),),
        sealed_keys=seal_project_keys(keys, project_keys),
        added_at=at,
        copies=copies,
    )


def _check_name(name: str, taken: set[str]) -> None:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise NodeError(
            "invalid_name",
            f"a project's name has 1 to {MAX_NAME_CHARACTERS} printable characters",
            "choose another with --name",
            ExitCode.USAGE,
        )
    if name in taken:
        raise NodeError("name_taken", f"a project named {name!r} exists", "choose another with --name")


def _default_name(source: Path) -> str:
    """Make a name of a path: others of this identity get it as text, so it must be some."""
    name = "".join(character if character.isprintable() else "_" for character in source.name).strip()
    return unicodedata.normalize("NFC", name)[:MAX_NAME_CHARACTERS] or "root"
