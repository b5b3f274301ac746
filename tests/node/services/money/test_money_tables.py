"""The tables that users query, storage_contracts and storage_metrics, hold what is so, whatever happens."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from market_nodes import Market
from node_world import Device

from sovereign_devnet.stored_chunks import stored_chunks
from sovereign_node.chunkstore import UnknownContractError
from sovereign_node.services.money.customer_vouchers import REFRESH_S

pytestmark = pytest.mark.slow

Row = dict[str, Any]


def query(device: Device, sql: str) -> list[Row]:
    """Ask the database as a user's monitoring would: from outside, read only."""
    connection = sqlite3.connect(f"{device.node.state.path.as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql)]
    finally:
        connection.close()


def truth(market: Market) -> tuple[int, int, int, int]:
    """Live bytes and chunks, and bytes in and out, as the provider's chunk store counts them."""
    try:
        usage = market.provider.node.chunk_store.usage(market.contract_id)
    except UnknownContractError:
        return 0, 0, 0, 0
    live = (usage.size_bytes - usage.marked_bytes, usage.chunks - usage.marked_chunks)
    return *live, usage.received_bytes, usage.sent_bytes


def contract_of(device: Device) -> Row:
    (row,) = query(device, "SELECT * FROM storage_contracts")
    return row


def metric_of(device: Device) -> Row:
    return query(device, "SELECT * FROM storage_metrics ORDER BY measured_at DESC LIMIT 1")[0]


async def check(market: Market, *, state: str = "active") -> None:
    """Compare all rows of both sides with the truth; the customer asks within a minute of a change."""
    devices = (market.provider, market.customer)
    with trio.move_on_after(20):
        while True:
            market.clock.offset_s += REFRESH_S + 1
            await market.turn()
            if all(metric_of(device)["bytes_in"] == truth(market)[2] for device in devices):
                break
            # A node stores something by itself after a command; it may have come just now.
            await trio.sleep(0.05)
    stored, chunks, received, sent = truth(market)
    for device in devices:
        row, metric = contract_of(device), metric_of(device)
        assert (row["state"], row["stored_bytes"], row["stored_chunks"]) == (state, stored, chunks)
        assert (metric["stored_bytes"], metric["stored_chunks"]) == (stored, chunks)
        assert (metric["bytes_in"], metric["bytes_out"]) == (received, sent)
        assert row["capacity_bytes"] == 100_000_000


async def test_the_tables_say_what_is_so(market: Market, tmp_path: Path) -> None:
    await market.customer.ask("backup")
    await check(market)
    assert truth(market)[0] > 3_000_000

    # The provider's own table does not wait for anybody.
    (market.folder / "b").write_bytes(os.urandom(2_000_000))
    await market.customer.ask("backup")
    with trio.fail_after(10):
        while contract_of(market.provider)["stored_bytes"] != truth(market)[0]:
            await trio.sleep(0.1)
    await check(market)

    await market.customer.ask("restore", project="photos", to=str(tmp_path / "out"))
    await check(market)
    assert truth(market)[3] > 5_000_000

    (market.folder / "b").unlink()
    await market.customer.ask("backup")
    await market.customer.ask("forget", project="photos", keep_last=1)
    before = truth(market)[0]
    await market.customer.ask("gc", project="photos")
    assert truth(market)[0] < before - 1_000_000
    await check(market)

    await _lose_and_repair(market)
    await check(market)

    await market.customer.ask("contract_close", contract=market.contract_id.hex())
    market.provider.node.money.provide_once()
    assert contract_of(market.customer)["state"] == contract_of(market.provider)["state"] == "closed"
    assert contract_of(market.customer)["stored_bytes"] == 0
    assert contract_of(market.provider)["stored_bytes"] == truth(market)[0] > 0
    market.clock.offset_s += market.row(market.provider).grace_s + 1
    market.provider.node.money.provide_once()
    assert contract_of(market.provider)["stored_bytes"] == truth(market)[0] == 0


async def _lose_and_repair(market: Market) -> None:
    """Let the provider find a chunk damaged, and the owner store it again."""
    folder = market.provider.node.data_dir.chunks
    mine = [item for item in stored_chunks(folder) if item.contract_id == market.contract_id and item.is_sound]
    chunk = max(mine, key=lambda item: item.size_bytes)
    with chunk.path.open("r+b") as file:
        file.seek(chunk.offset + 100)
        file.write(random.Random(1).randbytes(100))
    assert len((await market.provider.ask("provider_scrub"))["damaged"]) == 1
    await check(market)
    node = market.customer.node
    (project,) = node.state.projects.all()
    node.repair.request(project.project_id, market.contract_id, chunk.chunk_id)
    (outcome,) = await node.repair.run_once()
    assert (outcome.stored_again, outcome.lost) == (1, 0)
