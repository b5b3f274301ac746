"""The provider's side of a sponsored bonus: it keeps the grant, shows statements, and signs notes that are right.

Source: protocols/specs/settle.md, "Sponsors".
"""

from __future__ import annotations

from collections.abc import Callable

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.contract_book import agreements_of
from sovereign_node.store import State
from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import CreditNote, PeriodStatement
from sovereign_protocols.settle.ledger import bonus_postings
from sovereign_protocols.settle.signed import Signed, countersign, parse_signed
from sovereign_protocols.settle.sponsor import BonusGrant, check_grant, judge_claim, sponsored_bonus


class SponsoredContracts:
    """Answers sponsors of this provider's contracts. All methods block.

    Args:
        state: this node's state.
        key: of this device.
        clock: wall time.
        network_id: 32 bytes.
    """

    def __init__(
        self, state: State, key: SigningKey, clock: Callable[[], int], network_id: bytes = NETWORK_ID_MAIN
    ) -> None:
        self._state = state
        self._key = key
        self._clock = clock
        self._network_id = network_id

    def is_sponsor(self, caller: Caller, contract_id: bytes) -> bool:
        """Tell whether the caller's identity is the sponsor that the terms in force name."""
        agreement = self._newest(contract_id)
        return agreement is not None and agreement.terms.sponsor == caller.identity

    def keep_grant(self, caller: Caller, raw: bytes) -> m.Kept:
        """Keep a sponsor's promise.

        Raises:
            RefusedError: reason unknown_contract, wrong_party, bonus or clock_skew.
        """
        grant = parse_signed(raw, BonusGrant, self._network_id)
        agreement = self._for_sponsor(caller, grant.body.contract)
        if grant.signer != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        check_grant(grant, agreement.terms, grant.body.contract)
        now = self._clock()
        if grant.body.at > now + CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        self._state.settlement.add(grant, grant.body.contract, grant.body.at, at=now)
        return m.Kept(grant.statement_hash)

    def answer(self, caller: Caller, query: m.SponsorQuery) -> m.SponsorAnswer:
        """Show terms and the statement of a period, once both signed it.

        Raises:
            RefusedError: reason unknown_contract.
        """
        agreement = self._for_sponsor(caller, query.contract)
        copies = self._copies(query.contract, query.period)
        if len(copies) < 2:
            return m.SponsorAnswer(agreement.customer.raw, agreement.provider.raw)
        named = self._named(query.contract, copies[0].body.terms)
        return m.SponsorAnswer(named.customer.raw, named.provider.raw, tuple(copy.raw for copy in copies))

    def take_note(self, caller: Caller, note: Signed[CreditNote]) -> bytes:
        """Sign and book what a sponsor pays for a period, once.

        Raises:
            RefusedError: reason wrong_party, unknown_contract, or figures (with the own amount).
        """
        body = note.body
        self._for_sponsor(caller, body.contract)
        if (body.payer, note.signer) != (caller.identity, caller.device):
            raise RefusedError(Reason.WRONG_PARTY)
        grant = next((item for item in self._grants(body.contract) if item.content_hash == body.evidence), None)
        statements = self._state.settlement.all(body.contract, PeriodStatement, self._network_id)
        copies = [copy for copy in statements if copy.content_hash == body.nonce]
        if grant is None or len(copies) < 2:
            raise RefusedError(Reason.WRONG_PARTY)
        known = self._paid(body.contract)
        if any(item.content_hash == note.content_hash for item in known):
            return countersign(note, self._key, self._network_id).raw
        agreement = self._named(body.contract, copies[0].body.terms)
        amount = judge_claim(grant, agreement, copies, [item.body for item in known])
        if body.amount != amount:
            raise RefusedError(Reason.FIGURES, {"amount": amount})
        own = countersign(note, self._key, self._network_id)
        now = self._clock()
        with self._state.transaction():
            for copy in (note, own):
                self._state.settlement.add(copy, body.contract, body.at, at=now)
            self._state.ledger.post(
                at=now,
                kind="bonus",
                cause=note.content_hash,
                postings=bonus_postings(body.contract, amount, is_provider=True),
            )
        return own.raw

    # --- reading ---------------------------------------------------------------------------------------------

    def granted(self, contract_id: bytes) -> int:
        """Return the budget of the newest grant, micro-VIBE, 0 without one."""
        grants = self._grants(contract_id)
        return grants[-1].body.budget if grants else 0

    def bonus_of(self, contract_id: bytes, body: PeriodStatement) -> int:
        """Return what a sponsor owes for a period by the terms, without a look at its budget, micro-VIBE."""
        return sponsored_bonus(self._named(contract_id, body.terms).terms, body)

    def paid(self, contract_id: bytes) -> dict[bytes, int]:
        """Return what sponsors paid: content hash of the statement to micro-VIBE."""
        return {note.body.nonce: note.body.amount for note in self._paid(contract_id)}

    def _paid(self, contract_id: bytes) -> list[Signed[CreditNote]]:
        grants = {grant.content_hash for grant in self._grants(contract_id)}
        notes = self._state.settlement.all(contract_id, CreditNote, self._network_id)
        return list({note.content_hash: note for note in notes if note.body.evidence in grants}.values())

    def _grants(self, contract_id: bytes) -> list[Signed[BonusGrant]]:
        return self._state.settlement.all(contract_id, BonusGrant, self._network_id)

    def _copies(self, contract_id: bytes, period: int) -> list[Signed[PeriodStatement]]:
        """Read a statement once by each signer; nothing if only one signed."""
        found = self._state.settlement.all(contract_id, PeriodStatement, self._network_id)
        return list({copy.signer: copy for copy in found if copy.body.period == period}.values())[:2]

    def _newest(self, contract_id: bytes) -> Agreement | None:
        row = self._state.contracts.get(contract_id)
        if row is None or row.role != "provider":
            return None
        return agreements_of(self._state, contract_id, self._network_id)[-1]

    def _named(self, contract_id: bytes, terms_hash: bytes) -> Agreement:
        found = agreements_of(self._state, contract_id, self._network_id)
        return next(item for item in found if item.terms_hash == terms_hash)

    def _for_sponsor(self, caller: Caller, contract_id: bytes) -> Agreement:
        agreement = self._newest(contract_id)
        # The same answer for a contract of others as for none: ids are not confirmed.
        if agreement is None or agreement.terms.sponsor != caller.identity:
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        return agreement
