"""Which projects lack copies because a provider was away, or failed, while something was stored."""

from __future__ import annotations

from sovereign_node.store import State


def note_missed_copies(state: State, project_id: bytes) -> None:
    """Remember that a provider missed something; it is filled as soon as enough providers are there. Blocks."""
    state.meta.set(_key(project_id), "1")


def has_missed_copies(state: State, project_id: bytes) -> bool:
    """Tell whether a provider missed something of a project. Blocks."""
    return state.meta.get(_key(project_id)) is not None


def forget_missed_copies(state: State, project_id: bytes) -> None:
    """Note that the copies are at target again. Blocks."""
    state.meta.delete(_key(project_id))


def _key(project_id: bytes) -> str:
    return f"copies_missed:{project_id.hex()}"
