"""The customer's side of money: believes a provider only as far as its own figures go, and signs vouchers.

A receipt may not name more than this device stored, a report may not count what no receipt explains. The meter is
computed from the receipts alone, so both sides count the same byte-seconds to the last one. The customer's meter
keeps the bytes of both directions together, because a statement does.

Source: protocols/specs/settle.md, "Metering", "Accrual" and "Lanes".
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sovereign_node.services.money.bounds import OverMeteredError
from sovereign_node.services.money.customer_vouchers import VoucherSigner
from sovereign_node.services.money.tally import MIN_CHUNK_BYTES, Tally
from sovereign_node.store.metrics import Metric
from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.prices import UptimeCount
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import BonusPayer
from sovereign_protocols.settle.accrual import check_statement
from sovereign_protocols.settle.bodies import (
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    TransferReceipt,
    Voucher,
)
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, Signed, parse_signed, sign_body
from sovereign_protocols.settle.sponsor import statement_uptime

log = structlog.get_logger(__name__)


class CustomerBooks(VoucherSigner):
    """Decides and writes for the customer; see VoucherSigner for what it is made of. All methods block."""

    # --- receipts --------------------------------------------------------------------------------------------

    def newest_receipt(self, contract_id: bytes) -> tuple[int, bytes]:
        """Give number and content hash of the newest receipt that was believed."""
        newest = self.book.newest(contract_id, Receipt)
        return (newest[0].body.seq, newest[0].content_hash) if newest else (0, NO_HASH)

    def take_receipts(self, contract_id: bytes, receipts: Sequence[Signed[Receipt]]) -> int:
        """Believe receipts and move the meter, up to the end of the period that runs.

        Returns:
            How many were taken; the others belong to a later period.

        Raises:
            OverMeteredError: one cannot be true; those before it were taken.
        """
        self.book.begin(contract_id)
        taken, fault = self._state.grouped(lambda: self._take_all(contract_id, receipts))
        if fault is not None:
            raise fault
        return taken

    def has_receipt(self, contract_id: bytes, after: int, content_hash: bytes) -> bool:
        """Say whether a receipt with a number above `after` has this content. Blocks."""
        raws = self.book.receipts(contract_id, after, self.newest_receipt(contract_id)[0])
        return any(parse_signed(raw, Receipt, self._network_id).content_hash == content_hash for raw in raws)

    def _take_all(
        self, contract_id: bytes, receipts: Sequence[Signed[Receipt]]
    ) -> tuple[int, OverMeteredError | None]:
        """Take receipts in one commit; a false one ends the row, and those before it stay taken."""
        end = self.book.period_end(contract_id)
        for number, receipt in enumerate(receipts):
            if receipt.body.at >= end:
                return number, None
            try:
                with self._state.transaction():
                    self._take(contract_id, receipt)
            except OverMeteredError as error:
                return number, error
        return len(receipts), None

    def _take(self, contract_id: bytes, receipt: Signed[Receipt]) -> None:
        body = receipt.body
        seq, content_hash = self.newest_receipt(contract_id)
        before = self.book.meter(contract_id, 0)
        if (body.seq, body.previous) != (seq + 1, content_hash):
            raise OverMeteredError("the receipts are not one chain")
        if body.at < before.at or body.at > self._clock() + CLOCK_SKEW_S:
            raise OverMeteredError("the time of a receipt cannot be true")
        after = _after(before, body)
        self._check_stored(contract_id, after)
        self.book.add(receipt, contract_id, body.seq, self._clock())
        self._keep(contract_id, after)
        if body.count == 0 and body.root == self._terms_hash(contract_id):
            self.book.revise(contract_id, body.at)

    def _check_stored(self, contract_id: bytes, meter: Meter) -> None:
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        if meter.stored_bytes > agreement.terms.capacity_bytes:
            raise OverMeteredError("more is metered than the contract allows")
        self.bounds.check_stored(
            contract_id,
            "more is metered than this identity's devices have stored",
            stored_bytes=meter.stored_bytes,
            stored_chunks=meter.stored_chunks,
        )

    def sign_transfer(self, contract_id: bytes, tally: Tally) -> Signed[TransferReceipt]:
        """Sign what this device moved itself; the bounds of its tally, never below the truth."""
        receipt = TransferReceipt(
            contract_id, self._key.public, tally.sent_bytes, tally.received_bytes, self._clock()
        )
        return sign_body(receipt, self._key, self._network_id)

    def given_up(self, contract_id: bytes) -> int:
        """Give how many chunks this device has deleted, as the provider acknowledged."""
        return self._tally(contract_id).deleted_chunks

    def _terms_hash(self, contract_id: bytes) -> bytes:
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        return agreement.terms_hash

    def _keep(self, contract_id: bytes, meter: Meter, *, moved: tuple[int, int] | None = None) -> None:
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        self._state.meters.update(contract_id, lambda _: meter, at=agreement.terms.start_at)
        self._state.contracts.set_stored(
            contract_id, stored_bytes=meter.stored_bytes, stored_chunks=meter.stored_chunks
        )
        newest = self._state.metrics.newest(contract_id)
        bytes_in, bytes_out = moved or ((newest.bytes_in, newest.bytes_out) if newest else (0, 0))
        self._state.metrics.record(
            Metric(
                contract_id=contract_id,
                measured_at=meter.at,
                stored_bytes=meter.stored_bytes,
                stored_chunks=meter.stored_chunks,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                byte_seconds=meter.byte_seconds,
                windows_good=newest.windows_good if newest else 0,
                windows_observed=newest.windows_observed if newest else 0,
            )
        )

    # --- reports ---------------------------------------------------------------------------------------------

    def take_report(self, contract_id: bytes, report: Signed[MeterReport], given_up: int = 0) -> None:
        """Agree with a report, which moves the meter.

        Args:
            contract_id: 32 bytes.
            report: of the provider.
            given_up: chunks that were deleted before the provider was asked for it.

        Raises:
            OverMeteredError: it says more than this device counted.
        """
        body = report.body
        if body.until_at > self._clock() + CLOCK_SKEW_S:
            raise OverMeteredError("the report ends in the future")
        self.bounds.check_moved(
            contract_id,
            "more was moved than this identity's devices counted",
            bytes_in=body.bytes_in,
            bytes_out=body.bytes_out,
        )
        own = self._own_reading(contract_id, body)
        self.bounds.check_stored(
            contract_id,
            "deleted chunks are still metered",
            stored_bytes=own.stored_bytes + given_up * MIN_CHUNK_BYTES,
            stored_chunks=own.stored_chunks + given_up,
        )
        if body.byte_seconds != own.byte_seconds:
            raise OverMeteredError("the byte-seconds follow from no receipts")
        if body.bytes_in + body.bytes_out != own.bytes_in:
            raise OverMeteredError("more was moved than this device counted")
        if body.accrued != self.book.accrued(contract_id, own):
            raise OverMeteredError("the price does not follow from the terms")
        with self._state.transaction():
            self.book.add(report, contract_id, body.seq, self._clock())
            self._keep(contract_id, own, moved=(body.bytes_in, body.bytes_out))
            self._state.meta.set(f"reported_at:{contract_id.hex()}", str(self._clock()))

    def settle_report(
        self, contract_id: bytes, report: Signed[MeterReport], given_up: int = 0, *, is_asked: bool = False
    ) -> Signed[Voucher] | None:
        """Agree with a report and sign the voucher that is due by it, in one commit.

        Raises:
            OverMeteredError: see take_report; nothing is signed.
        """

        def settle() -> Signed[Voucher] | None:
            self.take_report(contract_id, report, given_up)
            return self.next_voucher(contract_id, is_asked=is_asked)

        return self._state.grouped(settle)

    def dispute(self, contract_id: bytes, report: Signed[MeterReport]) -> Signed[MeterDispute]:
        """Sign and keep the own figures against a report."""
        own = self._own_reading(contract_id, report.body)
        tally = self.bounds.of(contract_id)
        dispute = MeterDispute(
            contract=contract_id,
            report=report.content_hash,
            byte_seconds=own.byte_seconds,
            bytes_in=min(report.body.bytes_in, tally.sent_bytes),
            bytes_out=min(report.body.bytes_out, tally.received_bytes),
            accrued=self.book.accrued(contract_id, own),
            at=self._clock(),
        )
        signed = sign_body(dispute, self._key, self._network_id)
        with self._state.transaction():
            self.book.add(report, contract_id, report.body.seq, self._clock())
            self.book.add(signed, contract_id, dispute.at, self._clock())
            self._state.audit.record("node", "meter_disputed", contract_id.hex(), "ok", at=self._clock())
        return signed

    def _own_reading(self, contract_id: bytes, body: MeterReport) -> Meter:
        """Count up to the end of a report, with the bytes that it names as far as own devices moved them."""
        meter = self.book.meter(contract_id, min(body.until_at, self._clock() + CLOCK_SKEW_S))
        tally = self.bounds.of(contract_id)
        moved_in = min(body.bytes_in, tally.sent_bytes)
        moved_out = min(body.bytes_out, tally.received_bytes)
        return meter.move(bytes_in=max(0, moved_in + moved_out - meter.bytes_in))

    # --- statements ------------------------------------------------------------------------------------------

    def take_statement(self, contract_id: bytes, theirs: Signed[PeriodStatement]) -> Signed[PeriodStatement]:
        """Compute the same statement, sign it, and keep both copies.

        Raises:
            RefusedError: reason figures, if the own figures differ; nothing is kept.
        """
        body = theirs.body
        self._check_period(contract_id, body)
        uptime = self._agreed_uptime(contract_id, body)
        try:
            with self._state.transaction():
                meter = self.book.advance(contract_id, body.until_at)
                known = sum(signed.body.transfer_bytes for signed in self.book.statements(contract_id))
                self._move_to(contract_id, meter, known + body.transfer_bytes)
                own = self.book.close(
                    contract_id,
                    self._key,
                    until_at=body.until_at,
                    at=self._clock(),
                    paid=body.paid,
                    credits=body.credits,
                    uptime=uptime,
                )
                check_statement(body, own.body)
                self.book.add(theirs, contract_id, body.period, self._clock())
                return own
        except BaseException:
            self.book.forget()
            raise

    def _agreed_uptime(self, contract_id: bytes, body: PeriodStatement) -> UptimeCount:
        """Take over the provider's windows, unless they would cost a bonus that own observers do not confirm."""
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        theirs = statement_uptime(body)
        own = self.book.uptime(contract_id, body.from_at, body.until_at)
        pays = agreement.terms.bonus_payer is BonusPayer.CUSTOMER
        if pays and theirs.earns_bonus and not own.earns_bonus:
            raise RefusedError(Reason.FIGURES, {"good": own.good, "observed": own.observed})
        return theirs

    def _check_period(self, contract_id: bytes, body: PeriodStatement) -> None:
        end = self.book.period_end(contract_id)
        row = self._state.contracts.get(contract_id)
        assert row is not None
        is_in_time = body.until_at == end or (row.state == "closed" and body.until_at < end)
        if not is_in_time or body.until_at > self._clock() + CLOCK_SKEW_S:
            raise RefusedError(Reason.FIGURES, {"until_at": end})
        credited = sum(signed.body.credits for signed in self.book.statements(contract_id)) + body.credits
        if credited > self.book.credits(contract_id):
            raise RefusedError(Reason.FIGURES, {"credits": self.book.credits(contract_id)})
        paid = sum(signed.body.paid for signed in self.book.statements(contract_id)) + body.paid
        if paid > self._state.vouchers.total(contract_id) + self._recovered(contract_id):
            raise RefusedError(Reason.FIGURES, {"paid": self._state.vouchers.total(contract_id)})

    def _move_to(self, contract_id: bytes, meter: Meter, moved_bytes: int) -> None:
        tally = self.bounds.of(contract_id)
        if moved_bytes > tally.sent_bytes + tally.received_bytes:
            raise RefusedError(Reason.FIGURES, {"transfer_bytes": tally.sent_bytes + tally.received_bytes})
        if moved_bytes > meter.bytes_in:
            moved = meter.move(bytes_in=moved_bytes - meter.bytes_in)
            self._state.meters.update(contract_id, lambda _: moved, at=meter.at)


def _after(meter: Meter, receipt: Receipt) -> Meter:
    """Move the meter as a receipt says."""
    counted = meter.advance(receipt.at)
    sign = -1 if receipt.is_release else 1
    stored_bytes = counted.stored_bytes + sign * receipt.batch_bytes
    stored_chunks = max(0, counted.stored_chunks + sign * receipt.count)
    if stored_bytes != receipt.stored_bytes:
        raise OverMeteredError("the total of a receipt does not follow from the one before")
    return Meter(counted.at, stored_bytes, stored_chunks, counted.byte_seconds, counted.bytes_in, counted.bytes_out)
