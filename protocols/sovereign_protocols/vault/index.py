"""Index segments: the directories of a batch of chunks, sealed and stored like a chunk.

::

    0      "SVI1" | u8 version | u8 0 | u16 0 | u32 number of chunks | u32 length of the groups
    16     groups, one per chunk: chunk id 32 | u32 sealed length | u32 n | n directory lines of 42 bytes
    ..     zero bytes up to a Padmé length, at least 4096

Blobs lie end to end, so offsets are sums and can't contradict each other.

Source: protocols/specs/index.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_crypto.chunks import padme
from sovereign_protocols.vault.blobs import BlobRecord
from sovereign_protocols.vault.container import (
    LINE_BYTES,
    MAX_PLAINTEXT_BYTES,
    MIN_PLAINTEXT_BYTES,
    decode_directory,
    is_zero,
)
from sovereign_protocols.vault.errors import ContentError

MAGIC = b"SVI1"
VERSION = 1
MAX_SEGMENT_BYTES = MAX_PLAINTEXT_BYTES

_HEADER = struct.Struct(">4sBBHII")
_GROUP = struct.Struct(">32sII")


@dataclass(frozen=True, slots=True)
class ChunkLines:
    """What one chunk holds.

    Args:
        chunk_id: 32 bytes, SHA-256 of the sealed chunk.
        sealed_bytes: length of the sealed chunk.
        lines: the chunk's directory as it stands in the container.
    """

    chunk_id: bytes
    sealed_bytes: int
    lines: bytes

    @property
    def blobs(self) -> int:
        """Number of blobs in the chunk."""
        return len(self.lines) // LINE_BYTES

    def records(self) -> list[BlobRecord]:
        """Parse the lines.

        Raises:
            ContentError: a line is not allowed.
        """
        payload_bytes = sum(
            int.from_bytes(self.lines[at + 34 : at + 38], "big") for at in range(0, len(self.lines), LINE_BYTES)
        )
        return decode_directory(self.lines, payload_bytes)


def group_bytes(chunk: ChunkLines) -> int:
    """Length of a chunk's group inside a segment."""
    return _GROUP.size + len(chunk.lines)


def split_for_segments(chunks: Sequence[ChunkLines]) -> list[list[ChunkLines]]:
    """Divide chunks into batches that each fit one segment, in order."""
    batches: list[list[ChunkLines]] = []
    room = 0
    for chunk in chunks:
        size_bytes = group_bytes(chunk)
        if not batches or size_bytes > room:
            batches.append([])
            room = MAX_SEGMENT_BYTES - _HEADER.size
        batches[-1].append(chunk)
        room -= size_bytes
    return batches


def encode_segment(chunks: Sequence[ChunkLines]) -> bytes:
    """Return the padded plaintext of a segment.

    Raises:
        ContentError: no chunk, or more than a segment holds.
    """
    parts: list[bytes] = []
    for chunk in chunks:
        parts.append(_GROUP.pack(chunk.chunk_id, chunk.sealed_bytes, chunk.blobs))
        parts.append(chunk.lines)
    body = b"".join(parts)
    used_bytes = _HEADER.size + len(body)
    if not chunks or used_bytes > MAX_SEGMENT_BYTES:
        raise ContentError("no chunks, or more than a segment holds")
    padding = bytes(padme(max(used_bytes, MIN_PLAINTEXT_BYTES)) - used_bytes)
    return _HEADER.pack(MAGIC, VERSION, 0, 0, len(chunks), len(body)) + body + padding


def decode_segment(plaintext: bytes | memoryview) -> list[ChunkLines]:
    """Parse the plaintext of a segment; the directory lines are checked by :meth:`ChunkLines.records`.

    Raises:
        ContentError: any rule of the layout is broken.
    """
    view = memoryview(plaintext)
    size_bytes = len(view)
    if not MIN_PLAINTEXT_BYTES <= size_bytes <= MAX_SEGMENT_BYTES:
        raise ContentError("segment length is not allowed")
    magic, version, zero, zero16, count, body_bytes = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or zero or zero16 or not count:
        raise ContentError("unknown segment")
    end = _HEADER.size + body_bytes
    if end > size_bytes or padme(max(end, MIN_PLAINTEXT_BYTES)) != size_bytes or not is_zero(view[end:]):
        raise ContentError("segment length or padding is wrong")
    chunks: list[ChunkLines] = []
    at = _HEADER.size
    for _ in range(count):
        if at + _GROUP.size > end:
            raise ContentError("segment ends inside a group")
        chunk_id, sealed_bytes, blobs = _GROUP.unpack_from(view, at)
        at += _GROUP.size
        lines_end = at + blobs * LINE_BYTES
        if not blobs or lines_end > end:
            raise ContentError("segment ends inside a directory")
        chunks.append(ChunkLines(chunk_id, sealed_bytes, bytes(view[at:lines_end])))
        at = lines_end
    if at != end:
        raise ContentError("segment holds bytes after its last group")
    return chunks
