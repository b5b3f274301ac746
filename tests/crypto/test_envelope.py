"""The sealed envelope: round trips, every damaged bit, wrong key, purpose and context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.envelope import (
    MAX_CONTEXT_BYTES,
    MAX_PLAINTEXT_BYTES,
    OVERHEAD_BYTES,
    Purpose,
    commitment_matches,
    open_pieces,
    open_sealed,
    seal,
    seal_buffer,
)
from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError

KEY = bytes(range(32))
CONTEXT = b"project and epoch"
SEALED = seal(Purpose.CHUNK, KEY, CONTEXT, b"some plaintext")


@pytest.mark.parametrize("sealer", [seal, seal_buffer])
@given(purpose=st.sampled_from(Purpose), context=st.binary(max_size=64), plaintext=st.binary(max_size=300))
def test_round_trip(sealer, purpose, context, plaintext):
    sealed = sealer(purpose, KEY, context, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES == len(plaintext) + 88
    assert open_sealed(purpose, KEY, context, sealed) == plaintext
    assert commitment_matches(purpose, KEY, context, sealed)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_accepted(kind):
    sealed = seal_buffer(Purpose.INDEX, KEY, b"", kind(b"abc"))
    assert open_sealed(Purpose.INDEX, KEY, b"", kind(sealed)) == b"abc"


def test_every_flipped_bit_gives_one_of_two_errors():
    for bit in range(len(SEALED) * 8):
        bad = bytearray(SEALED)
        bad[bit // 8] ^= 1 << bit % 8
        expected = FormatError if bit < 8 * 8 else AuthenticationError
        with pytest.raises(expected):
            open_sealed(Purpose.CHUNK, KEY, CONTEXT, bad)


def test_every_truncation_gives_one_of_two_errors():
    for length in range(len(SEALED)):
        expected = FormatError if length < OVERHEAD_BYTES else AuthenticationError
        with pytest.raises(expected):
            open_sealed(Purpose.CHUNK, KEY, CONTEXT, SEALED[:length])
    with pytest.raises(AuthenticationError):
        open_sealed(Purpose.CHUNK, KEY, CONTEXT, SEALED + b"\0")


@pytest.mark.parametrize(
    ("key", "context"),
    [(bytes(32), CONTEXT), (KEY, b""), (KEY, CONTEXT + b"\0"), (KEY, CONTEXT[:-1])],
)
def test_wrong_key_or_context(key, context):
    assert not commitment_matches(Purpose.CHUNK, key, context, SEALED)
    with pytest.raises(AuthenticationError):
        open_sealed(Purpose.CHUNK, key, context, SEALED)


def test_another_purpose_does_not_open():
    for purpose in set(Purpose) - {Purpose.CHUNK}:
        with pytest.raises(FormatError):
            open_sealed(purpose, KEY, CONTEXT, SEALED)
        relabelled = SEALED[:6] + purpose.to_bytes(2, "big") + SEALED[8:]
        with pytest.raises(AuthenticationError):
            open_sealed(purpose, KEY, CONTEXT, relabelled)


def test_moving_a_byte_between_context_and_envelope_does_not_help():
    first = seal(Purpose.HEAD, KEY, b"ab", b"x")
    second = seal(Purpose.HEAD, KEY, b"a", b"x")
    with pytest.raises(AuthenticationError):
        open_sealed(Purpose.HEAD, KEY, b"a", first)
    with pytest.raises(AuthenticationError):
        open_sealed(Purpose.HEAD, KEY, b"ab", second)


def test_no_two_envelopes_are_alike():
    assert len({seal(Purpose.CHUNK, KEY, b"", b"same")[8:72] for _ in range(50)}) == 50


@pytest.mark.parametrize("sealer", [seal, seal_buffer])
def test_limits(sealer):
    with pytest.raises(ParameterError):
        sealer(Purpose.CHUNK, KEY[:31], b"", b"")
    with pytest.raises(ParameterError):
        sealer(Purpose.CHUNK, KEY, bytes(MAX_CONTEXT_BYTES + 1), b"")
    with pytest.raises(ParameterError):
        sealer(Purpose.CHUNK, KEY, b"", bytes(MAX_PLAINTEXT_BYTES + 1))
    largest = sealer(Purpose.CHUNK, KEY, bytes(MAX_CONTEXT_BYTES), bytes(MAX_PLAINTEXT_BYTES))
    assert len(open_sealed(Purpose.CHUNK, KEY, bytes(MAX_CONTEXT_BYTES), largest)) == MAX_PLAINTEXT_BYTES


def test_opening_checks_sizes_before_it_computes():
    with pytest.raises(FormatError):
        open_sealed(Purpose.CHUNK, KEY, b"", bytes(MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES + 1))
    with pytest.raises(ParameterError):
        open_sealed(Purpose.CHUNK, b"", CONTEXT, SEALED)
    with pytest.raises(ParameterError):
        commitment_matches(Purpose.CHUNK, KEY, bytes(MAX_CONTEXT_BYTES + 1), SEALED)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 16, 72, 100, 5000])
@given(plaintext=st.binary(max_size=300))
def test_pieces_open_like_the_whole(size, plaintext):
    sealed = seal(Purpose.CHUNK, KEY, CONTEXT, plaintext)
    target = bytearray(400)
    assert open_pieces(Purpose.CHUNK, [KEY], CONTEXT, cut(sealed, size), target) == plaintext
    assert target[len(plaintext) :] == bytes(400 - len(plaintext))


def test_pieces_name_their_key_by_the_commitment():
    pieces = [memoryview(SEALED)[:80], bytearray(SEALED[80:])]
    assert open_pieces(Purpose.CHUNK, [bytes(32), KEY], CONTEXT, pieces, bytearray(14)) == b"some plaintext"
    with pytest.raises(AuthenticationError):
        open_pieces(Purpose.CHUNK, [bytes(32)], CONTEXT, pieces, bytearray(14))
    with pytest.raises(AuthenticationError):
        open_pieces(Purpose.CHUNK, [KEY], b"other", pieces, bytearray(14))


def test_altered_pieces_leave_nothing_of_the_plaintext():
    for bit in range(len(SEALED) * 8):
        bad = bytearray(SEALED)
        bad[bit // 8] ^= 1 << bit % 8
        target = bytearray(14)
        with pytest.raises(FormatError if bit < 8 * 8 else AuthenticationError):
            open_pieces(Purpose.CHUNK, [KEY], CONTEXT, cut(bytes(bad), 30), target)
        assert target == bytes(14)


def test_pieces_of_an_impossible_size():
    for length in range(OVERHEAD_BYTES):
        with pytest.raises(FormatError):
            open_pieces(Purpose.CHUNK, [KEY], CONTEXT, cut(SEALED[:length], 30), bytearray(14))
    with pytest.raises(ParameterError):
        open_pieces(Purpose.CHUNK, [KEY], CONTEXT, [SEALED], bytearray(13))
