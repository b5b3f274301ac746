"""The settlement desk over the real database: a month at list price, to the last micro-VIBE."""

import dataclasses

import pytest
from market_world import CUSTOMER, GB, NOW, PROVIDER
from settle_world import SettleWorld

from sovereign_crypto.statement import StatementType
from sovereign_node.store import Contract, ContractStatement, open_state
from sovereign_node.store.settlement_book import StateSettlementBook
from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.prices import MONTH_S, UptimeCount
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.accrual import PeriodFigures
from sovereign_protocols.settle.bodies import CreditNote, MeterReport, PeriodStatement, Receipt
from sovereign_protocols.settle.desk import SettlementDesk
from sovereign_protocols.settle.lanes import Lane
from sovereign_protocols.settle.ledger import account
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import countersign, parse_signed, sign_body


class Side:
    """One node's state with the contract of a SettleWorld in it."""

    def __init__(self, state, world: SettleWorld, *, is_provider: bool) -> None:
        self.state, self.world = state, world
        self.book = StateSettlementBook(state, is_provider=is_provider)
        self.save(world.agreement, "provider" if is_provider else "customer")
        self.book.begin(world.contract_id)

    def save(self, agreement, role: str) -> None:
        terms = agreement.terms
        row = Contract(
            agreement.contract_id, role, "active", terms.provider_identity, terms.provider_device,
            terms.customer_identity, terms.customer_device, terms.capacity_bytes, terms.price_per_gb_month,
            terms.price_per_gb_transfer, terms.start_at, terms.end_at, terms.period_s, terms.grace_s, NOW,
            revision=terms.revision,
        )  # fmt: skip
        self.state.contracts.save(
            row,
            [
                ContractStatement(
                    signed.statement_hash, agreement.contract_id, StatementType.CONTRACT, signed.signer,
                    terms.revision, signed.raw, NOW,
                )
                for signed in (agreement.customer, agreement.provider)
            ],
        )  # fmt: skip

    def use_one_month(self) -> None:
        def month(_: Meter) -> Meter:
            return Meter(NOW).put(5 * GB, NOW).move(bytes_in=GB).advance(NOW + MONTH_S)

        self.state.meters.update(self.world.contract_id, month, at=NOW)

    def close(self, key):
        contract_id = self.world.contract_id
        meter = self.book.meter(contract_id, NOW + MONTH_S)
        figures = PeriodFigures(
            ((self.world.agreement.terms.prices, meter.usage_since(Meter(NOW))),),
            UptimeCount(4320, 4320, 4320),
            vouchered=self.book.vouchered(contract_id),
        )
        return self.book.close_period(contract_id, figures, key, until_at=NOW + MONTH_S, at=NOW + MONTH_S)


@pytest.fixture
def world() -> SettleWorld:
    return SettleWorld()


@pytest.fixture
def provider(tmp_path, world):
    with open_state(tmp_path / "provider.sqlite") as state:
        side = Side(state, world, is_provider=True)
        yield side


@pytest.fixture
def customer(tmp_path, world):
    with open_state(tmp_path / "customer.sqlite") as state:
        yield Side(state, world, is_provider=False)


def desk_of(provider: Side) -> SettlementDesk:
    return SettlementDesk(device_key=PROVIDER.device_key, book=provider.book, clock=lambda: provider.world.now)


