"""A customer that dies between the provider's signature and its own books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_world import open_world

MB = 1_000_000


async def test_a_contract_that_was_signed_but_not_written_down_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        world.make("disk", "provider")
        world.make("laptop", "mobile")
        provider = await world.start("disk")
        laptop = await world.start("laptop", provider.address)

        async def open_contract(capacity_bytes: int) -> Any:
            return await laptop.ask(
                "contract_open", provider=provider.node.keys.peer_id, capacity_bytes=capacity_bytes
            )

        def die(*_arguments: Any) -> None:
            raise OSError("the power is gone")

        with monkeypatch.context() as patched:
            patched.setattr(laptop.node.state.contracts, "save", die)
            with pytest.raises(OSError, match="power"):
                await open_contract(20 * MB)
        (signed,) = provider.node.state.contracts.all(role="provider")
        assert laptop.node.state.contracts.all() == []

        again = await open_contract(20 * MB)
        assert bytes.fromhex(again["id"]) == signed.contract_id
        assert len(provider.node.state.contracts.all()) == 1
        (kept,) = laptop.node.state.contracts.all()
        assert (kept.contract_id, kept.role, kept.state) == (signed.contract_id, "customer", "active")

        # What is written down already is no answer to a wish for another contract.
        other = await open_contract(20 * MB)
        assert other["id"] != again["id"]
        assert len(laptop.node.state.contracts.all()) == len(provider.node.state.contracts.all()) == 2
