"""Meters, vouchers, signed messages and books in the database."""

import dataclasses

import pytest

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.store import Contract, StateConflictError, open_state
from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.settle.bodies import PeriodStatement, Receipt
from sovereign_protocols.settle.lanes import Lane, LaneHead
from sovereign_protocols.settle.ledger import account, charge_postings, voucher_postings
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, countersign, parse_signed, sign_body

PROVIDER = SigningKey.from_seed(b"\x01" * 32)
CUSTOMER = SigningKey.from_seed(b"\x02" * 32)
ID = b"\x11" * 32
ONE = b"\x01" * 32
NOW = 1_800_000_000


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        opened.contracts.save(
            Contract(ID, "provider", "active", ONE, ONE, ONE, ONE, 10, 1, 1, NOW, NOW + 1, 1, 1, NOW)
        )
        yield opened


def test_a_meter_moves_in_one_transaction_with_what_it_counts(state) -> None:
    def count() -> None:
        with state.transaction():
            state.meters.update(ID, lambda meter: meter.put(100, NOW), at=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        count()
    assert state.meters.get(ID) is None
    state.meters.update(ID, lambda meter: meter.put(100, NOW), at=NOW)
    meter = state.meters.update(ID, lambda meter: meter.advance(NOW + 10).move(bytes_in=5), at=NOW)
    assert state.meters.get(ID) == meter == Meter(NOW + 10, 100, 1, 1000, 5, 0)
    assert state.meters.all() == {ID: meter}


def test_a_meter_beyond_64_bits_never_falls(state) -> None:
    large = Meter(NOW, 4 * 10**18, 1, byte_seconds=2**90)
    state.meters.update(ID, lambda _: large, at=NOW)
    assert state.meters.get(ID) == large
    for wrong in ({"byte_seconds": 2**90 - 1}, {"at": NOW - 1}):
        with pytest.raises(StateConflictError, match="never falls"):
            state.meters.update(ID, lambda meter, wrong=wrong: dataclasses.replace(meter, **wrong), at=NOW)
    with pytest.raises(StateConflictError):
        state.meters.update(ONE, lambda meter: meter, at=NOW)


@pytest.mark.slow
def test_a_million_updates_keep_the_last_integer(state) -> None:
    meter, recount, stored = Meter(0), 0, 0
    for number in range(1_000_000):
        size = (number * 7919) % 4_194_304
        recount += stored * 3
        stored += size
        meter = meter.put(size, number * 3)
    assert meter.byte_seconds == recount
    assert state.meters.update(ID, lambda _: meter, at=0) == state.meters.get(ID)


LANE = Lane(ID, PROVIDER.public, CUSTOMER.public, 0)


def sign_next(lane: Lane, amount: int):
    draft = lane.draft(cumulative=amount, covers_until=NOW, at=NOW, own_meter=10**9)
    return sign_body(draft, CUSTOMER)


def test_a_number_of_a_lane_is_taken_once(state) -> None:
    first = sign_next(LANE, 100)
    state.vouchers.add(first, at=NOW)
    second = sign_next(LANE.signed(first), 150)
    for wrong in (first, sign_next(LANE, 120), sign_next(LANE.signed(first).signed(second), 200)):
        with pytest.raises(StateConflictError):
            state.vouchers.add(wrong, at=NOW)
    with pytest.raises(StateConflictError, match="never fall"):
        state.vouchers.add(sign_body(dataclasses.replace(second.body, cumulative=99), CUSTOMER), at=NOW)
    state.vouchers.add(second, at=NOW)
    other = dataclasses.replace(LANE, number=1)
    state.vouchers.add(sign_next(other, 30), at=NOW)
    assert state.vouchers.total(ID) == 180
    assert state.vouchers.newest(ID) == [second.raw, sign_next(other, 30).raw]
    assert state.vouchers.head(ID, CUSTOMER.public, 0) == (LaneHead.of(second), second.raw)
    assert state.vouchers.head(ID, CUSTOMER.public, 9) == (LaneHead(), b"")


@pytest.mark.parametrize("table", ["vouchers", "settlement_messages", "ledger_entries", "ledger_postings"])
def test_what_was_signed_or_booked_never_changes(state, table: str) -> None:
    state.vouchers.add(sign_next(LANE, 100), at=NOW)
    state.settlement.add(sign_body(receipt(1, NO_HASH), PROVIDER), ID, 1, at=NOW)
    state.ledger.post(at=NOW, kind="charge", cause=ONE, postings=charge_postings(ID, 5, is_provider=True))
    column = {"vouchers": "lane", "settlement_messages": "number"}.get(table, "seq")
    for sql in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises(StateConflictError):
            state._database.execute(sql)


def receipt(seq: int, previous: bytes) -> Receipt:
    return Receipt(ID, seq, previous, ONE, 1, 10, 10 * seq, NOW)


def test_messages_are_kept_as_signed(state) -> None:
    first = sign_body(receipt(1, NO_HASH), PROVIDER)
    second = sign_body(receipt(2, first.content_hash), PROVIDER)
    assert state.settlement.add(first, ID, 1, at=NOW)
    assert not state.settlement.add(first, ID, 1, at=NOW)
    assert state.settlement.add(second, ID, 2, at=NOW)
    assert state.settlement.newest(ID, Receipt, NETWORK_ID_MAIN) == [second]
    assert state.settlement.all(ID, Receipt, NETWORK_ID_MAIN) == [first, second]
    assert state.settlement.raws(ID) == [first.raw, second.raw]
    assert state.settlement.newest(ID, PeriodStatement, NETWORK_ID_MAIN) == []


def test_both_copies_of_a_statement_are_found(state) -> None:
    values = {name: 0 for name in ("opening", "storage", "transfer", "bonus", "credits", "paid", "closing")}
    body = PeriodStatement(ID, ONE, 0, NO_HASH, NOW, NOW + 1, 0, 0, 0, 0, **values)
    by_provider = sign_body(body, PROVIDER)
    by_customer = countersign(by_provider, CUSTOMER)
    state.settlement.add(by_provider, ID, 0, at=NOW)
    state.settlement.add(by_customer, ID, 0, at=NOW)
    found = state.settlement.newest(ID, PeriodStatement, NETWORK_ID_MAIN)
    assert {signed.raw for signed in found} == {by_provider.raw, by_customer.raw}
    assert {parse_signed(signed.raw, PeriodStatement).content_hash for signed in found} == {
        by_provider.content_hash
    }


def cause(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_books_balance_and_repeat_nothing(state) -> None:
    charge = charge_postings(ID, 100, is_provider=True)
    first = state.ledger.post(at=NOW, kind="charge", cause=cause(1), postings=charge)
    assert state.ledger.post(at=NOW + 5, kind="charge", cause=cause(1), postings=charge) == first
    with pytest.raises(RefusedError):
        state.ledger.post(
            at=NOW, kind="charge", cause=cause(1), postings=charge_postings(ID, 101, is_provider=True)
        )
    state.ledger.post(at=NOW, kind="voucher", cause=cause(2), postings=voucher_postings(ID, 60, is_provider=True))
    assert state.ledger.balance(account("receivable", ID)) == 40
    assert state.ledger.balance("nothing") == 0
    assert sum(state.ledger.balances().values()) == 0
    assert list(state.ledger.balances("income").values()) == [-100]
    assert state.ledger.verify() is None
    with pytest.raises(LocalProtocolError):
        state.ledger.post(at=NOW, kind="charge", cause=cause(3), postings=charge[:1])
    assert state.ledger.last().seq == 2


@pytest.mark.parametrize(
    ("trigger", "sql", "fault"),
    [
        ("ledger_postings_no_update", "UPDATE ledger_postings SET amount_micro_vibe = 7 WHERE seq = 2", 2),
        ("ledger_entries_no_update", "UPDATE ledger_entries SET time = 7 WHERE seq = 3", 3),
        ("ledger_postings_no_delete", "DELETE FROM ledger_postings WHERE seq = 1", 1),
        (None, "UPDATE ledger_balances SET balance_micro_vibe = 7 WHERE account LIKE 'income%'", 0),
    ],
)
def test_changed_books_are_noticed(state, trigger: str | None, sql: str, fault: int) -> None:
    for number in range(1, 4):
        postings = charge_postings(ID, number, is_provider=True)
        state.ledger.post(at=NOW, kind="charge", cause=cause(number), postings=postings)
    if trigger:
        state._database.execute(f"DROP TRIGGER {trigger}")
    state._database.execute(sql)
    assert state.ledger.verify() == fault


@pytest.mark.slow
def test_a_hundred_thousand_postings_are_verified(state) -> None:
    with state.transaction():
        for number in range(1, 50_001):
            postings = charge_postings(ID, number, is_provider=True)
            state.ledger.post(at=NOW, kind="charge", cause=cause(number), postings=postings)
    assert state.ledger.verify() is None
