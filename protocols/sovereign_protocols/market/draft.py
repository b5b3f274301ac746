"""Terms that a customer proposes, made from a provider's offer.

Source: protocols/specs/market.md, "Opening".
"""

import dataclasses
from typing import Final

from sovereign_protocols.market.offer import SignedOffer
from sovereign_protocols.market.prices import MONTH_S, PERMILLE
from sovereign_protocols.market.terms import NO_HASH, Agreement, BonusPayer, ContractTerms
from sovereign_protocols.requests.desk import Caller

DEFAULT_MONTHS: Final = 12


def draft_terms(
    signed_offer: SignedOffer,
    customer: Caller,
    *,
    capacity_bytes: int,
    now: int,
    nonce: bytes,
    months: int = DEFAULT_MONTHS,
    bonus_payer: BonusPayer = BonusPayer.NOBODY,
    sponsor: bytes = NO_HASH,
    budget: int = 0,
    is_own: bool = False,
) -> ContractTerms:
    """Make the terms of a new contract.

    Args:
        signed_offer: of the provider.
        customer: own identity and device.
        capacity_bytes: to keep free.
        now: Unix seconds UTC; the contract begins at once.
        nonce: 16 fresh random bytes.
        months: of 720 hours.
        bonus_payer: who pays for uptime.
        sponsor: the identity that pays, if a sponsor does.
        budget: most micro-VIBE that one period may cost, 0 for no limit.
        is_own: the provider is an own device or a friend, so nothing is paid.

    Returns:
        Terms that the customer's device can sign.
    """
    offer = signed_offer.offer
    free = is_own or capacity_bytes <= offer.free_allowance_bytes
    return ContractTerms(
        customer_identity=customer.identity,
        customer_device=customer.device,
        provider_identity=offer.identity,
        provider_device=offer.device,
        capacity_bytes=capacity_bytes,
        start_at=now,
        end_at=now + (months * MONTH_S if is_own else min(months * MONTH_S, offer.max_duration_s)),
        price_per_gb_month=0 if free else offer.price_per_gb_month,
        price_per_gb_transfer=0 if free else offer.price_per_gb_transfer,
        nonce=nonce,
        offer=signed_offer.hash,
        period_s=offer.period_s,
        grace_s=offer.grace_s,
        bonus_permille=PERMILLE if free or bonus_payer is BonusPayer.NOBODY else offer.bonus_permille,
        bonus_payer=BonusPayer.NOBODY if free else bonus_payer,
        sponsor=NO_HASH if free else sponsor,
        credit_limit=0 if free else offer.credit_limit,
        budget=budget,
        adapter=offer.adapters[0] if offer.adapters else "manual",
    )


def draft_revision(current: Agreement, *, nonce: bytes, **changes: object) -> ContractTerms:
    """Make the next revision of a contract.

    Args:
        current: in force.
        nonce: 16 fresh random bytes.
        changes: fields of ContractTerms that become different, for example capacity_bytes or end_at.

    Returns:
        Terms that the customer's device can sign.
    """
    return dataclasses.replace(
        current.terms,
        contract=current.contract_id,
        revision=current.terms.revision + 1,
        previous=current.terms_hash,
        nonce=nonce,
        **changes,  # type: ignore[arg-type]
    )
