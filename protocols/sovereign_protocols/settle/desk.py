"""The provider's answers about money. Synchronous, for a worker thread; each runs in one transaction of the book.

Source: protocols/specs/settle.md, "Answering".
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Message
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.accrual import check_statement
from sovereign_protocols.settle.bodies import (
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    TransferReceipt,
    Voucher,
)
from sovereign_protocols.settle.lanes import EquivocationError, LaneHead, VoucherVerdict, judge_voucher
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, Body, Signed, parse_signed, sign_body

Kind = TypeVar("Kind", bound=Body)


class SettlementBook(Protocol):
    """Durable storage of one provider's money matters; every method blocks, writes are durable on return."""

    def transaction(self) -> AbstractContextManager[None]:
        """Let one decision run alone, and its writes happen together."""
        ...

    def agreement(self, contract_id: bytes) -> Agreement | None:
        """Read the terms in force."""
        ...

    def meter(self, contract_id: bytes, now: int) -> Meter:
        """Read the counters, advanced to now."""
        ...

    def accrued(self, contract_id: bytes, meter: Meter) -> int:
        """Give the cost of everything up to a reading, micro-VIBE."""
        ...

    def lane(self, contract_id: bytes, device: bytes, lane: int) -> tuple[LaneHead, bytes]:
        """Read the newest voucher of a lane: its head, and itself as signed."""
        ...

    def vouchered(self, contract_id: bytes) -> int:
        """Sum the newest vouchers of all lanes and the credit notes, micro-VIBE."""
        ...

    def add_voucher(self, voucher: Signed[Voucher], at: int) -> None:
        """Keep the next voucher of a lane and book its growth."""
        ...

    def add_evidence(self, contract_id: bytes, proof: EquivocationError, at: int) -> None:
        """Keep two vouchers with one number."""
        ...

    def add(self, signed: Signed[Kind], contract_id: bytes, number: int, at: int) -> None:
        """Keep a signed message; the same one twice is kept once."""
        ...

    def newest(self, contract_id: bytes, kind: type[Kind]) -> Sequence[Signed[Kind]]:
        """Read the messages of one kind with the highest number: one, or both copies if both parties signed."""
        ...

    def receipts(self, contract_id: bytes, after: int, limit: int) -> Sequence[bytes]:
        """Read receipts with numbers above `after`, in order."""
        ...

    def transfers(self, contract_id: bytes, limit: int) -> Sequence[bytes]:
        """Read the transfer receipt with the highest counters of each device, those that signed last first."""
        ...

    def statement(self, contract_id: bytes, period: int) -> PeriodStatement | None:
        """Give the statement of a period as this side computes it, None while the period runs."""
        ...


