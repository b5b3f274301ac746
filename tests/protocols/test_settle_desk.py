"""The provider's settlement desk, statements and the streams around them."""

import contextlib
import dataclasses

import pytest
import trio
import trio.testing
from market_world import CUSTOMER, GB, NOW, PROVIDER, STRANGER
from settle_world import SettleWorld

from sovereign_protocols.errors import ConnectionLostError, RemoteProtocolError
from sovereign_protocols.market.prices import MONTH_S, Prices, UptimeCount, Usage
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.shell import Introduction, open_client, serve_requests
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.accrual import Accrual, PeriodFigures, build_statement, check_statement
from sovereign_protocols.settle.bodies import (
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    TransferReceipt,
    Voucher,
)
from sovereign_protocols.settle.lanes import Lane
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.shell import SettlementClient
from sovereign_protocols.settle.signed import countersign, parse_signed, sign_body


@pytest.fixture
def world() -> SettleWorld:
    return SettleWorld()


def lane_of(world: SettleWorld) -> Lane:
    return Lane(world.contract_id, PROVIDER.device_key.public, CUSTOMER.device_key.public, 0)


def voucher(world: SettleWorld, amount: int, lane: Lane | None = None, **changes):
    draft = (lane or lane_of(world)).draft(
        cumulative=amount, covers_until=world.now, at=world.now, own_meter=10**12
    )
    return sign_body(dataclasses.replace(draft, **changes), CUSTOMER.device_key)


def refusal(answer) -> str:
    assert isinstance(answer, m.Refuse), answer
    return answer.reason


def test_the_published_example_as_a_statement(world: SettleWorld) -> None:
    world.use_one_month()
    with_bonus = world.close_period()
    assert (with_bonus.storage, with_bonus.transfer, with_bonus.bonus) == (10_000_000, 500_000, 5_250_000)
    assert with_bonus.closing == 15_750_000
    assert world.close_period(good=4300).closing == 10_500_000


def test_a_voucher_lowers_the_exposure(world: SettleWorld) -> None:
    world.use_one_month()
    signed = voucher(world, 10_000_000)
    answer = world.desk.handle(CUSTOMER.caller, m.VoucherNote(signed.raw))
    assert answer == m.VoucherKept(signed.statement_hash, 500_000, 20_000_000)
    assert world.desk.handle(CUSTOMER.caller, m.VoucherNote(signed.raw)) == answer
    assert world.book.vouchered(world.contract_id) == 10_000_000


def test_equivocation_is_refused_and_kept(world: SettleWorld) -> None:
    first, second = voucher(world, 100), voucher(world, 101)
    world.desk.handle(CUSTOMER.caller, m.VoucherNote(first.raw))
    assert refusal(world.desk.handle(CUSTOMER.caller, m.VoucherNote(second.raw))) == "equivocation"
    assert world.book.evidence == [(world.contract_id, first.raw, second.raw)]
    assert world.book.vouchered(world.contract_id) == 100


def test_an_old_voucher_is_refused_with_the_newest_number(world: SettleWorld) -> None:
    first = voucher(world, 100)
    second = voucher(world, 200, lane_of(world).signed(first))
    for signed in (first, second):
        world.desk.handle(CUSTOMER.caller, m.VoucherNote(signed.raw))
    assert world.desk.handle(CUSTOMER.caller, m.VoucherNote(first.raw)) == m.Refuse("sequence", {"seq": 2})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payee": b"\x01" * 32}, "wrong_party"),
        ({"device": b"\x01" * 32}, "wrong_party"),
        ({"contract": b"\x01" * 32}, "unknown_contract"),
        ({"at": NOW + 121}, "clock_skew"),
        ({"seq": 2, "previous": b"\x01" * 32}, "sequence"),
    ],
)
def test_reasons_for_refusing_a_voucher(world: SettleWorld, changes, reason: str) -> None:
    answer = world.desk.handle(CUSTOMER.caller, m.VoucherNote(voucher(world, 5, **changes).raw))
    assert refusal(answer) == reason


def test_other_peoples_vouchers_and_nonsense(world: SettleWorld) -> None:
    raw = voucher(world, 5).raw
    assert refusal(world.desk.handle(STRANGER.caller, m.VoucherNote(raw))) == "wrong_party"
    assert refusal(world.desk.handle(CUSTOMER.caller, m.VoucherNote(b"x"))) == "malformed"
    assert (
        refusal(world.desk.handle(CUSTOMER.caller, m.VoucherNote(raw[:-1] + bytes([raw[-1] ^ 1])))) == "signature"
    )
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Kept(bytes(32)))) == "malformed"


