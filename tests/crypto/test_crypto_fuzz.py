"""Every parser on random and on mutated input: documented errors only, and never a surprise."""

import contextlib
import json
import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto import cbor, crockford, hpke, keyslot
from sovereign_crypto.certificate import CertificateError, parse_certificate, verify_certificate
from sovereign_crypto.envelope import Purpose, open_sealed
from sovereign_crypto.errors import (
    AuthenticationError,
    CryptoError,
    FormatError,
    MalformedError,
    ParameterError,
    SignatureError,
    UnlockError,
)
from sovereign_crypto.identity import IdentityLog, LogError, parse_entry
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.recovery import RecoveryKit, open_with_recovery, parse_kit_file
from sovereign_crypto.statement import StatementType, parse_statement

VECTORS = Path(__file__).resolve().parents[2] / "crypto/vectors"
KIT = RecoveryKit(bytes(32))
KEY = hpke.EncryptionKey.from_seed(bytes(32))


def hex_of(path: str, name: str) -> bytes:
    value = json.loads((VECTORS / path).read_text("ascii"))["input"][name]
    return bytes.fromhex(value[-1] if isinstance(value, list) else value)


PARSERS = {
    "envelope": (
        lambda data: open_sealed(Purpose.CHUNK, bytes(32), b"", data),
        hex_of("envelope/ok-chunk.json", "sealed"),
        (FormatError, AuthenticationError),
    ),
    "statement": (
        lambda data: parse_statement(data, expected=StatementType.PAYMENT),
        hex_of("statements/ok.json", "raw"),
        (FormatError, SignatureError),
    ),
    "keyslot": (
        lambda data: keyslot.open_secret_slot(data, bytes(32)),
        hex_of("keyslot/ok-keyring.json", "slot"),
        (FormatError, ParameterError, UnlockError),
    ),
    "certificate": (
        parse_certificate,
        hex_of("identity/certificate-ok.json", "raw"),
        (CertificateError,),
    ),
    "entry": (
        parse_entry,
        hex_of("identity/log-ok-revoked.json", "entries"),
        (FormatError, SignatureError),
    ),
    "wrap": (
        lambda data: hpke.unwrap(hpke.WrapPurpose.EPOCH_KEY, KEY, data, context=b""),
        hex_of("keys/wrap-ok.json", "wrapped"),
        (FormatError, AuthenticationError),
    ),
    "recovery": (
        lambda data: open_with_recovery(KIT, b"", data),
        hex_of("recovery/record-ok.json", "sealed"),
        (FormatError, AuthenticationError),
    ),
    "project": (ProjectKeys.from_bytes, hex_of("keys/project-ok.json", "encoded"), (MalformedError,)),
    "cbor": (cbor.decode, hex_of("keys/project-ok.json", "encoded"), (MalformedError,)),
}
parsers = st.sampled_from(sorted(PARSERS))


@st.composite
def mutated(draw, data: bytes) -> bytes:
    """Replace, insert, delete or repeat a few short runs."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(result)))
        end = min(len(result), at + draw(st.integers(0, 8)))
        result[at:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(result[at:end]) * 2)))
    return bytes(result)


@given(parsers, st.binary(max_size=400))
def test_random_input(name, data):
    parse, _good, errors = PARSERS[name]
    with contextlib.suppress(*errors):
        parse(data)


@given(parsers, st.data())
def test_mutated_input(name, data):
    parse, good, errors = PARSERS[name]
    with contextlib.suppress(*errors):
        parse(data.draw(mutated(good)))


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_random_logs(entries):
    with contextlib.suppress(FormatError, SignatureError, LogError):
        IdentityLog.verify(entries)


@given(
    st.one_of(st.text(max_size=200), st.text(alphabet="0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=75, max_size=75))
)
def test_random_text(text):
    for parse in (parse_kit_file, crockford.decode_groups, public_key_from_peer_id):
        with contextlib.suppress(FormatError):
            parse(text)


@given(st.binary(max_size=40), st.integers(-(2**70), 2**70))
def test_any_clock(tail, now):
    good = hex_of("identity/certificate-ok.json", "raw")
    with contextlib.suppress(CertificateError):
        verify_certificate(good + tail, now)


def test_huge_claims_cost_no_memory():
    claims = [
        bytes.fromhex("9bffffffffffffffff"),
        bytes.fromhex("bbffffffffffffffff"),
        bytes.fromhex("5bffffffffffffffff"),
        bytes.fromhex("7b7fffffffffffffff"),
        b"\x81" * 60000,
        b"\x9a\x00\xff\xff\xff" * 12000,
    ]
    tracemalloc.start()
    for claim in claims:
        with contextlib.suppress(CryptoError):
            cbor.decode(claim)
    statement = b"SVS1\x01\x25\0\0\xff\xff\xff\xff" + bytes(200)
    with contextlib.suppress(CryptoError):
        parse_statement(statement, expected=StatementType.PAYMENT)
    _current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
