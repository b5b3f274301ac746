"""Containers: the plaintext of a chunk.

::

    0                 payloads of the blobs, end to end, in directory order
    p                 directory: n lines of 42 bytes
    p + 42 n          zero bytes up to a Padmé length, at least 4096, less the trailer
    L - 16            trailer: "SVC1" | u8 version | u8 0 | u16 0 | u32 p | u32 n

A directory line is ``blob id 32 | u8 type | u8 codec | u32 stored length | u32 raw length``, big-endian.
A provider sees only L, so neither the number of blobs nor their boundaries.

Source: protocols/specs/container.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sovereign_crypto.chunks import padme
from sovereign_protocols.vault.blobs import BlobRecord, BlobType, Codec
from sovereign_protocols.vault.errors import ContentError

MAGIC = b"SVC1"
VERSION = 1
MIN_PLAINTEXT_BYTES = 4096
MAX_PLAINTEXT_BYTES = 4 * 1024 * 1024
TRAILER_BYTES = 16
LINE_BYTES = 42
MAX_BLOB_BYTES = MAX_PLAINTEXT_BYTES - TRAILER_BYTES - LINE_BYTES
# A compressed tree node or list must not let one chunk claim gigabytes of output.
MAX_RAW_BYTES = MAX_PLAINTEXT_BYTES

_LINE = struct.Struct(">32sBBII")
_TRAILER = struct.Struct(">4sBBHII")
_TYPES = {int(item): item for item in BlobType}
_CODECS = {int(item): item for item in Codec}


def fits(payload_bytes: int, blobs: int, next_bytes: int) -> bool:
    """Whether a container with ``blobs`` blobs of ``payload_bytes`` takes one more of ``next_bytes``."""
    return payload_bytes + next_bytes + (blobs + 1) * LINE_BYTES + TRAILER_BYTES <= MAX_PLAINTEXT_BYTES


def is_zero(padding: memoryview) -> bool:
    """Whether all bytes are zero; a loop in Python over 100 KiB would cost more than opening the chunk."""
    return bytes(padding).count(0) == len(padding)


def encode_directory(records: Sequence[BlobRecord]) -> bytes:
    """Return the directory lines of ``records``."""
    pack = _LINE.pack
    return b"".join(
        [pack(item.blob_id, item.type, item.codec, item.stored_bytes, item.raw_bytes) for item in records]
    )


def decode_directory(data: bytes | memoryview, payload_bytes: int) -> list[BlobRecord]:
    """Parse directory lines whose stored lengths must add up to ``payload_bytes``.

    Raises:
        ContentError: an unknown type or codec, a length out of bounds, or a wrong sum.
    """
    if len(data) % LINE_BYTES:
        raise ContentError("directory of a broken length")
    records: list[BlobRecord] = []
    total = 0
    for blob_id, type_number, codec_number, stored_bytes, raw_bytes in _LINE.iter_unpack(data):
        kind = _TYPES.get(type_number)
        codec = _CODECS.get(codec_number)
        if kind is None or codec is None:
            raise ContentError("unknown blob type or codec")
        if raw_bytes > MAX_RAW_BYTES or (codec is Codec.RAW and raw_bytes != stored_bytes):
            raise ContentError("blob length out of bounds")
        total += stored_bytes
        records.append(BlobRecord(blob_id, kind, codec, stored_bytes, raw_bytes))
    if total != payload_bytes:
        raise ContentError("payload length differs from the directory")
    return records


def encode_container(blobs: Sequence[tuple[BlobRecord, bytes | memoryview]]) -> bytes:
    """Lay out blobs as the plaintext of a chunk.

    Args:
        blobs: directory lines with their stored bytes, at least one; see :func:`fits`.

    Returns:
        A Padmé length from 4096 bytes to 4 MiB.

    Raises:
        ContentError: too much for one container.
    """
    payload_bytes = sum(len(stored) for _, stored in blobs)
    used_bytes = payload_bytes + len(blobs) * LINE_BYTES + TRAILER_BYTES
    if not blobs or used_bytes > MAX_PLAINTEXT_BYTES:
        raise ContentError("no blobs, or more than a container holds")
    padding_bytes = padme(max(used_bytes, MIN_PLAINTEXT_BYTES)) - used_bytes
    parts: list[bytes | memoryview] = [stored for _, stored in blobs]
    parts.append(encode_directory([record for record, _ in blobs]))
    parts.append(bytes(padding_bytes))
    parts.append(_TRAILER.pack(MAGIC, VERSION, 0, 0, payload_bytes, len(blobs)))
    return b"".join(parts)


class Container:
    """A parsed container: its directory, and access to stored bytes.

    Args:
        plaintext: the opened chunk.

    Raises:
        ContentError: any rule of the layout is broken.
    """

    def __init__(self, plaintext: bytes | memoryview) -> None:
        view = memoryview(plaintext)
        size_bytes = len(view)
        if not MIN_PLAINTEXT_BYTES <= size_bytes <= MAX_PLAINTEXT_BYTES or padme(size_bytes) != size_bytes:
            raise ContentError("container length is not allowed")
        magic, version, zero, zero16, payload_bytes, count = _TRAILER.unpack(view[-TRAILER_BYTES:])
        if magic != MAGIC or version != VERSION or zero or zero16:
            raise ContentError("unknown container")
        used_bytes = payload_bytes + count * LINE_BYTES + TRAILER_BYTES
        if not count or padme(max(used_bytes, MIN_PLAINTEXT_BYTES)) != size_bytes:
            raise ContentError("container length differs from its content")
        directory_end = used_bytes - TRAILER_BYTES
        if not is_zero(view[directory_end : size_bytes - TRAILER_BYTES]):
            raise ContentError("padding is not zero")
        self.payload_bytes: int = payload_bytes
        self.directory = view[payload_bytes:directory_end]
        self.records = decode_directory(self.directory, payload_bytes)
        self._view = view

    def stored(self, offset_bytes: int, stored_bytes: int) -> memoryview:
        """Return the stored bytes of one blob; bounds are those of the payload.

        Raises:
            ContentError: outside the payload.
        """
        if offset_bytes + stored_bytes > self.payload_bytes:
            raise ContentError("blob lies outside the payload")
        return self._view[offset_bytes : offset_bytes + stored_bytes]
