"""What a repair moves and what that costs; written into the audit log when it is done."""

from __future__ import annotations

from dataclasses import dataclass

from sovereign_node.services.targets import RemoteTarget
from sovereign_node.store import State
from sovereign_node.store.projects import Project
from sovereign_node.vault.target import ChunkTarget
from sovereign_protocols.market.prices import transfer_price


@dataclass(frozen=True)
class RepairOutcome:
    """What a repair did.

    Args:
        copied: chunks put back from another replica.
        stored_again: chunks without any good copy whose content was stored again from the owner's files.
        lost: chunks that could not be had from anywhere.
        bytes_moved: sealed bytes that were fetched and sent.
        cost_micro_vibe: what moving them costs.
    """

    copied: int
    stored_again: int
    lost: int
    bytes_moved: int
    cost_micro_vibe: int


class RepairWork:
    """Counts while a repair runs."""

    def __init__(self) -> None:
        self.copied = 0
        self._moved: dict[bytes, int] = {}

    def count(self, target: ChunkTarget, size_bytes: int) -> None:
        """Count bytes to or from a target, if it charges for them."""
        if isinstance(target, RemoteTarget):
            self._moved[target.contract_id] = self._moved.get(target.contract_id, 0) + size_bytes

    def finish(
        self, state: State, project: Project, at: int, *, stored_again: int = 0, lost: int = 0
    ) -> RepairOutcome:
        """Price what was moved and write all of it into the audit log. Blocks.

        Args:
            state: contracts and the audit log.
            project: that was repaired.
            at: Unix seconds UTC.
            stored_again: see RepairOutcome.
            lost: see RepairOutcome.
        """
        moved = sum(self._moved.values())
        outcome = RepairOutcome(self.copied, stored_again, lost, moved, self._cost(state))
        words = (
            f"{outcome.copied} copied, {outcome.stored_again} stored again, {outcome.lost} lost,"
            f" {outcome.bytes_moved} bytes, {outcome.cost_micro_vibe} micro-VIBE"
        )
        state.audit.record("node", "repaired", project.project_id.hex(), words, at=at)
        return outcome

    def _cost(self, state: State) -> int:
        total = 0
        for contract_id, moved in self._moved.items():
            contract = state.contracts.get(contract_id)
            if contract is not None:
                total += transfer_price(moved, contract.price_micro_vibe_per_gb_transfer)
        return total