def test_a_report_counts_and_repeats(world: SettleWorld) -> None:
    world.use_one_month()
    first = world.desk.handle(CUSTOMER.caller, m.ReportQuery(world.contract_id))
    report = parse_signed(first.report, MeterReport).body
    assert (report.seq, report.byte_seconds, report.accrued) == (1, 5 * GB * MONTH_S, 10_500_000)
    assert report.inputs == world.book.newest(world.contract_id, Receipt)[0].content_hash
    assert world.desk.handle(CUSTOMER.caller, m.ReportQuery(world.contract_id)) == first
    world.now += 3600
    second = world.desk.handle(CUSTOMER.caller, m.ReportQuery(world.contract_id))
    assert parse_signed(second.report, MeterReport).body.seq == 2
    assert refusal(world.desk.handle(STRANGER.caller, m.ReportQuery(world.contract_id))) == "unknown_contract"


def transfer(world: SettleWorld, **changes):
    body = TransferReceipt(world.contract_id, CUSTOMER.device_key.public, 5, 6, NOW)
    return sign_body(dataclasses.replace(body, **changes), CUSTOMER.device_key)


def test_transfers_and_disputes_are_kept(world: SettleWorld) -> None:
    receipt = transfer(world)
    answer = world.desk.handle(CUSTOMER.caller, m.TransferNote(receipt.raw))
    assert answer == m.Kept(receipt.statement_hash)
    foreign = transfer(world, device=STRANGER.device_key.public)
    assert refusal(world.desk.handle(CUSTOMER.caller, m.TransferNote(foreign.raw))) == "wrong_party"
    dispute = sign_body(MeterDispute(world.contract_id, bytes(32), 0, 0, 0, 0, NOW), CUSTOMER.device_key)
    assert world.desk.handle(CUSTOMER.caller, m.DisputeNote(dispute.raw)) == m.Kept(dispute.statement_hash)
    assert world.book.messages["dispute"] == [dispute]


def test_both_sides_sign_the_same_statement(world: SettleWorld) -> None:
    world.use_one_month()
    query = m.StatementQuery(world.contract_id, 0)
    assert refusal(world.desk.handle(CUSTOMER.caller, query)) == "state"
    world.close_period()
    signed = parse_signed(world.desk.handle(CUSTOMER.caller, query).statement, PeriodStatement)
    own = countersign(signed, CUSTOMER.device_key)
    for _ in range(2):
        answer = world.desk.handle(CUSTOMER.caller, m.StatementCosign(own.raw))
        assert answer == m.Kept(own.statement_hash)
    copies = world.book.newest(world.contract_id, PeriodStatement)
    assert {copy.signer for copy in copies} == {PROVIDER.device_key.public, CUSTOMER.device_key.public}
    assert len({copy.content_hash for copy in copies}) == 1


def test_a_statement_with_other_figures_is_refused(world: SettleWorld) -> None:
    world.use_one_month()
    body = world.close_period()
    cheaper = dataclasses.replace(body, storage=body.storage - 1, closing=body.closing - 1)
    raw = sign_body(cheaper, CUSTOMER.device_key).raw
    answer = world.desk.handle(CUSTOMER.caller, m.StatementCosign(raw))
    assert answer == m.Refuse("figures", {"closing": 15_750_000, "price": 15_750_000})
    with pytest.raises(RefusedError):
        check_statement(cheaper, body)


def test_statements_are_chained_and_vouchers_count(world: SettleWorld) -> None:
    world.use_one_month()
    first = sign_body(world.close_period(good=0), PROVIDER.device_key)
    figures = PeriodFigures(
        segments=((world.agreement.terms.prices, Usage(0, GB)), (Prices(0, 1_000_000), Usage(0, GB))),
        uptime=UptimeCount(0, 0, 4320),
        credits=100_000,
        vouchered=11_000_000,
        vouchered_before=0,
    )
    second = build_statement(
        world.agreement, figures, previous=first, from_at=world.now, until_at=world.now + MONTH_S
    )
    assert (second.period, second.previous) == (1, first.content_hash)
    assert (second.opening, second.transfer, second.paid) == (10_500_000, 1_500_000, 11_000_000)
    assert second.closing == 10_500_000 + 1_500_000 - 100_000 - 11_000_000


def test_prices_of_the_time_count(world: SettleWorld) -> None:
    start = Meter(0)
    cost = Accrual(Prices(2_000_000, 0), start)
    month = start.put(GB, 0).advance(MONTH_S)
    assert cost.accrued(month) == 2_000_000
    dearer = cost.rebase(month, Prices(3_000_000, 0))
    assert dearer.accrued(month) == 2_000_000
    assert dearer.accrued(month.advance(2 * MONTH_S)) == 5_000_000


