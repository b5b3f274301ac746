"""Bodies, meters, lanes, exposure and ledger, each alone."""

import dataclasses
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import FormatError
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import StatementType, sign_statement
from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.market.prices import LIST_PRICES, Usage, charge
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.settle import bodies as b
from sovereign_protocols.settle import exposure as x
from sovereign_protocols.settle import ledger as led
from sovereign_protocols.settle.lanes import EquivocationError, Lane, LaneHead, VoucherVerdict, judge_voucher
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, countersign, parse_signed, sign_body

PROVIDER = SigningKey.from_seed(b"\x01" * 32)
CUSTOMER = SigningKey.from_seed(b"\x02" * 32)
CONTRACT = b"\x11" * 32
NOW = 1_800_000_000
ONE = b"\x01" * 32

RECEIPT = b.Receipt(CONTRACT, 1, NO_HASH, ONE, 2, 100, 100, NOW)
TRANSFER = b.TransferReceipt(CONTRACT, CUSTOMER.public, 5, 6, NOW)
REPORT = b.MeterReport(CONTRACT, ONE, 1, NOW, 2**90 + 7, 5, 6, 77, ONE)
DISPUTE = b.MeterDispute(CONTRACT, ONE, 2**90, 5, 6, 70, NOW)
VOUCHER = b.Voucher(CONTRACT, PROVIDER.public, CUSTOMER.public, 0, 1, 500, NOW, NO_HASH, NO_HASH, NOW)
STATEMENT = b.PeriodStatement(
    CONTRACT, ONE, 0, NO_HASH, NOW - 10, NOW, 2**80, 9, 1, 2, opening=-5, storage=10, transfer=3, bonus=2,
    credits=1, paid=4, closing=5,
)  # fmt: skip
CREDIT = b.CreditNote(CONTRACT, ONE, b"\x02" * 32, 5, b"\x03" * 32, NO_HASH, NOW)
ALL = [RECEIPT, TRANSFER, REPORT, DISPUTE, VOUCHER, STATEMENT, CREDIT]


@pytest.mark.parametrize("body", ALL, ids=lambda body: body.KIND)
def test_bodies_round_trip(body) -> None:
    signed = sign_body(body, PROVIDER)
    assert parse_signed(signed.raw, type(body)) == signed
    assert signed.body == body
    both = countersign(signed, CUSTOMER)
    assert both.content_hash == signed.content_hash
    assert both.statement_hash != signed.statement_hash


@pytest.mark.parametrize("body", ALL, ids=lambda body: body.KIND)
def test_no_kind_passes_for_another(body) -> None:
    raw = sign_body(body, PROVIDER).raw
    for other in {type(other) for other in ALL} - {type(body)}:
        with pytest.raises(RemoteProtocolError) as caught:
            parse_signed(raw, other)
        assert caught.value.code is ErrorCode.MALFORMED


@given(st.sampled_from(ALL), st.data())
def test_any_flip_is_noticed(body, data) -> None:
    raw = bytearray(sign_body(body, CUSTOMER).raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError) as caught:
        parse_signed(bytes(raw), type(body))
    assert caught.value.code in (ErrorCode.MALFORMED, ErrorCode.SIGNATURE)


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (RECEIPT, {"previous": ONE}),
        (RECEIPT, {"seq": 2}),
        (RECEIPT, {"stored_bytes": 99}),
        (VOUCHER, {"previous": ONE}),
        (VOUCHER, {"seq": 2}),
        (STATEMENT, {"closing": 6}),
        (STATEMENT, {"period": 1}),
        (STATEMENT, {"from_at": NOW}),
        (STATEMENT, {"windows_good": 3}),
        (CREDIT, {"payee": ONE}),
    ],
)
def test_contradictions_are_malformed(body, change) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        sign_body(dataclasses.replace(body, **change), PROVIDER)
    assert caught.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (VOUCHER, {"cumulative": -1}),
        (VOUCHER, {"cumulative": 10**15 + 1}),
        (VOUCHER, {"seq": 0}),
        (CREDIT, {"amount": 0}),
        (REPORT, {"byte_seconds": -1}),
    ],
)
def test_fields_out_of_bounds_cannot_be_signed(body, change) -> None:
    with pytest.raises(FormatError):
        sign_body(dataclasses.replace(body, **change), PROVIDER)


