"""Fixtures of the tests of money."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from market_nodes import Clock, Market
from node_world import open_world


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    clock = Clock()
    async with open_world(tmp_path, clock) as world:
        world.make("attic", "provider")
        world.make("laptop", "mobile")
        provider = await world.start("attic")
        customer = await world.start("laptop", provider.address)
        await customer.node.finder.learn(provider.node.keys.peer_id, [provider.address], source="test")
        opened = await customer.ask(
            "contract_open", provider=provider.node.keys.peer_id, capacity_bytes=100_000_000
        )
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "a").write_bytes(os.urandom(3_000_000))
        await customer.ask("protect", path=str(folder))
        yield Market(world, clock, provider, customer, bytes.fromhex(opened["id"]), folder)
