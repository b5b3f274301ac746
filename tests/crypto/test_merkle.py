"""Leaf roots and inclusion proofs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.errors import AuthenticationError, ParameterError
from sovereign_crypto.merkle import LEAF_BYTES, inclusion_proof, leaf_count, leaf_root, verify_inclusion


def reference_root(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 9162 section 2.1.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    children = reference_root(leaves[:split]) + reference_root(leaves[split:])
    return hashlib.sha256(b"\1" + children).digest()


def data_of(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


def leaves_of(data: bytes) -> list[bytes]:
    return [data[i : i + LEAF_BYTES] for i in range(0, len(data), LEAF_BYTES)]


@pytest.mark.parametrize("count", range(0, 18))
def test_root_follows_the_rfc(count):
    for size in {count * LEAF_BYTES, max(0, count * LEAF_BYTES - 100)}:
        data = data_of(size)
        assert leaf_root(data) == reference_root(leaves_of(data))
        assert leaf_count(size) == len(leaves_of(data))


@given(st.integers(1, 17 * LEAF_BYTES), st.data())
def test_every_leaf_proves_itself_and_only_itself(size, draw):
    data = bytes(size - 1) + b"\1"
    root = leaf_root(data)
    leaves = leaves_of(data)
    index = draw.draw(st.integers(0, len(leaves) - 1))
    path = inclusion_proof(data, index)
    verify_inclusion(root, size, index, leaves[index], path)
    verify_inclusion(root, size, index, memoryview(leaves[index]), path)
    bad_leaf = bytes([leaves[index][0] ^ 255]) + leaves[index][1:]
    with pytest.raises(AuthenticationError):
        verify_inclusion(root, size, index, bad_leaf, path)


def test_wrong_paths_are_refused():
    data = data_of(5 * LEAF_BYTES - 7)
    root, leaf, path = leaf_root(data), data[:LEAF_BYTES], inclusion_proof(data, 0)
    wrong = [
        path[:-1],
        [*path, bytes(32)],
        [bytes(32), *path[1:]],
        [path[0][:31], *path[1:]],
        [bytes(32)] * 41,
        path[::-1],
    ]
    for bad_path in wrong:
        with pytest.raises(AuthenticationError):
            verify_inclusion(root, len(data), 0, leaf, bad_path)
    with pytest.raises(AuthenticationError):
        verify_inclusion(root, len(data), 1, leaf, path)
    with pytest.raises(AuthenticationError):
        verify_inclusion(root, len(data), 0, leaf[:-1], path)
    with pytest.raises(AuthenticationError):
        verify_inclusion(bytes(32), len(data), 0, leaf, path)


def test_an_inner_node_is_not_a_leaf():
    data = data_of(2 * LEAF_BYTES)
    left, right = (hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves_of(data))
    with pytest.raises(AuthenticationError):
        verify_inclusion(leaf_root(data), 64, 0, left + right, [])


@pytest.mark.parametrize("index", [-1, 2])
def test_there_is_no_such_leaf(index):
    data = data_of(LEAF_BYTES + 1)
    with pytest.raises(ParameterError):
        inclusion_proof(data, index)
    with pytest.raises(ParameterError):
        verify_inclusion(leaf_root(data), len(data), index, b"", [])