def test_byte_seconds_have_one_spelling() -> None:
    fields = REPORT.to_fields() | {"byte_seconds": [0, 10**9]}
    raw = sign_statement(StatementType.USAGE, fields, PROVIDER).raw
    with pytest.raises(RemoteProtocolError):
        parse_signed(raw, b.MeterReport)


def test_a_release_may_leave_less_than_the_batch() -> None:
    release = dataclasses.replace(RECEIPT, stored_bytes=0, delete_after_at=NOW + 1)
    assert sign_body(release, PROVIDER).body.is_release
    assert not RECEIPT.is_release


def test_batch_root_is_the_tree_of_the_specification() -> None:
    def leaf(number: int) -> bytes:
        return hashlib.sha256(b"\0" + bytes([number]) * 32 + number.to_bytes(8, "big")).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    items = [(bytes([n]) * 32, n) for n in range(1, 6)]
    assert b.batch_root([]) == NO_HASH
    assert b.batch_root(items[:1]) == leaf(1)
    assert b.batch_root(items[:3]) == node(node(leaf(1), leaf(2)), leaf(3))
    four = node(node(leaf(1), leaf(2)), node(leaf(3), leaf(4)))
    assert b.batch_root(items) == node(four, leaf(5))


# Meter


def test_byte_seconds_count_from_receipt_to_release() -> None:
    start = Meter(NOW)
    meter = start.put(1000, NOW + 10).release(400, NOW + 20).advance(NOW + 30)
    assert meter.byte_seconds == 1000 * 10 + 600 * 10
    assert (meter.stored_bytes, meter.stored_chunks) == (600, 0)
    assert meter.move(bytes_in=5, bytes_out=6).usage_since(start) == Usage(16_000, 11)


def test_a_clock_set_back_bills_nothing_twice() -> None:
    meter = Meter(NOW).put(1000, NOW).advance(NOW + 100)
    assert meter.advance(NOW + 50) == meter
    assert meter.advance(NOW + 50).advance(NOW + 100) == meter


@pytest.mark.parametrize(("size", "chunks"), [(1001, 1), (1000, 2)])
def test_no_more_is_released_than_stored(size: int, chunks: int) -> None:
    with pytest.raises(LocalProtocolError):
        Meter(NOW).put(1000, NOW).release(size, NOW, chunks=chunks)


events = st.lists(st.tuples(st.sampled_from("pra"), st.integers(0, 10**12), st.integers(0, 10**6)), max_size=30)


@given(events)
def test_the_meter_equals_a_recount(steps) -> None:
    meter, at, recount, stored = Meter(0), 0, 0, 0
    for kind, size, wait in steps:
        recount += stored * wait
        at += wait
        if kind == "p":
            stored += size
            meter = meter.put(size, at)
        elif kind == "r" and meter.stored_chunks:
            size = min(size, stored)
            stored -= size
            meter = meter.release(size, at)
        else:
            meter = meter.advance(at)
    assert (meter.byte_seconds, meter.stored_bytes, meter.at) == (recount, stored, at)


# Lanes

LANE = Lane(CONTRACT, PROVIDER.public, CUSTOMER.public, 0)


def next_voucher(lane: Lane, promised: int, /, **changes):
    draft = lane.draft(cumulative=promised, covers_until=NOW, at=NOW, own_meter=10**9)
    return sign_body(dataclasses.replace(draft, **changes), CUSTOMER)


def test_a_lane_counts_up_by_one() -> None:
    first = next_voucher(LANE, 100)
    lane = LANE.signed(first)
    second = next_voucher(lane, 100)
    assert (second.body.seq, second.body.previous) == (2, first.content_hash)
    with pytest.raises(LocalProtocolError, match="not the next"):
        lane.signed(first)
    with pytest.raises(LocalProtocolError, match="another lane"):
        dataclasses.replace(lane, number=1).signed(second)