class SettlementDesk(Desk[SettlementBook]):
    """Answers requests about money for one provider.

    Args:
        device_key: signs reports and statements.
        book: where everything is kept.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
    """

    def _answer(self, caller: Caller, request: Message) -> Message:
        try:
            with self._book.transaction():
                return self._judge(caller, request)
        except EquivocationError as proof:
            # Kept although the request is refused: it proves that the customer cheats.
            contract_id = parse_signed(proof.known, Voucher, self._network_id).body.contract
            self._book.add_evidence(contract_id, proof, self._clock())
            raise

    def _judge(self, caller: Caller, request: Message) -> Message:
        match request:
            case m.VoucherNote(voucher=raw):
                return self._voucher(caller, raw)
            case m.TransferNote(receipt=raw):
                return self._transfer(caller, raw)
            case m.TransferQuery(contract=contract_id):
                self._agreement(caller, contract_id)
                return m.TransferList(tuple(self._book.transfers(contract_id, m.MAX_DEVICES)))
            case m.ReportQuery(contract=contract_id):
                return self._report(caller, contract_id)
            case m.DisputeNote(dispute=raw):
                return self._dispute(caller, raw)
            case m.ReceiptQuery(contract=contract_id, after=after):
                self._agreement(caller, contract_id)
                return m.ReceiptList(tuple(self._book.receipts(contract_id, after, m.MAX_RECEIPTS)))
            case m.StatementQuery(contract=contract_id, period=period):
                signed = sign_body(self._statement(caller, contract_id, period), self._key, self._network_id)
                return m.StatementAnswer(signed.raw)
            case m.StatementCosign(statement=raw):
                return self._cosign(caller, raw)
            case _:
                raise RefusedError(Reason.MALFORMED)

    def _agreement(self, caller: Caller, contract_id: bytes) -> Agreement:
        agreement = self._book.agreement(contract_id)
        if agreement is None or agreement.terms.customer_identity != caller.identity:
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        return agreement

    def _from_caller(self, caller: Caller, raw: bytes, kind: type[Kind], at: str | None = "at") -> Signed[Kind]:
        signed = parse_signed(raw, kind, self._network_id)
        if signed.signer != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        now = self._clock()
        if at is not None and getattr(signed.body, at) > now + CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        return signed

    def _voucher(self, caller: Caller, raw: bytes) -> m.VoucherKept:
        voucher = self._from_caller(caller, raw, Voucher)
        body = voucher.body
        agreement = self._agreement(caller, body.contract)
        if body.device != caller.device or body.payee != self._key.public:
            raise RefusedError(Reason.WRONG_PARTY)
        head, newest_raw = self._book.lane(body.contract, body.device, body.lane)
        now = self._clock()
        if judge_voucher(head, newest_raw, voucher) is VoucherVerdict.NEW:
            self._book.add_voucher(voucher, now)
        accrued = self._book.accrued(body.contract, self._book.meter(body.contract, now))
        exposed = accrued - self._book.vouchered(body.contract)
        return m.VoucherKept(voucher.statement_hash, exposed, agreement.terms.credit_limit)

    def _transfer(self, caller: Caller, raw: bytes) -> m.Kept:
        receipt = self._from_caller(caller, raw, TransferReceipt)
        body = receipt.body
        self._agreement(caller, body.contract)
        if body.device != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        self._book.add(receipt, body.contract, body.bytes_in + body.bytes_out, self._clock())
        return m.Kept(receipt.statement_hash)

    def _report(self, caller: Caller, contract_id: bytes) -> m.ReportAnswer:
        agreement = self._agreement(caller, contract_id)
        now = self._clock()
        meter = self._book.meter(contract_id, now)
        last = self._book.newest(contract_id, MeterReport)
        receipts = self._book.newest(contract_id, Receipt)
        report = MeterReport(
            contract=contract_id,
            terms=agreement.terms_hash,
            seq=last[0].body.seq + 1 if last else 1,
            until_at=meter.at,
            byte_seconds=meter.byte_seconds,
            bytes_in=meter.bytes_in,
            bytes_out=meter.bytes_out,
            accrued=self._book.accrued(contract_id, meter),
            inputs=receipts[0].content_hash if receipts else NO_HASH,
        )
        if last and report == _with_seq_of(report, last[0].body):
            return m.ReportAnswer(last[0].raw)
        signed = sign_body(report, self._key, self._network_id)
        self._book.add(signed, contract_id, report.seq, now)
        return m.ReportAnswer(signed.raw)

    def _dispute(self, caller: Caller, raw: bytes) -> m.Kept:
        dispute = self._from_caller(caller, raw, MeterDispute)
        self._agreement(caller, dispute.body.contract)
        self._book.add(dispute, dispute.body.contract, dispute.body.at, self._clock())
        return m.Kept(dispute.statement_hash)

    def _statement(self, caller: Caller, contract_id: bytes, period: int) -> PeriodStatement:
        self._agreement(caller, contract_id)
        own = self._book.statement(contract_id, period)
        if own is None:
            raise RefusedError(Reason.STATE)
        return own

    def _cosign(self, caller: Caller, raw: bytes) -> m.Kept:
        theirs = self._from_caller(caller, raw, PeriodStatement, at=None)
        body = theirs.body
        own = self._statement(caller, body.contract, body.period)
        check_statement(body, own)
        now = self._clock()
        self._book.add(theirs, body.contract, body.period, now)
        self._book.add(sign_body(own, self._key, self._network_id), body.contract, body.period, now)
        return m.Kept(theirs.statement_hash)


def _with_seq_of(report: MeterReport, last: MeterReport) -> MeterReport:
    fields = {name: getattr(last, name) for name in MeterReport.SCHEMA}
    return MeterReport(**(fields | {"seq": report.seq}))
