"""When a provider says yes: pure checks of proposed terms against its offer and its free space.

Source: protocols/specs/market.md, "Accepting".
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final, Protocol

from sovereign_protocols.market.offer import CLOCK_SKEW_S, Offer
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import ContractTerms

#: A contract may begin a little later, not in a far future for which space would lie idle.
MAX_START_DELAY_S: Final = 86_400
MAX_CONTRACTS_PER_CUSTOMER: Final = 64


@dataclass(frozen=True)
class ProviderFacts:
    """What the decision depends on besides the terms.

    Args:
        now: Unix seconds UTC.
        free_bytes: capacity that no contract claims; for a new revision, without the one it replaces.
        customer_bytes: capacity of the customer's other contracts.
        customer_contracts: how many others the customer has.
    """

    now: int
    free_bytes: int
    customer_bytes: int = 0
    customer_contracts: int = 0


class AcceptPolicy(Protocol):
    """Decides about proposals; a node may put its own rule here."""

    def judge(self, terms: ContractTerms, offer: Offer | None, facts: ProviderFacts) -> None:
        """Say yes by returning.

        Args:
            terms: proposed.
            offer: the valid offer that the terms name, None if they name none.
            facts: about provider and customer.

        Raises:
            RefusedError: no, and why.
        """
        ...


@dataclass(frozen=True)
class ListPricePolicy:
    """Accept at least the offered price while there is space; own devices and friends pay nothing.

    Args:
        own_identity: the provider's owner, 32 bytes.
        friends: identities that pay nothing.
        is_open: whether strangers may open contracts.
        max_contracts_per_customer: bounds the work that one identity can cause.
    """

    own_identity: bytes
    friends: Set[bytes] = frozenset()
    is_open: bool = True
    max_contracts_per_customer: int = MAX_CONTRACTS_PER_CUSTOMER

    def judge(self, terms: ContractTerms, offer: Offer | None, facts: ProviderFacts) -> None:
        """See AcceptPolicy."""
        _check_time(terms, facts.now)
        if terms.capacity_bytes > facts.free_bytes:
            raise RefusedError(Reason.CAPACITY, {"free_bytes": max(0, facts.free_bytes)})
        if facts.customer_contracts >= self.max_contracts_per_customer:
            raise RefusedError(Reason.TOO_MANY, {"max_contracts": self.max_contracts_per_customer})
        if terms.customer_identity == self.own_identity or terms.customer_identity in self.friends:
            return
        if not self.is_open:
            raise RefusedError(Reason.CLOSED_FOR_NEW)
        if offer is None:
            raise RefusedError(Reason.OFFER_UNKNOWN)
        _check_against_offer(terms, offer, facts)


def _check_time(terms: ContractTerms, now: int) -> None:
    is_first = terms.revision == 0
    if is_first and not now - CLOCK_SKEW_S <= terms.start_at <= now + MAX_START_DELAY_S:
        raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
    if terms.end_at <= now:
        raise RefusedError(Reason.DURATION, {"peer_time": now})


def _check_against_offer(terms: ContractTerms, offer: Offer, facts: ProviderFacts) -> None:
    duration_s = terms.end_at - max(terms.start_at, facts.now if terms.revision else 0)
    free = terms.is_free and terms.capacity_bytes + facts.customer_bytes <= offer.free_allowance_bytes
    sizes = {"min_bytes": offer.min_contract_bytes, "max_bytes": offer.max_contract_bytes}
    prices = {"per_gb_month": offer.price_per_gb_month, "per_gb_transfer": offer.price_per_gb_transfer}
    checks: tuple[tuple[Callable[[], bool], Reason, dict[str, int]], ...] = (
        (
            lambda: offer.min_contract_bytes <= terms.capacity_bytes <= offer.max_contract_bytes,
            Reason.SIZE,
            sizes,
        ),
        (lambda: duration_s <= offer.max_duration_s, Reason.DURATION, {"max_s": offer.max_duration_s}),
        (lambda: free or _pays(terms, offer), Reason.PRICE_TOO_LOW, prices),
        (lambda: terms.credit_limit <= offer.credit_limit, Reason.CREDIT, {"max": offer.credit_limit}),
        (lambda: terms.grace_s <= offer.grace_s, Reason.GRACE, {"max_s": offer.grace_s}),
        (lambda: terms.period_s <= offer.period_s, Reason.DURATION, {"max_period_s": offer.period_s}),
        (lambda: terms.adapter in offer.adapters, Reason.ADAPTER, {}),
    )
    for holds, reason, figures in checks:
        if not holds():
            raise RefusedError(reason, figures)


def _pays(terms: ContractTerms, offer: Offer) -> bool:
    return (
        terms.price_per_gb_month >= offer.price_per_gb_month
        and terms.price_per_gb_transfer >= offer.price_per_gb_transfer
    )
