"""Passphrase derivation: bounds before work, Unicode rules, agreement with other libraries."""

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import ParameterError
from sovereign_crypto.kdf import (
    DEFAULT_KDF,
    DEFAULT_PBKDF2,
    NO_KDF,
    STRONG_KDF,
    KdfAlgorithm,
    KdfParameters,
    derive_from_passphrase,
    passphrase_bytes,
)

ARGON2ID, PBKDF2 = KdfAlgorithm.ARGON2ID, KdfAlgorithm.PBKDF2_HMAC_SHA256
SALT = bytes(range(32))
CHEAP = KdfParameters(ARGON2ID, 2, 19 * 1024, 1)


@pytest.mark.parametrize(
    "parameters",
    [
        DEFAULT_KDF,
        STRONG_KDF,
        DEFAULT_PBKDF2,
        NO_KDF,
        CHEAP,
        KdfParameters(ARGON2ID, 10, 1024 * 1024, 4),
        KdfParameters(PBKDF2, 600_000),
        KdfParameters(PBKDF2, 10_000_000),
    ],
)
def test_accepted_costs(parameters):
    parameters.check()


@pytest.mark.parametrize(
    "parameters",
    [
        KdfParameters(ARGON2ID, 1, 64 * 1024, 1),
        KdfParameters(ARGON2ID, 11, 64 * 1024, 1),
        KdfParameters(ARGON2ID, 3, 8, 1),
        KdfParameters(ARGON2ID, 3, 19 * 1024 - 1, 1),
        KdfParameters(ARGON2ID, 3, 1024 * 1024 + 1, 1),
        KdfParameters(ARGON2ID, 3, 64 * 1024 * 1024, 1),
        KdfParameters(ARGON2ID, 3, 64 * 1024, 0),
        KdfParameters(ARGON2ID, 3, 64 * 1024, 5),
        KdfParameters(PBKDF2, 1000),
        KdfParameters(PBKDF2, 599_999),
        KdfParameters(PBKDF2, 10_000_001),
        KdfParameters(PBKDF2, 600_000, memory_kib=1),
        KdfParameters(PBKDF2, 600_000, lanes=1),
        KdfParameters(KdfAlgorithm.NONE, passes=1),
        KdfParameters(KdfAlgorithm.NONE, memory_kib=1),
        KdfParameters(KdfAlgorithm.NONE, lanes=1),
    ],
)
def test_other_costs_are_refused_before_computing(parameters):
    with pytest.raises(ParameterError):
        parameters.check()
    with pytest.raises(ParameterError):
        derive_from_passphrase("passphrase", SALT, parameters)


def test_defaults_are_those_of_the_specification():
    default = (DEFAULT_KDF.algorithm, DEFAULT_KDF.passes, DEFAULT_KDF.memory_kib, DEFAULT_KDF.lanes)
    assert default == (ARGON2ID, 3, 65536, 1)
    assert DEFAULT_PBKDF2.passes >= 600_000


def test_pbkdf2_agrees_with_the_standard_library():
    parameters = KdfParameters(PBKDF2, 600_000)
    expected = hashlib.pbkdf2_hmac("sha256", "pässword".encode(), SALT, 600_000, 32)
    assert derive_from_passphrase("pässword", SALT, parameters) == expected


def test_argon2id_depends_on_everything():
    outputs = {
        derive_from_passphrase(passphrase, salt, parameters)
        for passphrase, salt, parameters in [
            ("a", SALT, CHEAP),
            ("b", SALT, CHEAP),
            ("a ", SALT, CHEAP),
            ("a", bytes(32), CHEAP),
            ("a", SALT, KdfParameters(ARGON2ID, 3, 19 * 1024, 1)),
            ("a", SALT, KdfParameters(ARGON2ID, 2, 20 * 1024, 1)),
            ("a", SALT, KdfParameters(ARGON2ID, 2, 19 * 1024, 2)),
        ]
    }
    assert len(outputs) == 7


@given(st.text(min_size=1, max_size=100).filter(lambda s: s.isprintable()))
def test_composed_and_decomposed_text_are_one_passphrase(text):
    assert passphrase_bytes(unicodedata.normalize("NFD", text)) == passphrase_bytes(text)


def test_passphrases_are_not_trimmed():
    assert passphrase_bytes(" a\n") == b" a\n"


@pytest.mark.parametrize("text", ["", "x" * 1025, "é" * 513, "x" * 4097, "e\u0301" * 5000, "\ud800"])
def test_refused_passphrases(text):
    with pytest.raises(ParameterError):
        passphrase_bytes(text)


def test_longest_passphrase():
    assert len(passphrase_bytes("e\u0301" * 512)) == 1024


@pytest.mark.parametrize("salt", [b"", bytes(16), bytes(33)])
def test_salts_have_32_bytes(salt):
    with pytest.raises(ParameterError):
        derive_from_passphrase("a", salt, CHEAP)


def test_a_passphrase_is_never_used_without_derivation():
    with pytest.raises(ParameterError):
        derive_from_passphrase("a", SALT, NO_KDF)
