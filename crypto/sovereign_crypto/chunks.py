"""Names and sizes of chunks and blobs.

Source: ``crypto/specs/keys.md``, section "Names and sizes".
"""

import hashlib

from blake3 import blake3

from sovereign_crypto.errors import IdMismatchError, ParameterError

ID_BYTES = 32


def blob_id(dedup_key: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """Return the name of a blob inside its project: keyed BLAKE3-256 of its raw bytes.

    Args:
        dedup_key: 32 bytes, from :class:`~sovereign_crypto.project.ProjectKeys`.
        data: the blob, before compression.

    Raises:
        ParameterError: the key is not 32 bytes long.

    """
    if len(dedup_key) != ID_BYTES:
        raise ParameterError("a dedup key has 32 bytes")
    return blake3(data, key=dedup_key).digest()


def chunk_id(sealed: bytes | bytearray | memoryview) -> bytes:
    """Return the public name of a chunk: SHA-256 of its sealed bytes."""
    return hashlib.sha256(sealed).digest()


def check_chunk_id(expected: bytes, sealed: bytes | bytearray | memoryview) -> None:
    """Return if ``sealed`` is the chunk named ``expected``; call it before opening the envelope.

    Raises:
        IdMismatchError: it is not.

    """
    if chunk_id(sealed) != expected:
        raise IdMismatchError("chunk does not have the identifier it was asked by")


def padme(length_bytes: int) -> int:
    """Return the padded size: lengths that differ in their low bits become one.

    At most 12 % larger, and only O(log log n) bits of the length remain visible.

    Args:
        length_bytes: at least 0.

    Raises:
        ParameterError: ``length_bytes`` is negative.

    Source: PURBs, PoPETs 2019(4), section 4 (Padmé).

    """
    if length_bytes < 0:
        raise ParameterError("a length is not negative")
    if length_bytes < 2:
        return length_bytes
    exponent = length_bytes.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1 if low_bits > 0 else 0
    return (length_bytes + mask) & ~mask
