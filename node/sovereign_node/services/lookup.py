"""Find the one thing that a user named: by name, or by a unique prefix of its id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sovereign_node.errors import ambiguous, not_found

Item = TypeVar("Item")


def only(kind: str, name: str, found: Sequence[Item], label: Callable[[Item], str], known: str) -> Item:
    """Return the single item of ``found``.

    Args:
        kind: what it is, one lower-case word.
        name: what the user typed.
        found: everything that fits.
        label: text of an item for the message when there are several.
        known: command that lists them.

    Raises:
        NodeError: none, or more than one.
    """
    if not found:
        raise not_found(kind, name, known)
    if len(found) > 1:
        raise ambiguous(kind, name, [label(item) for item in found])
    return found[0]
