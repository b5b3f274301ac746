"""A provider and a customer as real nodes in one process, with a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node_world import Device, World

from sovereign_node.clock import wall_clock
from sovereign_node.store.contracts import Contract

DAY_S = 86_400


class Clock:
    """Wall time and what the test adds to it."""

    def __init__(self) -> None:
        self.offset_s = 0

    def __call__(self) -> int:
        return wall_clock() + self.offset_s


@dataclass
class Market:
    """A provider and a customer with one open contract and a project."""

    world: World
    clock: Clock
    provider: Device
    customer: Device
    contract_id: bytes
    folder: Path

    async def turn(self) -> None:
        """Let both sides look at the clock."""
        self.provider.node.money.provide_once()
        await self.customer.node.money.pay_once()

    async def days(self, count: int) -> None:
        for _ in range(count):
            self.clock.offset_s += DAY_S
            await self.turn()

    def row(self, device: Device) -> Contract:
        found = device.node.state.contracts.get(self.contract_id)
        assert found is not None
        return found

    def balances(self, device: Device) -> dict[str, int]:
        found = device.node.state.ledger.balances()
        return {name.partition(":")[0]: amount for name, amount in found.items()}
