"""Months in seconds: metering, vouchers, statements, limits, cheating, restore; both sides over real databases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from money_world import CUSTOMER, GB, NOW, PROVIDER, MoneyWorld, databases

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.money.bundle import Judge, export_bundle
from sovereign_node.services.money.metering import Change
from sovereign_node.services.money.sponsored import SponsoredContracts
from sovereign_node.services.money.tally import Tally
from sovereign_node.services.money.wallet import Wallet
from sovereign_node.store import open_state
from sovereign_protocols.market.acts import ActKind
from sovereign_protocols.market.draft import draft_revision
from sovereign_protocols.market.prices import MONTH_S, UptimeCount
from sovereign_protocols.market.terms import BonusPayer, countersign, sign_terms
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import (
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    Voucher,
    batch_root,
)
from sovereign_protocols.settle.ledger import account
from sovereign_protocols.settle.signed import parse_signed, sign_body

DAY_S = 86_400
FULL = UptimeCount(4320, 4320, 4320)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[MoneyWorld]:
    provider, customer = databases(tmp_path)
    with open_state(provider) as first, open_state(customer) as second:
        yield MoneyWorld(first, second)


def wallet_of(world: MoneyWorld, role: str) -> Wallet:
    sponsored = SponsoredContracts(world.states[role], PROVIDER.device_key, lambda: world.now)
    return Wallet(world.states[role], world.books, world.notes[role], sponsored, lambda: world.now)


async def month(world: MoneyWorld, *contract_ids: bytes) -> None:
    """Store 5 GB for exactly one month and move 1 GB."""
    for contract_id in contract_ids:
        world.put(contract_id, 5 * GB, moved=GB)
    world.meter.run_once()
    world.now += MONTH_S
    world.meter.run_once()
    assert await world.turn(*contract_ids)


@pytest.mark.parametrize(
    ("customers", "earned"),
    [(1, 15_750_000), (10, 157_500_000), pytest.param(100, 1_575_000_000, marks=pytest.mark.slow)],
)
async def test_the_figures_of_the_prototype(world: MoneyWorld, customers: int, earned: int) -> None:
    world.uptime = FULL
    contract_ids = [world.open() for _ in range(customers)]
    await month(world, *contract_ids)
    for role, state in world.states.items():
        assert sum(state.ledger.balances().values()) == 0
        assert state.ledger.verify() is None
        (statement,) = world.books[role].statements(contract_ids[0])
        assert (statement.body.storage, statement.body.transfer) == (10_000_000, 500_000)
        assert len(world.books[role].newest(contract_ids[0], PeriodStatement)) == 2
    income = world.states["provider"].ledger.balances("income")
    assert sum(income.values()) == -earned
    assert all(world.books["provider"].vouchered(key) == 15_750_000 for key in contract_ids)


async def test_without_observers_nobody_pays_a_bonus(world: MoneyWorld) -> None:
    contract_id = world.open()
    await month(world, contract_id)
    assert world.books["customer"].vouchered(contract_id) == 10_500_000


async def test_own_devices_pay_nothing_on_the_same_path(world: MoneyWorld) -> None:
    free = {"price_per_gb_month": 0, "price_per_gb_transfer": 0, "bonus_permille": 1000, "credit_limit": 0}
    contract_id = world.open(bonus_payer=BonusPayer.NOBODY, **free)
    await month(world, contract_id)
    (statement,) = world.books["customer"].statements(contract_id)
    assert (statement.body.storage, statement.body.closing, statement.body.byte_seconds) == (0, 0, 5 * GB * MONTH_S)
    assert world.books["customer"].vouchered(contract_id) == 0


async def test_three_months_of_changes_stay_equal_to_the_last_byte_second(world: MoneyWorld) -> None:
    contract_id = world.open(credit_limit=10**9)
    for day in range(92):
        world.put(contract_id, 10_007 * (day + 1), moved=10_007 * (day + 1))
        world.meter.run_once()
        assert await world.wait(DAY_S - day, contract_id, step_s=40_001)
    statements = {role: book.statements(contract_id) for role, book in world.books.items()}
    assert len(statements["provider"]) == 3
    bodies = [[signed.body for signed in found] for found in statements.values()]
    assert bodies[0] == bodies[1]
    meters = [state.meters.get(contract_id) for state in world.states.values()]
    assert meters[0].byte_seconds == world.books["customer"].meter(contract_id, meters[0].at).byte_seconds
    assert world.states["provider"].contracts.get(contract_id).stored_bytes == meters[0].stored_bytes
    world.meter.flush(contract_id)
    meters = [state.meters.get(contract_id) for state in world.states.values()]
    newest = world.states["provider"].metrics.newest(contract_id)
    assert newest.byte_seconds == meters[0].byte_seconds


async def test_a_voucher_is_signed_once_a_day_or_after_5_vibe(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB, moved=0)
    world.meter.run_once()
    world.now += DAY_S - 60
    await world.turn(contract_id)
    assert world.books["provider"].vouchered(contract_id) == 0
    world.now += 60
    await world.turn(contract_id)
    assert world.books["provider"].vouchered(contract_id) == 333_333
    world.put(contract_id, 0, chunks=0, moved=10 * GB)
    world.now += 60
    assert world.customer.is_turn_due(contract_id, world.now)
    await world.turn(contract_id)
    assert world.books["provider"].vouchered(contract_id) > 5_000_000


async def test_uploads_stop_at_the_limit_and_begin_again_when_paid(world: MoneyWorld) -> None:
    contract_id = world.open(credit_limit=1_000_000)
    assert world.meter.admit(contract_id, GB)
    world.put(contract_id, GB)
    assert world.meter.admit(contract_id, GB)
    world.put(contract_id, GB)
    assert not world.meter.admit(contract_id, 1)
    assert world.row(contract_id).state == "limited"
    assert wallet_of(world, "provider").balance(world.row(contract_id))["level"] == "stop"
    assert await world.turn(contract_id, is_asked=True)
    assert world.row(contract_id).state == "active"
    assert world.meter.admit(contract_id, GB)


async def test_credit_grows_with_every_honoured_month_and_falls_with_a_reminder(world: MoneyWorld) -> None:
    # Three days of 100 GB at list price are 20 VIBE; the terms allow 150.
    contract_id = world.open(capacity_bytes=100 * GB, credit_limit=150_000_000)
    world.put(contract_id, GB)
    limits = []
    for _ in range(5):
        assert {book.credit_limit(contract_id) for book in world.books.values()} == {
            world.books["provider"].exposure(contract_id, world.now).limit
        }
        limits.append(world.books["provider"].credit_limit(contract_id))
        assert await world.wait(MONTH_S, contract_id)
    assert limits == [20_000_000, 40_000_000, 80_000_000, 150_000_000, 150_000_000]
    for _ in range(40):
        # The customer is silent for a month and nine days.
        world.now += DAY_S
        world.meter.run_once()
        world.overdue.run_once()
    assert world.row(contract_id).state == "grace"
    assert await world.turn(contract_id, is_asked=True)
    world.overdue.run_once()
    assert world.row(contract_id).state == "active"
    assert {book.credit_limit(contract_id) for book in world.books.values()} == {20_000_000}


async def test_the_customer_is_warned_then_asked_then_stopped(world: MoneyWorld) -> None:
    contract_id = world.open(credit_limit=1_000_000, price_per_gb_month=0)
    balance = wallet_of(world, "provider").balance
    levels = []
    for _ in range(4):
        # 1 GB moved costs half of the credit, 0.5 GB a quarter.
        world.put(contract_id, 0, chunks=0, moved=GB // 2)
        world.meter.flush(contract_id)
        levels.append(balance(world.row(contract_id))["level"])
    assert levels == ["calm", "warn", "demand", "stop"]
    assert world.row(contract_id).state == "limited"


async def test_who_never_pays_is_reminded_and_loses_its_data_after_45_days_at_the_earliest(
    world: MoneyWorld,
) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB)
    world.meter.run_once()
    world.now += MONTH_S
    states = {}
    for day in range(60):
        world.meter.run_once()
        world.overdue.run_once()
        states[day] = world.row(contract_id).state
        world.now += DAY_S
    assert (states[6], states[7], states[44]) == ("limited", "grace", "grace")
    assert states[45] == "defaulted"
    assert states[59] == "closed"
    assert contract_id not in world.store.usages
    async with world.client() as client:
        kinds = [act.act.kind for act in await client.notices(contract_id)]
    assert kinds == [ActKind.OVERDUE, ActKind.FINAL, ActKind.DELETION]


async def test_who_pays_late_is_forgiven(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB)
    world.meter.run_once()
    world.now += MONTH_S + 10 * DAY_S
    world.meter.run_once()
    world.overdue.run_once()
    assert world.row(contract_id).state == "grace"
    assert await world.turn(contract_id)
    world.overdue.run_once()
    assert world.row(contract_id).state == "active"


async def test_a_provider_that_counts_more_than_was_stored_is_disputed(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, live=GB, chunks=1)
    world.meter.run_once()
    world.now += DAY_S
    assert not await world.turn(contract_id)
    dispute = world.books["provider"].newest(contract_id, MeterDispute)[0].body
    report = world.books["provider"].newest(contract_id, MeterReport)[0].body
    assert dispute.byte_seconds < report.byte_seconds
    assert world.books["provider"].vouchered(contract_id) == 0


async def test_deleted_chunks_that_are_still_metered_are_disputed(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB, chunks=10)
    assert await world.turn(contract_id)
    world.tallies[contract_id] = dataclasses.replace(world.tallies[contract_id], deleted_chunks=5)
    world.now += DAY_S
    assert not await world.turn(contract_id)


async def test_a_change_is_named_in_a_receipt_and_a_crash_loses_only_its_list(world: MoneyWorld) -> None:
    contract_id = world.open()
    items = [(bytes([n]) * 32, 1000 + n) for n in range(3)]
    with world.meter.change(contract_id) as change:
        world.put(contract_id, 3003, chunks=3)
        change.came = items
    world.put(contract_id, 500)
    world.meter.run_once()
    with world.meter.change(contract_id) as change:
        world.store.add(contract_id, live=-1000, chunks=-1)
        change.gone, change.delete_after_at = items[:1], NOW + 5
    world.meter.run_once()
    receipts = [
        signed.body for signed in world.states["provider"].settlement.all(contract_id, Receipt, NETWORK_ID_MAIN)
    ]
    assert [(r.count, r.batch_bytes, r.stored_bytes) for r in receipts] == [
        (3, 3003, 3003),
        (1, 500, 3503),
        (1, 1000, 2503),
    ]
    assert receipts[0].root == batch_root(items)
    assert receipts[2].delete_after_at == NOW + 5
    assert await world.turn(contract_id)


async def test_nothing_is_brought_in_line_while_a_change_is_under_way(world: MoneyWorld) -> None:
    contract_id = world.open()
    with world.meter.change(contract_id) as change:
        world.put(contract_id, 700)
        world.meter.run_once()
        assert world.states["provider"].meters.get(contract_id).stored_bytes == 0
        change.came = [(bytes(32), 700)]
    world.meter.run_once()
    assert world.states["provider"].meters.get(contract_id).stored_bytes == 700
    assert isinstance(change, Change)


async def test_new_prices_count_from_the_marked_receipt_on_both_sides(world: MoneyWorld) -> None:
    contract_id = world.open(credit_limit=10**9)
    world.put(contract_id, 5 * GB, moved=GB)
    world.meter.run_once()
    assert await world.wait(15 * DAY_S, contract_id)
    agreement = world.books["provider"].agreement(contract_id)
    terms = draft_revision(agreement, nonce=bytes(16), price_per_gb_month=4_000_000)
    world.save(countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key))
    assert await world.wait(15 * DAY_S, contract_id)
    (statement,) = world.books["customer"].statements(contract_id)
    # Half a month at 2 and half at 4 VIBE; the change counts from the receipt of the next look at the clock.
    assert statement.body.storage == 5_000_000 + 333_333 + 9_333_333
    assert world.books["provider"].statements(contract_id)[0].body == statement.body


async def test_a_bonus_that_own_observers_do_not_confirm_is_refused(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB)
    world.meter.run_once()
    world.now += MONTH_S
    world.uptime = FULL
    world.meter.run_once()
    world.uptime = UptimeCount(3000, 4320, 4320)
    assert not await world.turn(contract_id)
    assert world.books["customer"].statements(contract_id) == []


async def test_a_budget_bounds_what_is_promised(world: MoneyWorld) -> None:
    contract_id = world.open(budget=4_000_000)
    world.put(contract_id, 5 * GB)
    assert await world.wait(29 * DAY_S, contract_id)
    assert world.books["provider"].vouchered(contract_id) == 4_000_000


async def test_payments_are_confirmed_by_the_provider_and_gifts_at_once(world: MoneyWorld) -> None:
    contract_id = world.open()
    await month(world, contract_id)
    note = world.notes["customer"].draft(world.row(contract_id, "customer"), 10_000_000)
    await world.turn(contract_id)
    assert wallet_of(world, "customer").balance(world.row(contract_id, "customer"))["settled_micro_vibe"] == 0
    (waiting,) = world.notes["provider"].waiting(contract_id)
    assert waiting.content_hash == note.content_hash
    world.notes["provider"].confirm(waiting)
    await world.turn(contract_id)
    for role in ("provider", "customer"):
        balance = wallet_of(world, role).balance(world.row(contract_id, role))
        assert (balance["settled_micro_vibe"], balance["open_micro_vibe"]) == (10_000_000, 500_000)
        assert balance["waiting"] == []
    held = account("vouchers-held", contract_id)
    given = account("vouchers-given", contract_id)
    assert world.states["provider"].ledger.balance(held) == 500_000
    assert world.states["customer"].ledger.balance(given) == -500_000
    gift = world.notes["provider"].draft(world.row(contract_id), 250_000)
    signed = world.notes["customer"].take(PROVIDER.caller, gift)
    assert signed
    assert world.books["customer"].vouchered(contract_id) == 10_750_000


async def test_a_restored_customer_goes_on_with_a_new_lane(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB, moved=0)
    world.meter.run_once()
    assert await world.wait(2 * DAY_S, contract_id)
    shown = world.states["provider"].vouchers.newest(contract_id)
    world.customer.lose_lanes([contract_id])
    assert world.customer.has_lost_lane(contract_id)
    world.customer.recover(contract_id, shown, 77)
    assert await world.wait(DAY_S, contract_id)
    vouchers = world.states["provider"].vouchers
    assert len(vouchers.newest(contract_id)) == 2
    assert vouchers.total(contract_id) == 1_000_000


async def test_what_a_restored_customer_has_forgotten_comes_back_into_its_ledger(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB, moved=0)
    world.meter.run_once()
    assert await world.wait(DAY_S, contract_id)
    known = parse_signed(world.states["customer"].vouchers.raws(contract_id)[-1], Voucher)
    forgotten = dataclasses.replace(
        known.body, seq=known.body.seq + 1, cumulative=known.body.cumulative + 77, previous=known.content_hash
    )
    voucher = sign_body(forgotten, CUSTOMER.device_key)
    world.books["provider"].add_voucher(voucher, world.now)
    world.customer.lose_lanes([contract_id])
    world.customer.recover(contract_id, [voucher.raw], 77)
    world.customer.recover(contract_id, [voucher.raw], 78)
    held = world.states["provider"].ledger.balance(account("vouchers-held", contract_id))
    assert held == known.body.cumulative + 77
    assert world.states["customer"].ledger.balance(account("vouchers-given", contract_id)) == -held
    assert world.customer.promised(contract_id) == held


async def test_a_debt_after_the_final_notice_is_a_finding(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB)
    world.meter.run_once()
    world.now += MONTH_S
    for _ in range(31):
        world.meter.run_once()
        world.overdue.run_once()
        world.now += DAY_S
    bundle = export_bundle(world.states["provider"], world.row(contract_id), NETWORK_ID_MAIN, world.now)
    findings = Judge(bundle, CUSTOMER.device_key.public, PROVIDER.device_key.public).judge().findings
    assert [(item["who"], item["what"].split(" micro")[0]) for item in findings] == [("customer", "left 22500000")]


async def test_bundles_are_judged_without_any_database(world: MoneyWorld) -> None:
    contract_id = world.open()
    await month(world, contract_id)
    for role in ("provider", "customer"):
        bundle = export_bundle(world.states[role], world.row(contract_id, role), NETWORK_ID_MAIN, world.now)
        verdict = Judge(bundle, CUSTOMER.device_key.public, PROVIDER.device_key.public).judge().to_json()
        assert verdict["ok"], verdict
        assert (verdict["charged_micro_vibe"], verdict["unpaid_micro_vibe"]) == (10_500_000, 0)
    stranger = Judge(bundle, bytes(32), None).judge()
    assert stranger.findings[0]["what"] == "the terms name other devices than those asked for"
    raw = bytearray.fromhex(bundle["vouchers"][0])
    raw[-40] ^= 1
    broken = bundle | {"vouchers": [raw.hex()]}
    assert not Judge(broken).judge().to_json()["ok"]


async def test_a_replayed_lane_is_proven_by_a_bundle(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB, moved=0)
    assert await world.wait(2 * DAY_S, contract_id)
    raw = world.states["customer"].vouchers.newest(contract_id)[0]
    from sovereign_protocols.settle.bodies import Voucher
    from sovereign_protocols.settle.signed import parse_signed, sign_body

    newest = parse_signed(raw, Voucher)
    twin = sign_body(dataclasses.replace(newest.body, cumulative=newest.body.cumulative - 1), CUSTOMER.device_key)
    assert world.desk.handle(CUSTOMER.caller, m.VoucherNote(twin.raw)) == m.Refuse("equivocation", {})
    bundle = export_bundle(world.states["provider"], world.row(contract_id), NETWORK_ID_MAIN, world.now)
    (finding,) = Judge(bundle).judge().findings
    assert finding["who"] == "customer"
    assert "two different papers" in finding["what"]


async def test_the_bill_and_the_wallet_say_what_the_books_say(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, 5 * GB, moved=GB)
    world.meter.run_once()
    world.now += MONTH_S // 2
    assert await world.turn(contract_id)
    for role in ("provider", "customer"):
        wallet = wallet_of(world, role)
        bill = wallet.bill(world.row(contract_id, role))
        assert (bill["so_far_micro_vibe"], bill["forecast_micro_vibe"]) == (5_500_000, 10_500_000)
        assert bill["forecast_with_bonus_micro_vibe"] == 15_750_000
    summary = wallet_of(world, "customer").summary()
    assert summary["owed_micro_vibe"] == 5_500_000
    assert summary["forecast"]["spend_per_month_micro_vibe"] == 10_000_000
    earnings = wallet_of(world, "provider").earnings(forecast=True)
    assert (earnings["so_far_micro_vibe"], earnings["per_month_with_bonus_micro_vibe"]) == (5_500_000, 15_000_000)
    assert Tally().covers(Tally())


async def test_what_comes_between_the_questions_is_no_cheating(
    world: MoneyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract_id = world.open()
    answer = world.desk.handle
    left = 6

    def answer_while_chunks_come(caller, request):
        nonlocal left
        if left and isinstance(request, (m.ReportQuery, m.ReceiptQuery)):
            left -= 1
            world.put(contract_id, 1_000_000)
        return answer(caller, request)

    monkeypatch.setattr(world.desk, "handle", answer_while_chunks_come)
    assert await world.turn(contract_id)
    assert left == 0
    assert world.books["customer"].newest(contract_id, MeterDispute) == []
    assert world.row(contract_id, "customer").stored_bytes == 6_000_000
