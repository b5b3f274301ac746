"""Merkle trees over 4 KiB leaves, by which a provider proves that it still holds a chunk.

Leaves and inner nodes are hashed with different first bytes, so a node can never pass as a leaf.

Source: RFC 9162 section 2.1 (the tree of RFC 6962); ``crypto/specs/keys.md``, section "Leaf roots".
"""

import hashlib
from collections.abc import Sequence

from sovereign_crypto.aead import Buffer
from sovereign_crypto.errors import AuthenticationError, ParameterError

LEAF_BYTES = 4096
HASH_BYTES = 32
# 2^40 leaves; far more than a chunk has.
MAX_PATH_NODES = 40


def leaf_count(size_bytes: int) -> int:
    """Return how many leaves ``size_bytes`` of data have; the last may be short."""
    return (size_bytes + LEAF_BYTES - 1) // LEAF_BYTES


def leaf_hash(leaf: Buffer) -> bytes:
    """Return the hash of one leaf."""
    hasher = hashlib.sha256(b"\x00")
    hasher.update(leaf)
    return hasher.digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _leaf_hashes(data: Buffer) -> list[bytes]:
    view = memoryview(data)
    return [leaf_hash(view[start : start + LEAF_BYTES]) for start in range(0, len(view), LEAF_BYTES)]


def _parents(level: list[bytes]) -> list[bytes]:
    # Pairing neighbours and lifting an odd last node gives the RFC's tree, whose left subtrees are
    # the largest full ones.
    paired = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[len(paired) * 2 :]


def leaf_root(data: Buffer) -> bytes:
    """Return the 32-byte root over the 4 KiB leaves of ``data``; of nothing, SHA-256 of nothing."""
    level = _leaf_hashes(data)
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def inclusion_proof(data: Buffer, index: int) -> list[bytes]:
    """Return the sibling hashes from leaf ``index`` up to the root.

    Args:
        data: the whole chunk.
        index: leaf number, from 0.

    Raises:
        ParameterError: there is no such leaf.

    """
    level = _leaf_hashes(data)
    if not 0 <= index < len(level):
        raise ParameterError("no leaf of that number")
    path = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _parents(level)
        index //= 2
    return path


def verify_inclusion(root: bytes, size_bytes: int, index: int, leaf: Buffer, path: Sequence[bytes]) -> None:
    """Return if ``leaf`` is leaf ``index`` of the data that has this root and size.

    Args:
        root: 32 bytes.
        size_bytes: of the whole data; fixes the shape of the tree and the size of each leaf.
        index: leaf number, from 0.
        leaf: its bytes; 4 KiB, or less for the last one.
        path: from :func:`inclusion_proof`.

    Raises:
        ParameterError: there is no such leaf.
        AuthenticationError: the leaf, its size or the path is wrong.

    """
    count = leaf_count(size_bytes)
    if not 0 <= index < count:
        raise ParameterError("no leaf of that number")
    if len(leaf) != min(LEAF_BYTES, size_bytes - index * LEAF_BYTES) or len(path) > MAX_PATH_NODES:
        raise AuthenticationError("audit proof does not hold")
    siblings = iter(path)
    computed = leaf_hash(leaf)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(siblings, b"")
            if len(sibling) != HASH_BYTES:
                raise AuthenticationError("audit proof does not hold")
            computed = _node_hash(sibling, computed) if index & 1 else _node_hash(computed, sibling)
        index //= 2
        count = (count + 1) // 2
    if computed != root or next(siblings, None) is not None:
        raise AuthenticationError("audit proof does not hold")