class Rig:
    """A client and a desk over memory."""

    def __init__(self, world: SettleWorld, nursery: trio.Nursery, desk=None) -> None:
        self.stream, self.far = trio.testing.memory_stream_pair()
        self.world = world
        nursery.start_soon(self.serve, desk or world.desk)

    async def serve(self, desk) -> None:
        with contextlib.suppress(RemoteProtocolError, ConnectionLostError):
            await serve_requests(
                self.far,
                desk,
                m.PROTOCOL,
                Introduction(PROVIDER.certificate, lambda: NOW),
                CUSTOMER.device_key.public,
            )
        await self.far.aclose()

    def open(self):
        return open_client(
            SettlementClient,
            self.stream,
            Introduction(CUSTOMER.certificate, lambda: NOW),
            PROVIDER.device_key.public,
        )


async def test_a_period_over_the_wire(world: SettleWorld, nursery: trio.Nursery) -> None:
    for _ in range(3):
        world.put(GB)
    world.use_one_month()
    world.close_period()
    async with Rig(world, nursery).open() as client:
        assert [r.body.seq for r in await client.receipts(world.contract_id)] == [1, 2, 3, 4]
        assert [r.body.seq for r in await client.receipts(world.contract_id, after=3)] == [4]
        await client.send_transfer(transfer(world))
        assert await client.transfers(world.contract_id) == [transfer(world)]
        report = await client.report(world.contract_id)
        dispute = MeterDispute(world.contract_id, report.content_hash, 0, 0, 0, 0, NOW)
        await client.dispute(sign_body(dispute, CUSTOMER.device_key))
        kept = await client.send_voucher(voucher(world, 1_000_000))
        assert kept.limit == 20_000_000
        statement = await client.statement(world.contract_id, 0)
        await client.cosign(countersign(statement, CUSTOMER.device_key))
        with pytest.raises(RefusedError) as caught:
            await client.statement(world.contract_id, 1)
        assert caught.value.reason is Reason.STATE
    assert len(world.book.newest(world.contract_id, PeriodStatement)) == 2


class Liar:
    """A desk with one prepared answer."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def handle(self, caller, request):
        return self.answer


async def test_a_provider_that_keeps_something_else_is_caught(world: SettleWorld, nursery: trio.Nursery) -> None:
    lie = m.VoucherKept(bytes(32), 0, 0)
    async with Rig(world, nursery, Liar(lie)).open() as client:
        with pytest.raises(RemoteProtocolError, match="kept another voucher"):
            await client.send_voucher(voucher(world, 5))


async def test_receipts_with_a_gap_or_of_another_signer_are_refused(
    world: SettleWorld, nursery: trio.Nursery
) -> None:
    for _ in range(3):
        world.put(GB)
    found = world.book.messages["receipt"]
    forged = sign_body(found[0].body, CUSTOMER.device_key)
    unchained = sign_body(dataclasses.replace(found[1].body, previous=b"\x05" * 32), PROVIDER.device_key)
    for lie in ([found[0], found[2]], [forged], [found[0], unchained]):
        async with Rig(world, nursery, Liar(m.ReceiptList(tuple(r.raw for r in lie)))).open() as client:
            with pytest.raises(RemoteProtocolError, match="another receipt"):
                await client.receipts(world.contract_id)


def test_every_message_round_trips() -> None:
    samples = [
        m.VoucherNote(b"v"), m.VoucherKept(bytes(32), -5, 6), m.TransferNote(b"t"), m.Kept(bytes(32)),
        m.ReportQuery(bytes(32)), m.ReportAnswer(b"r"), m.DisputeNote(b"d"), m.ReceiptQuery(bytes(32), 3),
        m.ReceiptList((b"a", b"b")), m.StatementQuery(bytes(32), 7), m.StatementAnswer(b"s"),
        m.StatementCosign(b"c"), m.Hello(1, b"c"), m.Refuse("busy", {}), m.CreditOffer(b"n"), m.CreditAnswer(b""),
        m.NoticeQuery(bytes(32)), m.NoticeList((b"a",)), m.GrantNote(b"g"), m.SponsorQuery(bytes(32), 3),
        m.SponsorAnswer(b"c", b"p", (b"s",)), m.TransferQuery(bytes(32)), m.TransferList((b"t",)),
        m.CreditQuery(bytes(32)), m.CreditList((b"n",)),
    ]  # fmt: skip
    from sovereign_protocols.framing import PREFIX
    from sovereign_protocols.requests.wire import encode_message

    assert {type(sample) for sample in samples} == set(m.KINDS)
    for number, sample in enumerate(samples):
        assert m.PROTOCOL.decode(encode_message(number, sample)[PREFIX.size :]) == (number, sample)
    largest = m.ReceiptList((bytes(1024),) * m.MAX_RECEIPTS)
    assert len(encode_message(2**32 - 1, largest)) < 65_536


def test_a_voucher_is_its_own_kind(world: SettleWorld) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_signed(voucher(world, 5).raw, Receipt)
    assert parse_signed(voucher(world, 5).raw, Voucher).body.cumulative == 5
