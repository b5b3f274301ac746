"""Offers: signed, bounded, short-lived."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import FormatError
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import StatementType, sign_statement
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.offer import CLOCK_SKEW_S, VALIDITY_S, Offer, parse_offer, sign_offer
from sovereign_protocols.market.prices import LIST_PRICES

KEY = SigningKey.from_seed(bytes(range(32)))
OFFER = Offer(
    identity=b"\x01" * 32,
    device=KEY.public,
    name="Attic",
    seq=7,
    issued_at=1_800_000_000,
    capacity_bytes=50 * 10**9,
    free_bytes=40 * 10**9,
    max_contract_bytes=10 * 10**9,
    price_per_gb_month=2_000_000,
    price_per_gb_transfer=500_000,
    bonus_permille=1500,
    region="Oslo",
)


def test_round_trip() -> None:
    signed = sign_offer(OFFER, KEY)
    assert parse_offer(signed.raw) == signed
    assert signed.offer == OFFER
    assert signed.offer.prices == LIST_PRICES
    assert signed.offer.valid_until == OFFER.issued_at + VALIDITY_S


def test_validity_allows_for_honest_clocks() -> None:
    signed = sign_offer(OFFER, KEY)
    assert signed.is_valid_at(OFFER.issued_at - CLOCK_SKEW_S)
    assert not signed.is_valid_at(OFFER.issued_at - CLOCK_SKEW_S - 1)
    assert signed.is_valid_at(OFFER.valid_until)
    assert not signed.is_valid_at(OFFER.valid_until + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"valid_until": OFFER.issued_at + VALIDITY_S + 1},
        {"valid_until": OFFER.issued_at - 2},
        {"free_bytes": OFFER.capacity_bytes + 1},
        {"min_contract_bytes": OFFER.max_contract_bytes + 1},
    ],
)
def test_contradictions_are_refused_when_reading(change) -> None:
    body = dataclasses.replace(OFFER, **change).to_body()
    raw = sign_statement(StatementType.OFFER, body, KEY).raw
    with pytest.raises(RemoteProtocolError) as caught:
        parse_offer(raw)
    assert caught.value.code is ErrorCode.MALFORMED


def test_another_devices_offer_cannot_be_signed() -> None:
    other = SigningKey.from_seed(bytes(32))
    raw = sign_statement(StatementType.OFFER, OFFER.to_body(), other).raw
    with pytest.raises(RemoteProtocolError) as caught:
        parse_offer(raw)
    assert caught.value.code is ErrorCode.SIGNATURE


def test_another_networks_offer_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_offer(sign_offer(OFFER, KEY).raw, network_id=bytes(32))
    assert caught.value.code is ErrorCode.SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"price_per_gb_month": -1},
        {"price_per_gb_month": True},
        {"capacity_bytes": 2**63 - 1},
        {"name": "x" * 65},
        {"adapters": ("manual",) * 9},
        {"bonus_permille": 999},
        {"identity": b"short"},
    ],
)
def test_fields_out_of_bounds_cannot_be_signed(change) -> None:
    with pytest.raises(FormatError):
        sign_offer(dataclasses.replace(OFFER, **change), KEY)


def test_unknown_and_missing_fields_are_refused() -> None:
    body = OFFER.to_body()
    for changed in (body | {"extra": 1}, {name: value for name, value in body.items() if name != "region"}):
        with pytest.raises(RemoteProtocolError) as caught:
            parse_offer(sign_statement(StatementType.OFFER, changed, KEY).raw)
        assert caught.value.code is ErrorCode.MALFORMED


@given(st.data())
def test_any_damage_is_refused(data) -> None:
    raw = bytearray(sign_offer(OFFER, KEY).raw)
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(RemoteProtocolError) as caught:
        parse_offer(bytes(raw))
    assert caught.value.code in (ErrorCode.MALFORMED, ErrorCode.SIGNATURE)
