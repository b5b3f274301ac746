"""Signed records and the keys under which they may stand, against vectors made from primitives."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.discovery import keys, validator
from sovereign_protocols.discovery.records import parse_peer_record, sign_peer_record
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.kad.errors import InvalidRecordError

VECTORS = json.loads((Path(__file__).parents[2] / "protocols/vectors/discovery.json").read_text())
DEVICE = bytes.fromhex(VECTORS["device"])
GOOD = bytes.fromhex(VECTORS["cases"]["peer_record"]["value"])
KEY = bytes.fromhex(VECTORS["peer_record_key"])
NOW = VECTORS["cases"]["peer_record"]["now"]
# The seed from which the vector's device key was made.
DEVICE_KEY = SigningKey.from_seed(hashlib.sha256(b"device").digest())


def test_keys():
    assert VECTORS["network_id"] == NETWORK_ID_MAIN.hex()
    assert keys.peer_record_key(DEVICE) == KEY
    assert keys.offer_key(DEVICE).hex() == VECTORS["offer_key"]
    assert keys.OFFERS_RENDEZVOUS.hex() == VECTORS["offers_rendezvous"]


@pytest.mark.parametrize("name", VECTORS["cases"])
def test_cases(name):
    case = VECTORS["cases"][name]
    arguments = bytes.fromhex(case["key"]), bytes.fromhex(case["value"]), case["now"]
    judge = SovereignValidator()
    if case["reason"] is None:
        judge.validate(*arguments)
        judge.validate(*arguments)
        return
    for _ in range(2):
        with pytest.raises(InvalidRecordError) as caught:
            judge.validate(*arguments)
        assert caught.value.reason == case["reason"]


@pytest.mark.parametrize("case", VECTORS["select"], ids=lambda case: case["name"])
def test_select(case):
    values = [bytes.fromhex(value) for value in case["values"]]
    judge = SovereignValidator()
    assert judge.select(bytes.fromhex(case["key"]), values) == case["best"]
    assert judge.select(bytes.fromhex(case["key"]), values[::-1]) == len(values) - 1 - case["best"]


def test_two_records_of_one_sequence_number_have_one_order():
    record = parse_peer_record(GOOD).record
    values = [sign_peer_record(replace(record, name=name), DEVICE_KEY).raw for name in "ab"]
    judge = SovereignValidator()
    assert values[judge.select(KEY, values)] == values[::-1][judge.select(KEY, values[::-1])]


def test_a_record_survives_signing_and_parsing():
    signed = parse_peer_record(GOOD)
    assert signed.certificate.device_pk == DEVICE
    assert signed.certificate.self_certified
    assert sign_peer_record(signed.record, DEVICE_KEY).raw == GOOD
    assert signed.is_valid_at(NOW)


def test_a_record_that_others_would_refuse_is_not_signed():
    record = parse_peer_record(GOOD).record
    with pytest.raises(CryptoError):
        sign_peer_record(replace(record, name="x" * 65), DEVICE_KEY)
    with pytest.raises(RemoteProtocolError):
        sign_peer_record(record, SigningKey.from_seed(bytes(32)))


def test_a_record_of_more_than_four_kibibytes_is_not_signed():
    record = parse_peer_record(GOOD).record
    long = tuple(f"/dns4/{number:0194}" for number in range(16))
    assert len(sign_peer_record(replace(record, addresses=long[:15]), DEVICE_KEY).raw) <= 4096
    with pytest.raises(CryptoError):
        sign_peer_record(replace(record, addresses=long, roles=("x" * 16,) * 4, name="ü" * 64), DEVICE_KEY)


def test_what_was_judged_is_bounded(monkeypatch):
    monkeypatch.setattr(validator, "_MAX_JUDGED", 2)
    record = parse_peer_record(GOOD).record
    judge = SovereignValidator()
    for seq in range(5):
        judge.validate(KEY, sign_peer_record(replace(record, seq=seq), DEVICE_KEY).raw, NOW)
    assert len(judge._judged) == 2


@given(st.data())
def test_no_damage_goes_unseen(data):
    damaged = bytearray(GOOD)
    position = data.draw(st.integers(0, len(GOOD) - 1))
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.one_of(st.just(len(GOOD)), st.integers(0, len(GOOD))))
    with pytest.raises(InvalidRecordError):
        SovereignValidator().validate(KEY, bytes(damaged[:cut]), NOW)
