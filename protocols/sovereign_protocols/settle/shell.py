"""Settlement streams over trio.

Source: protocols/specs/settle.md.
"""

from itertools import pairwise
from typing import TypeVar

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.acts import SignedAct, parse_act
from sovereign_protocols.market.terms import Agreement, agree, parse_terms
from sovereign_protocols.requests.shell import RequestClient
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import (
    CreditNote,
    MeterDispute,
    MeterReport,
    PeriodStatement,
    Receipt,
    TransferReceipt,
    Voucher,
)
from sovereign_protocols.settle.signed import Body, Signed, parse_signed
from sovereign_protocols.settle.sponsor import BonusGrant

Kind = TypeVar("Kind", bound=Body)


class SettlementClient(RequestClient):
    """Asks one provider about money; use `open_client`."""

    PROTOCOL = m.PROTOCOL

    async def send_voucher(self, voucher: Signed[Voucher]) -> m.VoucherKept:
        """Hand in a voucher that was stored durably before; the same again has no further effect.

        Returns:
            The provider's exposure and limit.

        Raises:
            RefusedError: reason sequence (seq), amount (cumulative) or equivocation.
        """
        kept = await self._ask(m.VoucherNote(voucher.raw), m.VoucherKept)
        self._check_kept(kept.hash, voucher)
        return kept

    async def send_transfer(self, receipt: Signed[TransferReceipt]) -> None:
        """Hand in what was moved."""
        kept = await self._ask(m.TransferNote(receipt.raw), m.Kept)
        self._check_kept(kept.hash, receipt)

    async def transfers(self, contract_id: bytes) -> list[Signed[TransferReceipt]]:
        """Ask for what the devices of the own identity handed in; whose they are, the caller checks."""
        answer = await self._ask(m.TransferQuery(contract_id), m.TransferList)
        return [parse_signed(raw, TransferReceipt, self._network_id) for raw in answer.receipts]

    async def dispute(self, dispute: Signed[MeterDispute]) -> None:
        """Hand in own figures against a report."""
        kept = await self._ask(m.DisputeNote(dispute.raw), m.Kept)
        self._check_kept(kept.hash, dispute)

    async def report(self, contract_id: bytes) -> Signed[MeterReport]:
        """Ask for a meter report up to now."""
        answer = await self._ask(m.ReportQuery(contract_id), m.ReportAnswer)
        report = parse_signed(answer.report, MeterReport, self._network_id)
        self._check_provider(report, report.body.contract == contract_id)
        return report

    async def receipts(self, contract_id: bytes, after: int = 0) -> list[Signed[Receipt]]:
        """Ask for receipts with numbers above `after`: one page, in order and chained."""
        answer = await self._ask(m.ReceiptQuery(contract_id, after), m.ReceiptList)
        found = [parse_signed(raw, Receipt, self._network_id) for raw in answer.receipts]
        for number, receipt in enumerate(found, start=after + 1):
            self._check_provider(receipt, (receipt.body.contract, receipt.body.seq) == (contract_id, number))
        for earlier, later in pairwise(found):
            self._check_provider(later, later.body.previous == earlier.content_hash)
        return found

    async def statement(self, contract_id: bytes, period: int) -> Signed[PeriodStatement]:
        """Ask for the statement of a closed period; check it against own figures before signing it.

        Raises:
            RefusedError: reason state, while the period runs.
        """
        answer = await self._ask(m.StatementQuery(contract_id, period), m.StatementAnswer)
        statement = parse_signed(answer.statement, PeriodStatement, self._network_id)
        self._check_provider(statement, (statement.body.contract, statement.body.period) == (contract_id, period))
        return statement

    async def cosign(self, statement: Signed[PeriodStatement]) -> None:
        """Hand in the own signature under a statement.

        Raises:
            RefusedError: reason figures, if the provider computes something else.
        """
        kept = await self._ask(m.StatementCosign(statement.raw), m.Kept)
        self._check_kept(kept.hash, statement)

    async def credit(self, note: Signed[CreditNote]) -> Signed[CreditNote] | None:
        """Hand in a credit note.

        Returns:
            The same note with the other side's signature, None while a person there has to confirm it.

        Raises:
            RefusedError: reason wrong_party, amount or unknown_contract.
        """
        answer = await self._ask(m.CreditOffer(note.raw), m.CreditAnswer)
        if not answer.note:
            return None
        signed = parse_signed(answer.note, CreditNote, self._network_id)
        self._check_provider(signed, signed.content_hash == note.content_hash)
        return signed

    async def credits(self, contract_id: bytes) -> list[Signed[CreditNote]]:
        """Ask for what the other side gives back and waits for the own signature: sign it and hand it in."""
        answer = await self._ask(m.CreditQuery(contract_id), m.CreditList)
        found = [parse_signed(raw, CreditNote, self._network_id) for raw in answer.notes]
        for note in found:
            self._check_provider(note, note.body.contract == contract_id)
        return found

    async def notices(self, contract_id: bytes) -> list[SignedAct]:
        """Ask for the notices that the other side signed on a contract."""
        answer = await self._ask(m.NoticeQuery(contract_id), m.NoticeList)
        found = [parse_act(raw, self._network_id) for raw in answer.acts]
        for signed in found:
            if signed.act.contract != contract_id or signed.signer != self.peer.device:
                raise RemoteProtocolError(ErrorCode.UNEXPECTED, "a notice of another contract or party")
        return found

    async def hand_in_grant(self, grant: Signed[BonusGrant]) -> None:
        """Promise a provider the bonus of a contract that names this identity as its sponsor.

        Raises:
            RefusedError: reason unknown_contract, wrong_party or bonus.
        """
        kept = await self._ask(m.GrantNote(grant.raw), m.Kept)
        self._check_kept(kept.hash, grant)

    async def sponsored(self, contract_id: bytes, period: int) -> tuple[Agreement, list[Signed[PeriodStatement]]]:
        """Ask, as a sponsor, for the terms and for the statement of a period.

        Returns:
            The terms with both signatures: those that the statement names, or those in force; and the statement as
            each party signed it, nothing while the period runs. What they are worth, the caller judges.

        Raises:
            RefusedError: reason unknown_contract.
        """
        answer = await self._ask(m.SponsorQuery(contract_id, period), m.SponsorAnswer)
        agreement = agree(
            parse_terms(answer.customer_terms, self._network_id),
            parse_terms(answer.provider_terms, self._network_id),
        )
        copies = [parse_signed(raw, PeriodStatement, self._network_id) for raw in answer.statements]
        asked = (contract_id, self.peer.device)
        if (agreement.contract_id, agreement.terms.provider_device) != asked:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the terms of another contract")
        if any((copy.body.contract, copy.body.period) != (contract_id, period) for copy in copies):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "another statement than was asked for")
        return agreement, copies

    def _check_provider(self, signed: Signed[Kind], is_expected: bool) -> None:
        if not is_expected or signed.signer != self.peer.device:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, f"another {signed.body.KIND} than was asked for")

    def _check_kept(self, kept: bytes, signed: Signed[Kind]) -> None:
        if kept != signed.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, f"the provider kept another {signed.body.KIND}")
