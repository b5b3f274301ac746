"""Two real nodes and a clock that the test moves: a month is metered, paid and closed by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from market_nodes import Market

from sovereign_node.errors import NodeError
from sovereign_node.services.money.bundle import Judge
from sovereign_node.services.money.customer_vouchers import REFRESH_S
from sovereign_protocols.market.prices import MONTH_S, UptimeCount, storage_price
from sovereign_protocols.settle.bodies import MeterReport, PeriodStatement

pytestmark = pytest.mark.slow

DAY_S = 86_400
GB = 10**9


async def test_a_month_is_metered_paid_and_closed(market: Market) -> None:
    await market.customer.ask("backup")
    market.clock.offset_s += REFRESH_S + 1
    await market.turn()
    with trio.fail_after(20):
        # What the customer's node stores after a backup by itself may still be on its way.
        while market.row(market.provider).stored_bytes != market.row(market.customer).stored_bytes:
            await trio.sleep(0.05)
            await market.turn()
    stored = market.row(market.provider).stored_bytes
    assert stored > 3_000_000
    await market.days(31)

    for device in (market.provider, market.customer):
        book = device.node.money.book_of(market.row(device))
        (statement,) = book.statements(market.contract_id)
        assert len(book.newest(market.contract_id, PeriodStatement)) == 2
        assert sum(device.node.state.ledger.balances().values()) == 0
        assert device.node.state.ledger.verify() is None
    body = statement.body
    # Storage is metered from the receipts on, seconds after the upload.
    assert 0 <= storage_price(stored * MONTH_S, 2_000_000) - body.storage < 20
    assert body.transfer_bytes >= stored
    # Both sides know the same promises.
    for device in (market.provider, market.customer):
        book = device.node.money.book_of(market.row(device))
        report = book.newest(market.contract_id, MeterReport)[0].body
        assert book.vouchered(market.contract_id) == report.accrued
    earned = market.balances(market.provider)
    spent = market.balances(market.customer)
    assert earned["income"] == -spent["expense"] == -(body.storage + body.transfer)
    assert earned["vouchers-held"] == -spent["vouchers-given"]


async def test_the_commands_of_both_sides(market: Market, tmp_path: Path) -> None:
    customer, provider = market.customer, market.provider
    await customer.ask("backup")
    market.clock.offset_s += REFRESH_S + 1
    await market.turn()
    (offer,) = [item for item in await customer.ask("offers") if not item["own"]]
    assert offer["my_price_with_bonus_micro_vibe_per_month"] == offer["my_price_micro_vibe_per_month"] * 3 // 2
    quote = await customer.ask("quote", kind="storage", stored_bytes=5 * GB)
    assert (quote["basis"], quote["price_micro_vibe"]) == ("contracts", 12_500_000)
    assert (await customer.ask("quote", kind="backup"))["moved_bytes"] <= 3_000_000
    restore = await customer.ask("restore", project="photos", to=str(tmp_path / "out"), dry_run=True)
    assert restore["price"]["price_micro_vibe"] == 1500
    assert (await customer.ask("quote", kind="retention"))["stored_bytes"] == 0

    contract = market.contract_id.hex()
    renewed = await customer.ask("contract_renew", contract=contract, months=6, capacity_bytes=200_000_000)
    assert (renewed["revision"], renewed["capacity_bytes"]) == (1, 200_000_000)
    assert market.row(provider).capacity_bytes == 200_000_000
    (settled,) = await customer.ask("settle")
    assert (settled["agreed"], settled["exposed_micro_vibe"]) == (True, 0)
    paid = await customer.ask(
        "transfer", identity=settled["identity"], amount_micro_vibe=settled["open_micro_vibe"]
    )
    assert paid["state"] == "waiting for the other side"
    (confirmed,) = await provider.ask("settle", confirm=True)
    assert [note["note"] for note in confirmed["confirmed"]] == [paid["note"]]
    (settled,) = await customer.ask("settle")
    assert settled["waiting"] == []
    assert (await customer.ask("wallet"))["peers"][0]["settled_micro_vibe"] == paid["amount_micro_vibe"]
    (bill,) = await customer.ask("bill")
    assert bill["so_far_micro_vibe"] <= bill["forecast_micro_vibe"]

    assert (await provider.ask("provider_contracts"))[0]["contract"] == contract
    assert (await provider.ask("earnings", forecast=True))["per_month_micro_vibe"] > 0
    assert (await provider.ask("maintenance_announce", in_s=7200, for_s=600))["notices"] == 1
    drained = await provider.ask("drain")
    assert (drained["contracts_left"], drained["safe_to_stop"]) == (1, False)
    (settled,) = await customer.ask("settle")
    assert settled["state"] == "ending"
    closed = await customer.ask("contract_close", contract=contract)
    assert closed["state"] == "closed"
    provider.node.money.provide_once()
    (settled,) = await customer.ask("settle")
    assert settled["exposed_micro_vibe"] == 0
    for device in (customer, provider):
        verified = await device.ask("ledger_verify")
        assert (verified["ok"], verified["sum_micro_vibe"]) == (True, 0)
        bundle = tmp_path / f"{device.node.config.name}.json"
        exported = await device.ask("dispute_export", contract=contract, to=str(bundle))
        assert exported["papers"] > 10
        assert Judge(json.loads(bundle.read_text())).judge().to_json()["ok"]
    statements = [await device.ask("statements") for device in (customer, provider)]
    assert [row["hash"] for row in statements[0]] == [row["hash"] for row in statements[1]] != []


async def test_a_sponsor_pays_what_uptime_adds(market: Market) -> None:
    provider, customer = market.provider, market.customer
    market.world.make("treasury", "server")
    sponsor = await market.world.start("treasury", provider.address)
    peer_id = provider.node.keys.peer_id
    await sponsor.node.finder.learn(peer_id, [provider.address], source="test")
    await customer.ask("contract_close", contract=market.contract_id.hex())
    opened = await customer.ask(
        "contract_open",
        provider=peer_id,
        capacity_bytes=100_000_000,
        bonus="sponsor",
        sponsor=sponsor.node.identity.identity_id.hex(),
    )
    granted = await sponsor.ask("sponsor_grant", contract=opened["id"], provider=peer_id, budget_micro_vibe=10**7)
    assert granted["left_micro_vibe"] == 10**7
    full = UptimeCount(4320, 4320, 4320)
    for device in (provider, customer):
        for book in (device.node.money.provider_book, device.node.money.customer_book):
            book.uptime = lambda *_: full
    await customer.ask("backup")
    for seconds in (REFRESH_S + 1, MONTH_S, REFRESH_S):
        market.clock.offset_s += seconds
        await market.turn()
    await sponsor.ask("settle")
    rows = [
        next(row for row in await device.ask("statements") if row["contract"] == opened["id"])
        for device in (provider, customer)
    ]
    line = rows[0]
    bonus = line["sponsor_bonus_micro_vibe"]
    assert 0 < bonus == line["sponsor_paid_micro_vibe"] == rows[1]["sponsor_bonus_micro_vibe"]
    assert abs(2 * bonus - line["storage_micro_vibe"] - line["transfer_micro_vibe"]) <= 2
    (sponsored,) = (await sponsor.ask("wallet"))["sponsored"]
    assert (sponsored["paid_micro_vibe"], sponsored["periods"]) == (bonus, 1)
    assert (await sponsor.ask("ledger_verify"))["ok"]
    assert market.balances(provider)["bonus-held"] == bonus == -market.balances(sponsor)["bonus-given"]


async def test_wishes_that_cannot_be_met_are_explained(market: Market) -> None:
    ask, peer_id = market.customer.ask, market.provider.node.keys.peer_id
    own = market.customer.node.identity.identity_id.hex()
    for bonus, sponsor in (("sponsor", ""), ("sponsor", "ab"), ("sponsor", own), ("customer", "ab" * 32)):
        with pytest.raises(NodeError, match="sponsor"):
            await ask("contract_open", provider=peer_id, capacity_bytes=10**7, bonus=bonus, sponsor=sponsor)
    with pytest.raises(NodeError, match="unknown_contract"):
        await ask("sponsor_grant", contract=market.contract_id.hex(), provider=peer_id, budget_micro_vibe=5)
    for contract, provider in (("ab", peer_id), ("ab" * 32, "nobody"), ("no hex", peer_id)):
        with pytest.raises(NodeError, match="whole contract id"):
            await ask("sponsor_grant", contract=contract, provider=provider, budget_micro_vibe=5)
    with pytest.raises(NodeError, match="along contracts") as caught:
        await ask("transfer", identity="ff" * 32, amount_micro_vibe=5)
    assert "sovereign contract open" in caught.value.hint
