"""The vault's memory of heads, kept in the state database."""

from __future__ import annotations

from sovereign_node.clock import Clock
from sovereign_node.store import State
from sovereign_node.store.heads import SeenHead as StoredHead
from sovereign_protocols.vault.snapshot import SeenHead


class StateSeenHeads:
    """Implements the vault's SeenHeads; called from worker threads.

    Args:
        state: open state database.
        clock: wall time.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def highest(self, locator: bytes) -> list[SeenHead]:
        """Return the highest head seen of every writer of a project."""
        return [
            SeenHead(item.device_id, item.instance, item.sequence, item.hash)
            for item in self._state.heads.all(locator)
        ]

    def record(self, locator: bytes, head: SeenHead, raw: bytes) -> None:
        """Remember a head that is higher than the one before."""
        stored = StoredHead(locator, head.device, head.instance, head.sequence, head.head_hash, raw, self._clock())
        self._state.heads.observe(stored)

    def forget(self, locator: bytes) -> None:
        """Forget all heads of a project, when a person accepts an older state."""
        self._state.heads.forget(locator)
