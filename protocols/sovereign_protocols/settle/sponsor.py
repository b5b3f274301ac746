"""The uptime bonus that a sponsor pays: its promise with a fixed budget, and what a period costs it.

The sponsor is no party of the contract. It pays by credit notes, one for each statement, and computes their amount
from two papers alone: the statement with both signatures, and the terms that the statement names.

Source: protocols/specs/settle.md, "Sponsors".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_crypto.schema import byte_string, integer
from sovereign_crypto.statement import StatementType
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.market.prices import UptimeCount, Usage, charge
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement, BonusPayer, ContractTerms
from sovereign_protocols.probe.windows import WINDOW_S
from sovereign_protocols.settle.bodies import MAX_AMOUNT, CreditNote, PeriodStatement
from sovereign_protocols.settle.signed import Body, Signed, malformed, schema_of

_ID = byte_string(32)
_TIME = integer(0, MAX_TIME)


@dataclass(frozen=True)
class BonusGrant(Body):
    """A sponsor's promise to pay the uptime bonus of one contract, never more than its budget.

    Args:
        contract: id.
        sponsor: identity that pays, 32 bytes.
        device: of the sponsor, 32 bytes; it signs.
        payee: identity of the provider, 32 bytes.
        budget: the most that all periods together may cost, micro-VIBE.
        until_at: periods that end later are not paid for, Unix seconds UTC.
        at: Unix seconds UTC.
    """

    contract: bytes
    sponsor: bytes
    device: bytes
    payee: bytes
    budget: int
    until_at: int
    at: int

    TYPE = StatementType.PAYMENT
    KIND = "grant"
    SCHEMA = schema_of(
        contract=_ID,
        sponsor=_ID,
        device=_ID,
        payee=_ID,
        budget=integer(1, MAX_AMOUNT),
        until_at=_TIME,
        at=_TIME,
    )

    def check(self) -> None:
        """See Body."""
        if self.sponsor == self.payee:
            raise malformed("nobody sponsors himself")
        if self.until_at <= self.at:
            raise malformed("a grant is for the future")


def statement_uptime(body: PeriodStatement) -> UptimeCount:
    """Give the windows that a statement counts; announced maintenance is not subtracted from the period's."""
    return UptimeCount(body.windows_good, body.windows_observed, max(1, (body.until_at - body.from_at) // WINDOW_S))


def sponsored_bonus(terms: ContractTerms, body: PeriodStatement) -> int:
    """Give what a sponsor owes for a period, before its budget is looked at, micro-VIBE.

    Args:
        terms: the revision that the statement names; its prices count for the whole period.
        body: the statement.
    """
    if terms.bonus_payer is not BonusPayer.SPONSOR or not statement_uptime(body).earns_bonus:
        return 0
    return charge(terms.prices, Usage(body.byte_seconds, body.transfer_bytes), with_bonus=True).bonus


def check_grant(grant: Signed[BonusGrant], terms: ContractTerms, contract_id: bytes) -> None:
    """Agree that a grant fits the terms of a contract.

    Raises:
        RefusedError: reason wrong_party or bonus.
    """
    body = grant.body
    if terms.bonus_payer is not BonusPayer.SPONSOR:
        raise RefusedError(Reason.BONUS)
    is_third = terms.sponsor not in (terms.customer_identity, terms.provider_identity)
    expected = (contract_id, terms.sponsor, terms.provider_identity, grant.signer)
    if not is_third or (body.contract, body.sponsor, body.payee, body.device) != expected:
        raise RefusedError(Reason.WRONG_PARTY)


def is_note_of(grant: Signed[BonusGrant], note: CreditNote) -> bool:
    """Tell whether a credit note pays under a grant: it names the grant as evidence."""
    body = grant.body
    paid = (note.contract, note.payer, note.payee, note.evidence)
    return paid == (body.contract, body.sponsor, body.payee, grant.content_hash)


def judge_claim(
    grant: Signed[BonusGrant],
    agreement: Agreement,
    copies: Sequence[Signed[PeriodStatement]],
    paid: Sequence[CreditNote],
) -> int:
    """Tell what a grant pays for a statement; sponsor and provider both ask this and must get the same.

    Args:
        grant: of the sponsor.
        agreement: the revision that the statement names, with both signatures.
        copies: the statement, signed by customer and by provider.
        paid: notes of the contract so far, each once.

    Returns:
        micro-VIBE, 0 if nothing is owed, if the statement was paid already, or if the budget is used up.

    Raises:
        RefusedError: the papers do not belong together, or a signature is missing.
    """
    terms = agreement.terms
    check_grant(grant, terms, agreement.contract_id)
    signers = {copy.signer for copy in copies}
    hashes = {copy.content_hash for copy in copies}
    if signers != {terms.customer_device, terms.provider_device} or len(hashes) != 1:
        raise RefusedError(Reason.SIGNATURE)
    body = copies[0].body
    if (body.contract, body.terms) != (grant.body.contract, agreement.terms_hash):
        raise RefusedError(Reason.WRONG_PARTY)
    is_paid = any(note.nonce in hashes and note.payer == terms.sponsor for note in paid)
    if is_paid or body.until_at > grant.body.until_at:
        return 0
    left = grant.body.budget - sum(note.amount for note in paid if is_note_of(grant, note))
    return max(0, min(sponsored_bonus(terms, body), left))


def draft_note(grant: Signed[BonusGrant], statement: Signed[PeriodStatement], amount: int, at: int) -> CreditNote:
    """Make the note that pays for one statement: its nonce is the statement, its evidence the grant.

    Args:
        grant: of the sponsor.
        statement: what is paid for.
        amount: micro-VIBE, by `judge_claim`.
        at: Unix seconds UTC.
    """
    body = grant.body
    return CreditNote(
        contract=body.contract,
        payer=body.sponsor,
        payee=body.payee,
        amount=amount,
        nonce=statement.content_hash,
        evidence=grant.content_hash,
        at=at,
    )
