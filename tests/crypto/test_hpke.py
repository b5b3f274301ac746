"""Key wraps: bound to recipient, purpose and context."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError
from sovereign_crypto.hpke import (
    MAX_CONTEXT_BYTES,
    WRAP_BYTES,
    EncryptionKey,
    WrapPurpose,
    check_encryption_public_key,
    is_wrap_for,
    unwrap,
    wrap,
)

KEY = EncryptionKey.from_seed(bytes(range(32)))
OTHER = EncryptionKey.generate()
SECRET = bytes([5]) * 32
CONTEXT = b"project, epoch, sender, recipient"
WRAPPED = wrap(WrapPurpose.EPOCH_KEY, KEY.public, SECRET, context=CONTEXT, tag_context=b"tag")
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
]


def opened(wrapped: bytes, **changes) -> bytes:
    arguments = {"context": CONTEXT, "tag_context": b"tag"} | changes
    return unwrap(WrapPurpose.EPOCH_KEY, KEY, wrapped, **arguments)


@given(st.sampled_from(WrapPurpose), st.binary(min_size=32, max_size=32), st.binary(max_size=50))
def test_round_trip(purpose, secret, context):
    wrapped = wrap(purpose, KEY.public, secret, context=context)
    assert len(wrapped) == WRAP_BYTES == 106
    assert unwrap(purpose, KEY, wrapped, context=context) == secret
    assert is_wrap_for(purpose, KEY.public, wrapped, context)
    assert not is_wrap_for(purpose, OTHER.public, wrapped, context)


def test_every_flipped_bit_gives_one_of_two_errors():
    assert opened(WRAPPED) == SECRET
    for bit in range(WRAP_BYTES * 8):
        bad = bytearray(WRAPPED)
        bad[bit // 8] ^= 1 << bit % 8
        expected = FormatError if bit // 8 in {*range(8), 24, 25} else AuthenticationError
        # X25519 ignores the top bit of a point, so HPKE binds the encoded key itself.
        with pytest.raises(expected):
            opened(bytes(bad))


def test_every_truncation_is_refused():
    for length in range(WRAP_BYTES):
        with pytest.raises(FormatError):
            opened(WRAPPED[:length])
    with pytest.raises(FormatError):
        opened(WRAPPED + b"\0")


@pytest.mark.parametrize("changes", [{"context": b""}, {"context": CONTEXT + b"\0"}, {"tag_context": b"tah"}])
def test_another_context(changes):
    with pytest.raises(AuthenticationError):
        opened(WRAPPED, **changes)


def test_another_recipient_or_purpose():
    with pytest.raises(AuthenticationError):
        unwrap(WrapPurpose.EPOCH_KEY, OTHER, WRAPPED, context=CONTEXT, tag_context=b"tag")
    with pytest.raises(FormatError):
        unwrap(WrapPurpose.PROJECT_SECRET, KEY, WRAPPED, context=CONTEXT, tag_context=b"tag")
    with pytest.raises(FormatError):
        is_wrap_for(WrapPurpose.PROJECT_SECRET, KEY.public, WRAPPED, b"tag")


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_an_encapsulated_key_of_small_order_is_refused(point):
    with pytest.raises(AuthenticationError):
        opened(WRAPPED[:26] + bytes.fromhex(point) + WRAPPED[58:])


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_public_keys_of_small_order_are_refused(point):
    with pytest.raises(FormatError):
        check_encryption_public_key(bytes.fromhex(point))
    with pytest.raises(FormatError):
        wrap(WrapPurpose.EPOCH_KEY, bytes.fromhex(point), SECRET, context=b"")


def test_sizes():
    with pytest.raises(FormatError):
        check_encryption_public_key(bytes(31))
    with pytest.raises(FormatError):
        EncryptionKey.from_seed(bytes(31))
    with pytest.raises(ParameterError):
        wrap(WrapPurpose.EPOCH_KEY, KEY.public, bytes(31), context=b"")
    with pytest.raises(ParameterError):
        wrap(WrapPurpose.EPOCH_KEY, KEY.public, SECRET, context=bytes(MAX_CONTEXT_BYTES + 1))
    with pytest.raises(ParameterError):
        opened(WRAPPED, tag_context=bytes(MAX_CONTEXT_BYTES + 1))


def test_the_private_key_does_not_show_or_travel():
    key = EncryptionKey.generate()
    assert EncryptionKey.from_seed(key.seed).public == key.public
    assert key.seed.hex() not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
