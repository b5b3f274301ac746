"""Where a project's copies go: providers that the owner prefers, and those that it avoids.

A rule is kept as text: the peer id of a preferred provider, or one with a minus sign before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.store.contracts import Contract
from sovereign_node.store.projects import Project

_AVOIDED: Final = "-"


def make_rules(preferred: Sequence[str], avoided: Sequence[str]) -> tuple[str, ...]:
    """Return the rules of a project for peer ids."""
    return (*preferred, *(_AVOIDED + peer_id for peer_id in avoided))


def preferred_peers(project: Project) -> set[str]:
    """Return the peer ids that a project prefers."""
    return {rule for rule in project.placement if not rule.startswith(_AVOIDED)}


def avoided_peers(project: Project) -> set[str]:
    """Return the peer ids that a project avoids."""
    return {rule.removeprefix(_AVOIDED) for rule in project.placement if rule.startswith(_AVOIDED)}


def wanted_contracts(project: Project, live: Sequence[Contract]) -> list[Contract]:
    """Choose the contracts under which a project stores.

    Args:
        project: with its rules and number of copies.
        live: all contracts of this identity.

    Returns:
        Those with preferred providers if there are enough for all copies, else these and the others; never one with
        a provider that is avoided.
    """
    avoided, preferred = avoided_peers(project), preferred_peers(project)
    allowed = [item for item in live if _peer_of(item) not in avoided]
    first = [item for item in allowed if _peer_of(item) in preferred]
    if len({_peer_of(item) for item in first}) >= project.copies:
        return first
    return first + [item for item in allowed if item not in first]


def _peer_of(contract: Contract) -> str:
    return peer_id_from_public_key(contract.provider_device)