@pytest.mark.parametrize(
    ("cumulative", "meter", "match"), [(99, 500, "never promises less"), (501, 500, "exceeds")]
)
def test_what_a_device_never_signs(cumulative: int, meter: int, match: str) -> None:
    lane = LANE.signed(next_voucher(LANE, 100))
    with pytest.raises(LocalProtocolError, match=match):
        lane.draft(cumulative=cumulative, covers_until=NOW, at=NOW, own_meter=meter)


def test_a_restored_lane_signs_nothing_before_it_knows_its_newest_voucher() -> None:
    first = next_voucher(LANE, 100)
    second = next_voucher(LANE.signed(first), 200)
    old = dataclasses.replace(LANE.signed(first), is_current=False)
    with pytest.raises(LocalProtocolError, match="restored"):
        old.draft(cumulative=300, covers_until=NOW, at=NOW, own_meter=500)
    assert old.resume(second).head == LaneHead.of(second)
    assert old.resume(first).is_current
    for hidden in (None, next_voucher(LANE, 101)):
        with pytest.raises(LocalProtocolError, match="shows less"):
            old.resume(hidden)
    with pytest.raises(LocalProtocolError, match="another lane"):
        dataclasses.replace(old, number=3).resume(second)
    assert dataclasses.replace(LANE, is_current=False).resume(None) == LANE


def test_a_provider_takes_the_next_voucher_and_repeats_the_same() -> None:
    first = next_voucher(LANE, 100)
    assert judge_voucher(LaneHead(), b"", first) is VoucherVerdict.NEW
    assert judge_voucher(LaneHead.of(first), first.raw, first) is VoucherVerdict.SAME


def test_two_vouchers_with_one_number_are_evidence() -> None:
    first, other = next_voucher(LANE, 100), next_voucher(LANE, 101)
    with pytest.raises(EquivocationError) as caught:
        judge_voucher(LaneHead.of(first), first.raw, other)
    assert (caught.value.known, caught.value.other) == (first.raw, other.raw)
    assert caught.value.reason is Reason.EQUIVOCATION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seq": 3}, Reason.SEQUENCE),
        ({"previous": ONE}, Reason.SEQUENCE),
        ({"cumulative": 99}, Reason.AMOUNT),
        ({"covers_until": NOW - 1}, Reason.AMOUNT),
    ],
)
def test_vouchers_that_do_not_follow(change, reason) -> None:
    lane = LANE.signed(next_voucher(LANE, 100))
    with pytest.raises(RefusedError) as caught:
        judge_voucher(lane.head, b"", next_voucher(lane, 200, **change))
    assert caught.value.reason is reason


# Exposure


@pytest.mark.parametrize(
    ("accrued", "level"),
    [
        (0, x.ExposureLevel.CALM),
        (499, x.ExposureLevel.CALM),
        (500, x.ExposureLevel.WARN),
        (750, x.ExposureLevel.DEMAND),
        (999, x.ExposureLevel.DEMAND),
        (1000, x.ExposureLevel.STOP),
    ],
)
def test_levels(accrued: int, level: x.ExposureLevel) -> None:
    assert x.Exposure(1000, accrued).level is level
    assert x.Exposure(1000, accrued + 77, vouchered=77).level is level


def test_free_contracts_are_always_calm() -> None:
    assert x.Exposure(0).level is x.ExposureLevel.CALM
    assert x.Exposure(0).reserve(0).level is x.ExposureLevel.CALM


def test_reserve_then_apply() -> None:
    risk = x.Exposure(1000).reserve(600)
    with pytest.raises(RefusedError) as caught:
        risk.reserve(401)
    assert caught.value.data == {"exposed": 600, "max": 1000}
    applied = risk.reserve(400).apply(600, 550)
    assert (applied.accrued, applied.in_flight, applied.exposed) == (550, 400, 950)
    assert applied.pay(900).exposed == 50
    for wrong in (
        lambda: applied.apply(500, 1),
        lambda: applied.apply(100, 101),
        lambda: applied.accrue(549),
        lambda: applied.pay(1).pay(0),
    ):
        with pytest.raises(LocalProtocolError):
            wrong()
    assert applied.accrue(600).accrued == 600


