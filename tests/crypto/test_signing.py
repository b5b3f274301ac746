"""Ed25519: keys, signatures, and the inputs that other libraries let through."""

import copy
import pickle

import pytest

from sovereign_crypto.errors import FormatError, SignatureError
from sovereign_crypto.signing import SigningKey, check_public_key, verify

ORDER = 2**252 + 27742317777372353535851937790883648493
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
NON_CANONICAL = [
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0100000000000000000000000000000000000000000000000000000000000080",
]


def test_sign_and_verify():
    key = SigningKey.generate()
    verify(key.public, b"message", key.sign(b"message"))
    assert SigningKey.from_seed(key.seed).public == key.public


@pytest.mark.parametrize("public", SMALL_ORDER + NON_CANONICAL)
def test_weak_public_keys_are_refused(public):
    # R = identity, S = 0 "signs" anything under the identity point.
    signature = bytes([1]) + bytes(63)
    with pytest.raises(FormatError):
        check_public_key(bytes.fromhex(public))
    with pytest.raises(FormatError):
        verify(bytes.fromhex(public), b"anything", signature)


def test_public_key_of_mixed_order_is_refused():
    # A good point plus a point of order 8 is on the curve, but outside the prime-order group.
    from nacl.bindings import crypto_core_ed25519_add

    mixed = crypto_core_ed25519_add(SigningKey.from_seed(bytes(32)).public, bytes.fromhex(SMALL_ORDER[4]))
    with pytest.raises(FormatError):
        check_public_key(mixed)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_wrong_lengths(length):
    with pytest.raises(FormatError):
        check_public_key(bytes(length))
    with pytest.raises(FormatError):
        SigningKey.from_seed(bytes(length))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_signature_of_wrong_length(length):
    with pytest.raises(SignatureError):
        verify(SigningKey.generate().public, b"", bytes(length))


def test_signature_with_s_plus_order_is_refused():
    key = SigningKey.from_seed(bytes(range(32)))
    signature = key.sign(b"x")
    s = int.from_bytes(signature[32:], "little") + ORDER
    with pytest.raises(SignatureError):
        verify(key.public, b"x", signature[:32] + s.to_bytes(32, "little"))


def test_every_flipped_bit_of_a_signature_is_noticed():
    key = SigningKey.from_seed(bytes(range(32)))
    signature = key.sign(b"x")
    for bit in range(512):
        bad = bytearray(signature)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(key.public, b"x", bytes(bad))


def test_the_seed_does_not_show_or_travel():
    key = SigningKey.generate()
    assert key.seed.hex() not in repr(key)
    assert key.public.hex() in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)