def test_a_month_is_the_same_to_both_sides(provider: Side, customer: Side, world: SettleWorld) -> None:
    desk, contract_id = desk_of(provider), world.contract_id
    for side in (provider, customer):
        side.use_one_month()
    world.now = NOW + MONTH_S
    answer = desk.handle(CUSTOMER.caller, m.ReportQuery(contract_id))
    assert parse_signed(answer.report, MeterReport).body.accrued == 10_500_000

    lane = Lane(contract_id, PROVIDER.device_key.public, CUSTOMER.device_key.public, 0)
    draft = lane.draft(cumulative=10_500_000, covers_until=world.now, at=world.now, own_meter=10_500_000)
    voucher = sign_body(draft, CUSTOMER.device_key)
    customer.book.add_voucher(voucher, world.now)
    kept = desk.handle(CUSTOMER.caller, m.VoucherNote(voucher.raw))
    assert (kept.exposed, kept.limit) == (0, 20_000_000)
    assert desk.handle(CUSTOMER.caller, m.VoucherNote(voucher.raw)) == kept

    query = m.StatementQuery(contract_id, 0)
    assert desk.handle(CUSTOMER.caller, query) == m.Refuse("state", {})
    ours, theirs = provider.close(PROVIDER.device_key), customer.close(CUSTOMER.device_key)
    assert ours.content_hash == theirs.content_hash
    assert (ours.body.storage + ours.body.transfer + ours.body.bonus, ours.body.closing) == (15_750_000, 5_250_000)
    assert desk.handle(CUSTOMER.caller, query).statement == ours.raw
    meter = provider.book.meter(contract_id, world.now)
    assert provider.book.accrued(contract_id, meter) - provider.book.vouchered(contract_id) == ours.body.closing
    cosigned = countersign(ours, CUSTOMER.device_key)
    assert desk.handle(CUSTOMER.caller, m.StatementCosign(cosigned.raw)) == m.Kept(cosigned.statement_hash)
    assert len(provider.book.newest(contract_id, PeriodStatement)) == 2
    check_books(provider, customer, contract_id)


def check_books(provider: Side, customer: Side, contract_id: bytes) -> None:
    for side in (provider, customer):
        assert side.state.ledger.verify() is None
        assert sum(side.state.ledger.balances().values()) == 0
    earned = provider.state.ledger.balance(account("income", contract_id))
    assert earned == -customer.state.ledger.balance(account("expense", contract_id)) == -15_750_000
    assert provider.state.ledger.balance(account("receivable", contract_id)) == 5_250_000
    assert customer.state.ledger.balance(account("payable", contract_id)) == -5_250_000


def test_a_second_voucher_with_one_number_is_evidence(provider: Side, world: SettleWorld) -> None:
    desk = desk_of(provider)
    lane = Lane(world.contract_id, PROVIDER.device_key.public, CUSTOMER.device_key.public, 0)
    draft = lane.draft(cumulative=5, covers_until=NOW, at=NOW, own_meter=5)
    first = sign_body(draft, CUSTOMER.device_key)
    second = sign_body(dataclasses.replace(draft, cumulative=6), CUSTOMER.device_key)
    desk.handle(CUSTOMER.caller, m.VoucherNote(first.raw))
    assert desk.handle(CUSTOMER.caller, m.VoucherNote(second.raw)) == m.Refuse("equivocation", {})
    found = provider.state.evidence.all("voucher_fork")
    assert [(pair.first_raw, pair.second_raw) for pair in found] == [(first.raw, second.raw)]
    assert provider.book.vouchered(world.contract_id) == 5


def test_prices_of_a_revision_count_from_then_on(provider: Side, world: SettleWorld) -> None:
    contract_id = world.contract_id
    provider.use_one_month()
    provider.book.revise(contract_id, NOW + MONTH_S)
    meter = provider.book.meter(contract_id, NOW + MONTH_S)
    assert provider.book.accrued(contract_id, meter) == 10_500_000
    provider.book.begin(contract_id)
    assert provider.book.accrued(contract_id, meter) == 10_500_000


def test_a_credit_note_counts_once(provider: Side, world: SettleWorld) -> None:
    note = CreditNote(world.contract_id, PROVIDER.identity, CUSTOMER.identity, 500, b"\x01" * 32, bytes(32), NOW)
    signed = sign_body(note, PROVIDER.device_key)
    for copy in (signed, countersign(signed, CUSTOMER.device_key)):
        provider.book.add(copy, world.contract_id, NOW, NOW)
    assert provider.book.vouchered(world.contract_id) == 500


def test_receipts_come_in_pages(provider: Side, world: SettleWorld) -> None:
    for _ in range(3):
        world.put(GB)
    for receipt in world.book.messages["receipt"]:
        provider.book.add(receipt, world.contract_id, receipt.body.seq, NOW)
    raws = provider.book.receipts(world.contract_id, 1, 1)
    assert [parse_signed(raw, Receipt).body.seq for raw in raws] == [2]


def test_contracts_of_the_other_role_are_unknown(provider: Side, world: SettleWorld) -> None:
    other = StateSettlementBook(provider.state, is_provider=False)
    assert other.agreement(world.contract_id) is None
    with pytest.raises(LocalProtocolError):
        other.meter(world.contract_id, NOW)
