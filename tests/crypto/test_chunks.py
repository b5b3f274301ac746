"""Chunk and blob names, padded sizes."""

import hashlib
import math

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.chunks import blob_id, check_chunk_id, chunk_id, padme
from sovereign_crypto.errors import IdMismatchError, ParameterError


def test_blob_id_is_keyed():
    assert blob_id(bytes(32), b"data") == blake3(b"data", key=bytes(32)).digest()
    assert blob_id(bytes(32), b"data") != blob_id(bytes([1]) * 32, b"data")
    assert blob_id(bytes(32), memoryview(b"data")) == blob_id(bytes(32), b"data")
    with pytest.raises(ParameterError):
        blob_id(bytes(31), b"")


def test_chunk_id_is_plain_sha256():
    assert chunk_id(b"sealed") == hashlib.sha256(b"sealed").digest()
    check_chunk_id(chunk_id(b"sealed"), b"sealed")
    with pytest.raises(IdMismatchError):
        check_chunk_id(chunk_id(b"sealed"), b"sealee")


@given(st.integers(0, 2**40))
def test_padme_bounds(length):
    padded = padme(length)
    assert padded >= length
    assert padded <= length * 1.12 + 1
    assert padme(padded) == padded
    assert padme(length + 1) >= padded


def test_padme_matches_its_definition():
    for length in range(2, 5000):
        exponent = int(math.log2(length))
        bits = exponent - (int(math.log2(exponent)) + 1 if exponent else 0)
        mask = (1 << max(bits, 0)) - 1
        assert padme(length) == (length + mask) & ~mask
    assert [padme(0), padme(1), padme(2), padme(9), padme(4 << 20)] == [0, 1, 2, 10, 4 << 20]
    assert len({padme(n) for n in range(256 << 10, (4 << 20) + 1, 997)}) <= 129
    with pytest.raises(ParameterError):
        padme(-1)
