"""Terms, acts and the life of a contract."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_world import CUSTOMER, GB, NOW, PROVIDER, STRANGER, World

from sovereign_crypto.errors import FormatError
from sovereign_crypto.statement import StatementType, sign_statement
from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.market.acts import Act, ActKind, countersign_act, parse_act, sign_act
from sovereign_protocols.market.draft import draft_revision, draft_terms
from sovereign_protocols.market.lifecycle import (
    AMENDABLE_STATES,
    READ_STATES,
    TRANSITIONS,
    UPLOAD_STATES,
    ContractEvent,
    ContractState,
    advance,
    can_advance,
)
from sovereign_protocols.market.terms import (
    Agreement,
    BonusPayer,
    agree,
    check_revision,
    countersign,
    parse_terms,
    sign_terms,
)

WORLD = World()
TERMS = WORLD.terms()
SIGNED = sign_terms(TERMS, CUSTOMER.device_key)
AGREEMENT = countersign(SIGNED, PROVIDER.device_key)


def test_both_signatures_name_one_contract() -> None:
    assert AGREEMENT.customer == parse_terms(SIGNED.raw)
    assert AGREEMENT.contract_id == SIGNED.terms_hash == AGREEMENT.terms_hash
    assert AGREEMENT.customer.statement_hash != AGREEMENT.provider.statement_hash
    assert AGREEMENT.terms == TERMS
    assert agree(AGREEMENT.provider, AGREEMENT.customer) == AGREEMENT


def test_one_party_cannot_sign_twice() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Agreement(SIGNED, SIGNED)
    assert caught.value.code is ErrorCode.SIGNATURE


def test_different_terms_make_no_agreement() -> None:
    other = sign_terms(WORLD.terms(nonce=1), PROVIDER.device_key)
    with pytest.raises(RemoteProtocolError) as caught:
        agree(SIGNED, other)
    assert caught.value.code is ErrorCode.MALFORMED
    assert check_revision(AGREEMENT, other.terms) == "contract"


def test_a_later_revision_keeps_the_id() -> None:
    signed = sign_terms(draft_revision(AGREEMENT, nonce=bytes(16), capacity_bytes=GB), CUSTOMER.device_key)
    assert signed.contract_id == AGREEMENT.contract_id != signed.terms_hash
    assert check_revision(AGREEMENT, signed.terms) is None


@pytest.mark.parametrize(
    "change",
    [
        {"end_at": NOW},
        {"end_at": NOW + 10 * 366 * 86_400},
        {"contract": b"\x01" * 32},
        {"previous": b"\x01" * 32},
        {"revision": 1},
        {"provider_device": CUSTOMER.device_key.public},
        {"sponsor": b"\x01" * 32},
        {"bonus_payer": BonusPayer.SPONSOR},
        {"observers": (b"\x01" * 32, b"\x01" * 32)},
    ],
)
def test_contradictions_are_malformed(change) -> None:
    body = dataclasses.replace(TERMS, **change).to_body()
    raw = sign_statement(StatementType.CONTRACT, body, CUSTOMER.device_key).raw
    with pytest.raises(RemoteProtocolError) as caught:
        parse_terms(raw)
    assert caught.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"capacity_bytes": -1},
        {"price_per_gb_month": 10**12 + 1},
        {"nonce": b"short"},
        {"observers": (b"\x01" * 31,)},
        {"bonus_permille": 0},
        {"period_s": 60},
    ],
)
def test_fields_out_of_bounds_cannot_be_signed(change) -> None:
    with pytest.raises(FormatError):
        sign_terms(dataclasses.replace(TERMS, **change), CUSTOMER.device_key)


def test_a_sponsor_is_named() -> None:
    terms = dataclasses.replace(TERMS, bonus_payer=BonusPayer.SPONSOR, sponsor=STRANGER.identity)
    assert parse_terms(sign_terms(terms, CUSTOMER.device_key).raw).terms == terms


def test_a_statement_of_another_type_is_malformed() -> None:
    raw = sign_statement(StatementType.OFFER, TERMS.to_body(), CUSTOMER.device_key).raw
    with pytest.raises(RemoteProtocolError) as caught:
        parse_terms(raw)
    assert caught.value.code is ErrorCode.MALFORMED


@given(st.integers(0, len(SIGNED.raw) - 1), st.integers(1, 255))
def test_any_flip_is_noticed(position: int, flip: int) -> None:
    raw = bytearray(SIGNED.raw)
    raw[position] ^= flip
    with pytest.raises(RemoteProtocolError) as caught:
        parse_terms(bytes(raw))
    assert caught.value.code in (ErrorCode.MALFORMED, ErrorCode.SIGNATURE)


def test_a_draft_follows_the_offer() -> None:
    offer = WORLD.offers.current(NOW)
    values = {"capacity_bytes": 5 * GB, "now": NOW, "nonce": bytes(16)}
    paid = draft_terms(offer, CUSTOMER.caller, bonus_payer=BonusPayer.CUSTOMER, **values)
    assert (paid.bonus_permille, paid.credit_limit, paid.period_s) == (1500, 1_000_000, 720 * 3600)
    own = draft_terms(offer, CUSTOMER.caller, bonus_payer=BonusPayer.CUSTOMER, is_own=True, months=60, **values)
    assert own.is_free
    assert own.bonus_payer is BonusPayer.NOBODY
    assert own.end_at - own.start_at == 60 * 720 * 3600


def test_acts_round_trip() -> None:
    act = Act(ActKind.MAINTENANCE, b"\x01" * 32, b"\x02" * 32, NOW, NOW + 60, until_at=NOW + 120)
    signed = sign_act(act, PROVIDER.device_key)
    assert parse_act(signed.raw) == signed
    both = countersign_act(signed, CUSTOMER.device_key)
    assert both.content_hash == signed.content_hash
    assert both.statement_hash != signed.statement_hash


def test_only_maintenance_ends() -> None:
    act = Act(ActKind.EXIT, b"\x01" * 32, b"\x02" * 32, NOW, NOW, until_at=1)
    with pytest.raises(RemoteProtocolError):
        sign_act(act, CUSTOMER.device_key)


@pytest.mark.parametrize("position", [0, -1])
def test_damaged_acts_are_refused(position: int) -> None:
    raw = bytearray(sign_act(Act(ActKind.EXIT, bytes(32), bytes(32), NOW, NOW), CUSTOMER.device_key).raw)
    raw[position] ^= 1
    with pytest.raises(RemoteProtocolError):
        parse_act(bytes(raw))


@pytest.mark.parametrize("state", list(ContractState))
@pytest.mark.parametrize("event", list(ContractEvent))
def test_the_table_decides_every_move(state: ContractState, event: ContractEvent) -> None:
    if can_advance(state, event):
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(LocalProtocolError, match=event.value):
            advance(state, event)


def test_what_each_state_allows() -> None:
    assert {state.value for state in UPLOAD_STATES} == {"active", "renewing"}
    assert {state.value for state in set(ContractState) - READ_STATES} == {"proposed", "closed"}
    assert ContractState.GRACE not in AMENDABLE_STATES


def test_every_contract_can_be_closed_in_the_end() -> None:
    reachable = {ContractState.CLOSED}
    while True:
        more = {state for (state, _), after in TRANSITIONS.items() if after in reachable} | reachable
        if more == reachable:
            break
        reachable = more
    assert reachable == set(ContractState)
    assert not any(state is ContractState.CLOSED for state, _ in TRANSITIONS)
