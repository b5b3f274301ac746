"""What a sponsor owes follows from two papers and its budget; and papers of other networks are worth nothing."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_world import CUSTOMER, NOW, OWN_LAPTOP, PROVIDER, STRANGER, World

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.prices import GB, LIST_PRICES, MONTH_S, Usage, charge
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import BonusPayer, countersign, sign_terms
from sovereign_protocols.settle.bodies import CreditNote, PeriodStatement, TransferReceipt, Voucher
from sovereign_protocols.settle.signed import NO_HASH, parse_signed, sign_body
from sovereign_protocols.settle.sponsor import BonusGrant, check_grant, draft_note, judge_claim, sponsored_bonus

SPONSOR = STRANGER
TERMS = dataclasses.replace(
    World().terms(), bonus_payer=BonusPayer.SPONSOR, bonus_permille=1500, sponsor=SPONSOR.identity
)
AGREEMENT = countersign(sign_terms(TERMS, CUSTOMER.device_key), PROVIDER.device_key)
CONTRACT = AGREEMENT.contract_id


def grant(key=SPONSOR.device_key, **changes):
    body = BonusGrant(
        contract=CONTRACT,
        sponsor=SPONSOR.identity,
        device=SPONSOR.device_key.public,
        payee=TERMS.provider_identity,
        budget=20_000_000,
        until_at=NOW + 12 * MONTH_S,
        at=NOW,
    )
    return sign_body(dataclasses.replace(body, **changes), key)


def statement(
    *, byte_seconds=5 * GB * MONTH_S, moved=GB, good=4320, observed=4320, keys=(CUSTOMER, PROVIDER), **more
):
    lines = charge(LIST_PRICES, Usage(byte_seconds, moved), with_bonus=False)
    body = PeriodStatement(
        contract=CONTRACT,
        terms=AGREEMENT.terms_hash,
        period=0,
        previous=NO_HASH,
        from_at=NOW,
        until_at=NOW + MONTH_S,
        byte_seconds=byte_seconds,
        transfer_bytes=moved,
        windows_good=good,
        windows_observed=observed,
        opening=0,
        storage=lines.storage,
        transfer=lines.transfer,
        bonus=0,
        credits=0,
        paid=0,
        closing=lines.storage + lines.transfer,
    )
    return [sign_body(dataclasses.replace(body, **more), node.device_key) for node in keys]


def test_the_prototypes_bonus_is_5_25_vibe() -> None:
    assert judge_claim(grant(), AGREEMENT, statement(), []) == 5_250_000


@pytest.mark.parametrize(
    ("windows", "owed"),
    [
        ({"good": 4316, "observed": 4320}, 5_250_000),
        ({"good": 4315, "observed": 4320}, 0),
        ({"good": 3456, "observed": 3456}, 5_250_000),
        ({"good": 3455, "observed": 3455}, 0),
    ],
)
def test_uptime_is_that_of_the_statement(windows, owed: int) -> None:
    assert judge_claim(grant(), AGREEMENT, statement(**windows), []) == owed


def test_the_budget_and_the_date_bound_it_and_a_statement_is_paid_once() -> None:
    copies = statement()
    assert judge_claim(grant(budget=5), AGREEMENT, copies, []) == 5
    assert judge_claim(grant(until_at=NOW + MONTH_S - 1), AGREEMENT, copies, []) == 0
    promised = grant()
    paid = draft_note(promised, copies[0], 5_250_000, NOW)
    assert judge_claim(promised, AGREEMENT, copies, [paid]) == 0
    # A later grant does not pay for the same statement again.
    assert judge_claim(grant(budget=30_000_000, at=NOW + 1), AGREEMENT, copies, [paid]) == 0
    earlier = dataclasses.replace(paid, nonce=b"\x01" * 32, amount=17_000_000)
    assert judge_claim(promised, AGREEMENT, copies, [earlier]) == 3_000_000
    assert judge_claim(promised, AGREEMENT, copies, [dataclasses.replace(earlier, amount=20_000_000)]) == 0
    foreign = dataclasses.replace(earlier, payer=CUSTOMER.identity)
    assert judge_claim(promised, AGREEMENT, copies, [foreign]) == 5_250_000


@given(st.lists(st.integers(0, 10**7), max_size=5), st.integers(1, 10**8))
def test_no_more_than_the_budget_is_ever_paid(sizes: list[int], budget: int) -> None:
    promised, paid = grant(budget=budget), []
    for period, size in enumerate(sizes):
        copies = statement(
            byte_seconds=size * GB * 1000,
            period=period,
            previous=b"\x02" * 32 if period else NO_HASH,
        )
        amount = judge_claim(promised, AGREEMENT, copies, paid)
        assert 0 <= amount <= sponsored_bonus(TERMS, copies[0].body)
        if amount:
            paid.append(draft_note(promised, copies[0], amount, NOW))
    assert sum(note.amount for note in paid) <= budget


@pytest.mark.parametrize(
    "keys", [(CUSTOMER,), (PROVIDER,), (PROVIDER, STRANGER), (CUSTOMER, OWN_LAPTOP), (CUSTOMER, PROVIDER, STRANGER)]
)
def test_a_statement_needs_exactly_both_signatures(keys) -> None:
    with pytest.raises(RefusedError) as caught:
        judge_claim(grant(), AGREEMENT, statement(keys=keys), [])
    assert caught.value.reason is Reason.SIGNATURE


def test_papers_that_do_not_belong_together() -> None:
    different = [statement()[0], statement(good=4319)[1]]
    with pytest.raises(RefusedError, match="signature"):
        judge_claim(grant(), AGREEMENT, different, [])
    for change in ({"terms": b"\x03" * 32}, {"contract": b"\x03" * 32}):
        with pytest.raises(RefusedError, match="wrong_party"):
            judge_claim(grant(), AGREEMENT, statement(**change), [])


def test_who_may_grant() -> None:
    check_grant(grant(), TERMS, CONTRACT)
    with pytest.raises(RefusedError, match="bonus"):
        check_grant(grant(), dataclasses.replace(TERMS, bonus_payer=BonusPayer.CUSTOMER, sponsor=NO_HASH), CONTRACT)
    own = dataclasses.replace(TERMS, sponsor=TERMS.customer_identity)
    wrong = [
        (grant(sponsor=TERMS.customer_identity), own),
        (grant(key=CUSTOMER.device_key), TERMS),
        (grant(contract=b"\x04" * 32), TERMS),
        (grant(payee=b"\x04" * 32), TERMS),
    ]
    for signed, terms in wrong:
        with pytest.raises(RefusedError, match="wrong_party"):
            check_grant(signed, terms, CONTRACT)
    assert sponsored_bonus(dataclasses.replace(TERMS, bonus_payer=BonusPayer.NOBODY), statement()[0].body) == 0


OTHER_NETWORK = b"\x07" * 32
VOUCHER = Voucher(
    CONTRACT, PROVIDER.device_key.public, CUSTOMER.device_key.public, 0, 1, 5, NOW, NO_HASH, NO_HASH, NOW
)
NOTE = CreditNote(CONTRACT, TERMS.provider_identity, TERMS.customer_identity, 5, bytes(32), NO_HASH, NOW)
MOVED = TransferReceipt(CONTRACT, CUSTOMER.device_key.public, 1, 2, NOW)


@pytest.mark.parametrize("body", [VOUCHER, NOTE, MOVED, grant().body], ids=lambda body: body.KIND)
def test_a_paper_of_another_network_is_not_signed_here(body) -> None:
    foreign = sign_body(body, CUSTOMER.device_key, OTHER_NETWORK)
    with pytest.raises(RemoteProtocolError) as caught:
        parse_signed(foreign.raw, type(body))
    assert caught.value.code is ErrorCode.SIGNATURE
    assert parse_signed(foreign.raw, type(body), OTHER_NETWORK) == foreign
