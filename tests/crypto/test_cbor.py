"""The strict CBOR subset: one encoding for each value, everything else refused."""

import unicodedata

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto import cbor
from sovereign_crypto.errors import FormatError, MalformedError

nfc_text = st.text(max_size=20).map(lambda s: unicodedata.normalize("NFC", s))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), nfc_text)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(nfc_text, inner, max_size=4),
        st.dictionaries(st.integers(0, 65535), inner, max_size=4),
    ),
    max_leaves=20,
)


def nested(depth: int, leaf: bytes = b"\x01") -> bytes:
    return b"\x81" * depth + leaf


@given(values)
def test_round_trip(value):
    assert cbor.decode(cbor.encode(value)) == value


@given(st.binary(max_size=80))
def test_whatever_decodes_is_its_own_only_encoding(data):
    try:
        value = cbor.decode(data)
    except MalformedError:
        return
    assert cbor.encode(value) == data


@given(values, st.data())
def test_truncated_encoding_is_malformed(value, data):
    encoded = cbor.encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MalformedError):
        cbor.decode(encoded[:cut])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a201010101", id="duplicate integer key"),
        pytest.param("a2616101616102", id="duplicate text key"),
        pytest.param("a2616201616102", id="keys out of order"),
        pytest.param("a2180102", id="non-minimal key"),
        pytest.param("1800", id="non-minimal integer"),
        pytest.param("190001", id="non-minimal 16-bit integer"),
        pytest.param("5800", id="non-minimal byte string length"),
        pytest.param("9801 01", id="non-minimal list length"),
        pytest.param("9f01ff", id="indefinite list"),
        pytest.param("bfff", id="indefinite map"),
        pytest.param("5f4101ff", id="indefinite byte string"),
        pytest.param("7f6161ff", id="indefinite text"),
        pytest.param("ff", id="lone break"),
        pytest.param("0100", id="trailing byte"),
        pytest.param("f97e00", id="NaN"),
        pytest.param("f93c00", id="half float"),
        pytest.param("fb3ff0000000000000", id="double float"),
        pytest.param("f97c00", id="infinity"),
        pytest.param("d8236161", id="tag 35, regular expression"),
        pytest.param("d81c8100", id="tag 28, shareable"),
        pytest.param("d81c81d81d00", id="tag 29, cycle"),
        pytest.param("c249010000000000000000", id="bignum"),
        pytest.param("c349010000000000000000", id="negative bignum"),
        pytest.param("c1 00", id="epoch time"),
        pytest.param("c074323032302d30312d30315430303a30303a30305a", id="date text"),
        pytest.param("c4820100", id="decimal"),
        pytest.param("d9d9f700", id="self-described tag"),
        pytest.param("d901028101", id="set"),
        pytest.param("d9ffff00", id="unknown tag"),
        pytest.param("f7", id="undefined"),
        pytest.param("f0", id="simple value 16"),
        pytest.param("f8ff", id="simple value 255"),
        pytest.param("1bffffffffffffffff", id="unsigned above 2^63"),
        pytest.param("3bffffffffffffffff", id="negative below -2^63"),
        pytest.param("61ff", id="invalid UTF-8"),
        pytest.param("63eda080", id="surrogate"),
        pytest.param("6361cc88", id="text not in NFC"),
        pytest.param("a16361cc8800", id="key not in NFC"),
        pytest.param("a120 00", id="negative key"),
        pytest.param("a11a0001000000", id="key above 65535"),
        pytest.param("a2 00 00 6161 00", id="keys of two kinds"),
        pytest.param("a1f600", id="null key"),
        pytest.param("a1f500", id="boolean key"),
        pytest.param("a1410000", id="byte string key"),
        pytest.param("a1800000", id="list key"),
        pytest.param("9bffffffffffffffff", id="huge list"),
        pytest.param("bbffffffffffffffff", id="huge map"),
        pytest.param("5bffffffffffffffff00", id="huge byte string"),
        pytest.param("7bffffffffffffffff00", id="huge text"),
        pytest.param(nested(17).hex(), id="depth 17"),
        pytest.param((b"\xa1\x00" * 17 + b"\x01").hex(), id="maps of depth 17"),
    ],
)
def test_anything_outside_the_subset_is_malformed(text):
    with pytest.raises(MalformedError):
        cbor.decode(bytes.fromhex(text))


def test_depth_16_is_accepted():
    assert cbor.encode(cbor.decode(nested(16))) == nested(16)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**63,
        -(2**63) - 1,
        "a\u0308",
        "\ud800",
        {"a\u0308": 1},
        {1: 0, "a": 0},
        {None: 0},
        {True: 0},
        {-1: 0},
        {65536: 0},
        {b"a": 0},
        {"a": {"b": {1, 2}}},
        pytest.param(object(), id="object"),
        bytearray(b"x"),
        cbor2.undefined,
    ],
    ids=repr,
)
def test_encode_refuses_what_decode_would(value):
    with pytest.raises(MalformedError):
        cbor.encode(value)


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["list", "map"])
def test_encode_refuses_depth_17(make):
    value = 1
    for _ in range(16):
        value = make(value)
    cbor.encode(value)
    with pytest.raises(MalformedError):
        cbor.encode(make(value))


def test_key_order_is_bytewise_whatever_the_order_of_insertion():
    assert cbor.encode({"b": 1, "aa": 2, "a": 3}).hex() == "a3616103616201626161" + "02"
    assert cbor.encode({300: 0, 24: 0, 1: 0}).hex() == "a30100181800" + "19012c00"


def test_tuples_encode_as_lists():
    assert cbor.decode(cbor.encode((1, (2,)))) == [1, [2]]


def test_length_limit_comes_first():
    data = cbor.encode(b"x" * 100)
    assert cbor.decode(data, max_bytes=len(data)) == b"x" * 100
    with pytest.raises(FormatError):
        cbor.decode(data, max_bytes=len(data) - 1)
    with pytest.raises(MalformedError):
        cbor.decode(b"\x00" * 65537)


def test_buffers_are_accepted():
    assert cbor.decode(memoryview(b"\x81\x01")) == [1]


def refused_at_the_tag(encoded: bytes) -> bool:
    """Tell whether our own refusal, and not a built-in decoder, ended the decoding."""
    try:
        cbor.decode(encoded)
    except MalformedError as error:
        causes = [error.__cause__, getattr(error.__cause__, "__cause__", None)]
        return any(isinstance(cause, MalformedError) for cause in causes)
    return False


def test_no_built_in_tag_decoder_ever_runs():
    for tag in range(66000):
        assert refused_at_the_tag(cbor2.dumps(cbor2.CBORTag(tag, "(a+)+$"))), tag