@pytest.mark.parametrize(
    ("since_s", "accrued", "moved", "due"),
    [
        (86_399, 4_999_999, 10**9 - 1, False),
        (86_400, 1, 0, True),
        (0, 5_000_000, 0, True),
        (0, 1, 10**9, True),
        (10**9, 0, 10**12, False),
    ],
)
def test_when_a_voucher_is_due(since_s: int, accrued: int, moved: int, due: bool) -> None:
    assert x.is_voucher_due(since_s=since_s, accrued_since=accrued, moved_since_bytes=moved) is due


@pytest.mark.parametrize(
    ("months", "expected"),
    [(0, 1_000_000), (1, 2_000_000), (3, 8_000_000), (4, 10_000_000), (100, 10_000_000)],
)
def test_credit_grows_with_honoured_months(months: int, expected: int) -> None:
    limit = x.credit_limit(capacity_bytes=5 * 10**9, micro_vibe_per_gb_month=2_000_000, honoured_months=months)
    assert limit == expected
    assert x.credit_limit(capacity_bytes=1, micro_vibe_per_gb_month=1, honoured_months=0) == 1_000_000


def test_the_default_path() -> None:
    day = 86_400
    steps = [x.overdue_step(days * day).name for days in (0, 6, 7, 29, 30, 44, 45)]
    assert steps == ["NOTHING", "NOTHING", "NO_UPLOADS", "NO_UPLOADS", "FINAL_NOTICE", "FINAL_NOTICE", "DELETION"]


# Ledger


def entry(last, postings, **changes):
    values = {"at": NOW, "kind": "charge", "cause": ONE, "postings": postings} | changes
    return led.make_entry(last, **values)


def test_books_of_both_sides_mirror_each_other() -> None:
    balances: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for is_provider, book in balances.items():
        for postings in (
            led.charge_postings(CONTRACT, 100, is_provider=is_provider),
            led.voucher_postings(CONTRACT, 80, is_provider=is_provider),
            led.credit_postings(CONTRACT, 20, is_provider=is_provider),
            led.settlement_postings(CONTRACT, 80, is_provider=is_provider),
        ):
            assert sum(line.amount for line in postings) == 0
            for line in postings:
                name = line.account.split(":")[0]
                book[name] = book.get(name, 0) + line.amount
    assert balances[True] == {"receivable": 0, "income": -80, "vouchers-held": 0, "settled": 80}
    assert balances[False] == {"expense": 80, "payable": 0, "vouchers-given": 0, "settled": -80}


def test_the_chain_shows_every_change() -> None:
    postings = led.charge_postings(CONTRACT, 100, is_provider=True)
    first = entry(None, postings)
    second = entry(first, postings)
    third = entry(second, postings)
    assert led.first_fault([first, second, third]) is None
    assert led.first_fault([]) is None
    changed = dataclasses.replace(second, at=NOW + 1)
    assert led.first_fault([first, changed, third]) == 2
    assert led.first_fault([first, third]) == 2
    unbalanced = dataclasses.replace(second, postings=postings[:1])
    assert led.first_fault([first, unbalanced]) == 2


def test_entries_balance_and_have_a_cause() -> None:
    postings = led.charge_postings(CONTRACT, 100, is_provider=True)
    for wrong in ({"postings": postings[:1]}, {"postings": ()}, {"cause": bytes(32)}, {"cause": b"x"}):
        with pytest.raises(LocalProtocolError):
            entry(None, **({"postings": postings} | wrong))


@pytest.mark.slow
def test_a_million_updates_are_exact() -> None:
    draw = random.Random(7).getrandbits
    meter = Meter(0)
    exact, now, stored = 0, 0, 0
    for _ in range(1_000_000):
        step, size = draw(12), draw(40)
        exact += stored * step
        now += step
        # What a receipt names, its time and the total, is all that the other side counts with.
        if size <= stored and step & 1:
            stored -= size
            meter = meter.release(size, now, chunks=0)
        else:
            stored += size
            meter = meter.put(size, now, chunks=0)
    assert (meter.byte_seconds, meter.stored_bytes) == (exact, stored)
    assert exact > 2**63
    recounted = charge(LIST_PRICES, Usage(exact, 0), with_bonus=True)
    assert charge(LIST_PRICES, meter.usage_since(Meter(0)), with_bonus=True) == recounted
