"""Signed statements: types, networks, layout, second signatures."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto import cbor
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import FormatError, MalformedError, ParameterError, SignatureError
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    OVERHEAD_BYTES,
    StatementType,
    parse_statement,
    sign_same_content,
    sign_statement,
)

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(range(1, 33)))
BODY = {"v": 1, "amount_micro_vibe": 5, "to": b"x" * 32}
STATEMENT = sign_statement(StatementType.PAYMENT, BODY, KEY)


def parse(raw, **options):
    return parse_statement(raw, expected=StatementType.PAYMENT, **options)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.one_of(st.integers(-9, 9), st.binary(max_size=9))),
    st.sampled_from(StatementType),
)
def test_round_trip(body, kind):
    made = sign_statement(kind, body, KEY)
    read = parse_statement(made.raw, expected=kind)
    assert read == made
    assert (read.body, read.signer, read.type) == (body, KEY.public, kind)
    assert read.hash == hashlib.sha256(made.raw).digest()
    assert read.signature == made.raw[-64:]
    assert len(made.raw) == OVERHEAD_BYTES + len(cbor.encode(body))


def test_every_flipped_bit_is_refused():
    for bit in range(len(STATEMENT.raw) * 8):
        bad = bytearray(STATEMENT.raw)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, SignatureError)):
            parse(bytes(bad))


def test_every_truncation_is_refused():
    for length in range(len(STATEMENT.raw)):
        with pytest.raises(FormatError):
            parse(STATEMENT.raw[:length])
    with pytest.raises(FormatError):
        parse(STATEMENT.raw + b"\0")


def test_another_type_or_network_is_refused():
    with pytest.raises(FormatError):
        parse_statement(STATEMENT.raw, expected=StatementType.OFFER)
    with pytest.raises(SignatureError):
        parse(STATEMENT.raw, network_id=bytes(32))
    retyped = STATEMENT.raw[:5] + bytes([StatementType.OFFER]) + STATEMENT.raw[6:]
    with pytest.raises(SignatureError):
        parse_statement(retyped, expected=StatementType.OFFER)


def signed_raw(body: bytes, key: SigningKey = KEY) -> bytes:
    content = b"SVS1\x01" + bytes([StatementType.PAYMENT, 0, 0]) + len(body).to_bytes(4, "big") + body
    message = Domain.STATEMENT.prefix + NETWORK_ID_MAIN + content + key.public
    return content + key.public + key.sign(message)


@pytest.mark.parametrize("body", [b"\x80", b"\x01", b"", b"\xa2\x01\x01\x01\x01", b"\xa1\x01\x18\x01"])
def test_a_signature_does_not_excuse_a_malformed_body(body):
    with pytest.raises(MalformedError):
        parse(signed_raw(body))


def test_a_weak_signer_key_is_refused():
    raw = STATEMENT.raw
    with pytest.raises(FormatError):
        parse(raw[:-96] + bytes([1]) + bytes(31) + raw[-64:])


def test_size_limits():
    with pytest.raises(FormatError):
        parse(STATEMENT.raw, max_bytes=len(STATEMENT.raw) - 1)
    with pytest.raises(MalformedError):
        sign_statement(StatementType.OFFER, {"a": bytes(65536)}, KEY)
    large = sign_statement(StatementType.OFFER, {"a": bytes(65536)}, KEY, max_bytes=70000)
    with pytest.raises(FormatError):
        parse_statement(large.raw, expected=StatementType.OFFER)
    assert parse_statement(large.raw, expected=StatementType.OFFER, max_bytes=70000) == large


@pytest.mark.parametrize("network_id", [b"", bytes(31), bytes(33)])
def test_network_ids_have_32_bytes(network_id):
    with pytest.raises(ParameterError):
        sign_statement(StatementType.OFFER, {}, KEY, network_id)
    with pytest.raises(ParameterError):
        parse(STATEMENT.raw, network_id=network_id)
    with pytest.raises(ParameterError):
        sign_same_content(STATEMENT.raw, OTHER, network_id)


def test_two_parties_sign_the_same_content():
    second = parse(sign_same_content(STATEMENT.raw, OTHER))
    assert second.signer == OTHER.public
    assert second.body == BODY
    assert second.content_hash == STATEMENT.content_hash
    assert second.hash != STATEMENT.hash
    with pytest.raises(FormatError):
        sign_same_content(STATEMENT.raw[:-1], OTHER)


def test_a_signature_cannot_be_taken_over_by_another_signer():
    raw = STATEMENT.raw
    with pytest.raises(SignatureError):
        parse(raw[:-96] + OTHER.public + raw[-64:])


def test_type_numbers_are_frozen():
    assert {kind.name: kind.value for kind in StatementType} == {
        "IDENTITY_ENTRY": 0x01,
        "DEVICE_CERTIFICATE": 0x02,
        "MEMBERSHIP": 0x10,
        "SNAPSHOT": 0x11,
        "HEAD": 0x12,
        "OFFER": 0x20,
        "CONTRACT": 0x21,
        "ACCEPTANCE": 0x22,
        "PUT_RECEIPT": 0x23,
        "USAGE": 0x24,
        "PAYMENT": 0x25,
        "RETENTION": 0x26,
        "AUDIT_CHALLENGE": 0x27,
        "AUDIT_ANSWER": 0x28,
        "PEER_RECORD": 0x30,
        "CAPABILITY": 0x31,
        "RECOVERY_RECORD": 0x32,
        "AUDIT_CHECKPOINT": 0x40,
    }
