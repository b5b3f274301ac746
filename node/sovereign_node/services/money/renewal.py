"""Extending contracts before they end, never beyond what the owner allows; and closing them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.contract_book import (
    STATEMENT_TYPE,
    agreement_statements,
    contract_row,
    load_agreement,
)
from sovereign_node.services.contracts import OWN_CONTRACT_MONTHS, Contracts
from sovereign_node.services.money.overdue import keep_act
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.market.acts import Act, ActKind, SignedAct, sign_act
from sovereign_protocols.market.draft import draft_revision
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.offer import MAX_DURATION_S, SignedOffer
from sovereign_protocols.market.prices import MONTH_S, quote
from sovereign_protocols.market.terms import NO_HASH, Agreement, ContractTerms, parse_terms, sign_terms

DAY_S = 86_400
#: Three weeks are enough for a provider that is off line for a while, and for the user to object; a week later the
#: chunks are copied to others.
RENEW_BEFORE_S = 21 * DAY_S
_RENEWED_STATES = ("active", "renewing", "limited", "ending")


@dataclass(frozen=True)
class RenewalWish:
    """What becomes different with a renewal.

    Args:
        months: of 720 hours; as long as it was agreed first without it.
        capacity_bytes: another size.
        budget_micro_vibe: most that one period may cost, 0 for no limit; as it was without it.
        is_asked: the user agrees with a higher price.
    """

    months: int | None = None
    capacity_bytes: int | None = None
    budget_micro_vibe: int | None = None
    is_asked: bool = False


class Renewal:
    """Amends and closes contracts as the customer.

    Args:
        state: contracts.
        identity: own.
        keys: signs terms.
        contracts: speaks with providers.
        clock: wall time.
    """

    def __init__(
        self, state: State, identity: OwnIdentity, keys: DeviceKeys, contracts: Contracts, clock: Clock
    ) -> None:
        self._state = state
        self._identity = identity
        self._keys = keys
        self._contracts = contracts
        self._clock = clock

    def due(self) -> list[Contract]:
        """Return the contracts that end soon and hold data. Blocks."""
        now = self._clock()
        return [
            item
            for item in self._state.contracts.all(role="customer", states=("active", "limited"))
            if item.customer_device == self._keys.public
            and item.stored_bytes > 0
            and item.ends_at - now < min(RENEW_BEFORE_S, (item.ends_at - item.started_at) // 10)
        ]

    async def renew(self, contract: Contract, wish: RenewalWish) -> Contract:
        """See Money.renew."""
        if contract.state not in _RENEWED_STATES:
            raise NodeError("contract_over", f"the contract is {contract.state}", "open another: sovereign offers")
        current = await trio.to_thread.run_sync(self._agreement, contract)
        usual_s = await trio.to_thread.run_sync(self._first_length_s, contract, current.terms)
        async with self._contracts.session(peer_id_from_public_key(contract.provider_device)) as client:
            offer = await client.offer()
            changes = self._changes(current.terms, offer, wish, usual_s)
            terms = draft_revision(current, nonce=os.urandom(16), customer_device=self._keys.public, **changes)
            if not wish.is_asked:
                _check_price(current.terms, terms)
            agreement = await client.amend(sign_terms(terms, self._keys.signing, self._identity.network_id))
        return await trio.to_thread.run_sync(self._save, agreement)

    def _first_length_s(self, contract: Contract, terms: ContractTerms) -> int:
        """Give the length that was agreed first; a contract taken over from another device may not know it."""
        for item in self._state.contracts.statements(contract.contract_id):
            if item.statement_type == STATEMENT_TYPE and item.revision == 0:
                terms = parse_terms(item.raw, self._identity.network_id).terms
                break
        return terms.end_at - terms.start_at

    def _changes(
        self, terms: ContractTerms, signed: SignedOffer, wish: RenewalWish, usual_s: int
    ) -> dict[str, Any]:
        offer = signed.offer
        is_own = terms.provider_identity == self._identity.identity_id
        capacity = wish.capacity_bytes or terms.capacity_bytes
        # What was free is not made dearer in passing: who is no friend any more is refused, and asks again.
        free = is_own or terms.is_free
        length_s = wish.months * MONTH_S if wish.months else usual_s
        longest_s = MAX_DURATION_S if is_own else offer.max_duration_s
        length_s = min(length_s, OWN_CONTRACT_MONTHS * MONTH_S, longest_s)
        begin = max(self._clock(), min(terms.end_at, self._clock() + longest_s - length_s))
        return {
            "capacity_bytes": capacity,
            "end_at": min(begin + length_s, terms.start_at + MAX_DURATION_S),
            "price_per_gb_month": 0 if free else offer.price_per_gb_month,
            "price_per_gb_transfer": 0 if free else offer.price_per_gb_transfer,
            "offer": NO_HASH if is_own else signed.hash,
            "grace_s": min(terms.grace_s, offer.grace_s),
            "budget": terms.budget if wish.budget_micro_vibe is None else wish.budget_micro_vibe,
            "credit_limit": terms.credit_limit if free else min(max(terms.credit_limit, 0), offer.credit_limit),
        }

    def _save(self, agreement: Agreement) -> Contract:
        at = self._clock()
        row = contract_row(agreement, "customer", ContractState.ACTIVE, at=at)
        with self._state.transaction():
            self._state.contracts.save(row, agreement_statements(agreement, at=at))
            self._state.audit.record("user", "contract_renewed", row.contract_id.hex(), "ok", at=at)
        return row

    def _agreement(self, contract: Contract) -> Agreement:
        return load_agreement(self._state, contract, self._identity.network_id)

    async def close(self, contract: Contract, evidence: bytes = NO_HASH) -> None:
        """End a contract with both signatures; the data stays readable nowhere, so move it first.

        Raises:
            NodeError: unreachable, or refused.
        """
        current = await trio.to_thread.run_sync(self._agreement, contract)
        now = self._clock()
        act = Act(ActKind.CLOSE, contract.contract_id, current.terms_hash, now, now, evidence=evidence)
        signed = sign_act(act, self._keys.signing, self._identity.network_id)
        async with self._contracts.session(peer_id_from_public_key(contract.provider_device)) as client:
            theirs = await client.close(signed)
        await trio.to_thread.run_sync(self._save_close, contract, signed, theirs)

    def _save_close(self, contract: Contract, *acts: SignedAct) -> None:
        at = self._clock()
        with self._state.transaction():
            for act in acts:
                keep_act(self._state, act, contract, at)
            self._state.contracts.set_state(contract.contract_id, ContractState.CLOSED.value, at)
            # Nothing can be read any more; the provider keeps it for the grace period at its own cost.
            self._state.contracts.set_stored(contract.contract_id, stored_bytes=0, stored_chunks=0)
            self._state.audit.record("user", "contract_closed", contract.contract_id.hex(), "ok", at=at)


def _check_price(old: ContractTerms, new: ContractTerms) -> None:
    """Refuse what would cost more than before, unless the budget of a period covers it."""

    def price(terms: ContractTerms) -> int:
        found = quote(terms.prices, stored_bytes=terms.capacity_bytes, duration_s=terms.period_s)
        return found.customer_pays_at_most

    is_dearer = price(new) > price(old) or new.price_per_gb_transfer > old.price_per_gb_transfer
    if is_dearer and not (old.budget and price(new) <= old.budget):
        raise NodeError(
            "renewal_too_dear",
            "the provider's price has risen above what this contract costs now",
            "agree with: sovereign contract renew CONTRACT, or choose another offer",
        )
