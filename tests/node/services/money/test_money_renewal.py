"""Contracts are extended by themselves before they end, within what the owner allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from market_nodes import Market

from sovereign_node.errors import NodeError
from sovereign_protocols.market.prices import MONTH_S

pytestmark = pytest.mark.slow

DAY_S = 86_400


async def shorten(market: Market, **wanted: object) -> None:
    """Open another contract instead, for one month."""
    await market.customer.ask("contract_close", contract=market.contract_id.hex())
    opened = await market.customer.ask(
        "contract_open",
        provider=market.provider.node.keys.peer_id,
        capacity_bytes=100_000_000,
        months=1,
        **wanted,
    )
    market.contract_id = bytes.fromhex(opened["id"])
    await market.customer.ask("backup")
    market.clock.offset_s += 700
    await market.turn()
    assert market.row(market.customer).stored_bytes > 3_000_000


def raise_price(market: Market, factor: int) -> None:
    provider = market.provider.node.config.provider
    dearer = replace(provider, price_micro_vibe_per_gb_month=provider.price_micro_vibe_per_gb_month * factor)
    market.provider.node.contracts.change_offer(dearer)


async def test_a_contract_is_extended_before_it_ends(market: Market) -> None:
    await shorten(market)
    before = market.row(market.customer)
    await market.days(26)
    assert market.row(market.customer).revision == 0
    await market.days(2)
    for device in (market.customer, market.provider):
        row = market.row(device)
        assert (row.revision, row.state) == (1, "active")
        assert row.ends_at == before.ends_at + MONTH_S


async def test_a_dearer_contract_is_extended_within_the_budget_or_when_asked(market: Market) -> None:
    # 100 MB at list price cost 0.2 VIBE a month when full.
    await shorten(market, budget_micro_vibe=500_000)
    raise_price(market, 2)
    await market.days(28)
    row = market.row(market.customer)
    assert (row.revision, row.price_micro_vibe_per_gb_month, row.budget_micro_vibe) == (1, 4_000_000, 500_000)
    raise_price(market, 4)
    await market.days(30)
    assert market.row(market.customer).revision == 1
    with pytest.raises(NodeError, match="risen"):
        await market.customer.node.money.renew(market.row(market.customer))
    asked = await market.customer.ask(
        "contract_renew", contract=market.contract_id.hex(), budget_micro_vibe=2_000_000
    )
    assert (asked["revision"], asked["price_micro_vibe_per_gb_month"]) == (2, 8_000_000)
    assert market.row(market.provider).budget_micro_vibe == 2_000_000


async def test_without_a_budget_a_dearer_contract_ends_and_what_it_held_stays_readable(market: Market) -> None:
    await shorten(market)
    raise_price(market, 2)
    await market.days(31)
    market.customer.node.contracts.end_what_is_over()
    market.provider.node.contracts.end_what_is_over()
    assert (market.row(market.customer).state, market.row(market.customer).revision) == ("ending", 0)
    verified = await market.customer.ask("verify", read_data_percent=100.0)
    assert verified["errors"] == []


async def test_a_friend_opens_without_charge_and_others_are_told_why_not(market: Market) -> None:
    customer, provider = market.customer, market.provider
    peer_id = provider.node.keys.peer_id
    with pytest.raises(NodeError, match="the price is now 2 VIBE") as refused:
        await customer.ask("contract_open", provider=peer_id, capacity_bytes=10**8, free=True)
    assert "offers" in refused.value.hint
    friends = (customer.node.identity.identity_id.hex(),)
    provider.node.contracts.change_offer(replace(provider.node.config.provider, friends=friends))
    opened = await customer.ask("contract_open", provider=peer_id, capacity_bytes=10**8, free=True)
    assert opened["price_micro_vibe_per_gb_month"] == 0
    with pytest.raises(NodeError, match="not enough room: 800 MB free"):
        await customer.ask("contract_open", provider=peer_id, capacity_bytes=10**10)
