"""Which projects lack copies because a provider was away, or failed, while something was stored."""

from __future__ import annotations

import secrets

from sovereign_node.store import State

_MARK_BYTES = 8


def note_missed_copies(state: State, project_id: bytes) -> None:
    """Remember that a provider missed something; it is filled as soon as enough providers are there. Blocks."""
    state.meta.set(_key(project_id), secrets.token_hex(_MARK_BYTES))


def missed_copies(state: State, project_id: bytes) -> str | None:
    """Return a mark of what was missed last, None if nothing was. Blocks."""
    return state.meta.get(_key(project_id))


def has_missed_copies(state: State, project_id: bytes) -> bool:
    """Tell whether a provider missed something of a project. Blocks."""
    return missed_copies(state, project_id) is not None


def forget_missed_copies(state: State, project_id: bytes, mark: str | None) -> None:
    """Note that the copies are at target again, unless something was missed after the mark was read. Blocks."""
    with state.transaction():
        if missed_copies(state, project_id) == mark:
            state.meta.delete(_key(project_id))


def _key(project_id: bytes) -> str:
    return f"copies_missed:{project_id.hex()}"
