"""Filling containers: blobs in, sealed chunks out. Everything here runs in worker threads."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_protocols.vault.blobs import BlobEncoder, BlobRecord, BlobType
from sovereign_protocols.vault.container import LINE_BYTES, encode_container, fits
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.sealing import ProjectSealer


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """A chunk on its way to the targets.

    Args:
        chunk_id: 32 bytes.
        sealed: its bytes; nobody changes them.
        lines: what the index will say about it; ``None`` for an index segment.
    """

    chunk_id: bytes
    sealed: bytes | bytearray
    lines: ChunkLines | None


class Packer:
    """One open container; one packer per thread and per kind of data.

    Args:
        sealer: the project's sealer.
        level: zstd level.
    """

    def __init__(self, sealer: ProjectSealer, level: int) -> None:
        self._sealer = sealer
        self._encoder = BlobEncoder(level)
        self._blobs: list[tuple[BlobRecord, bytes | memoryview]] = []
        self._payload_bytes = 0
        self._full: list[list[tuple[BlobRecord, bytes | memoryview]]] = []
        self.stored_bytes = 0

    def add(self, blob_id: bytes, kind: BlobType, raw: bytes | memoryview) -> int:
        """Compress and lay down one blob; return its stored length."""
        codec, stored = self._encoder.encode(raw)
        self.add_stored(BlobRecord(blob_id, kind, codec, len(stored), len(raw)), stored)
        return len(stored)

    def add_many(self, kind: BlobType, blobs: Sequence[tuple[bytes, bytes | memoryview]]) -> int:
        """Do :meth:`add` for some MiB of blobs, given as id and raw bytes; return their stored length."""
        before = self.stored_bytes
        encoded = self._encoder.encode_many([raw for _, raw in blobs])
        for (blob_id, raw), (codec, stored) in zip(blobs, encoded, strict=True):
            self.add_stored(BlobRecord(blob_id, kind, codec, len(stored), len(raw)), stored)
        return self.stored_bytes - before

    def add_stored(self, record: BlobRecord, stored: bytes | memoryview) -> None:
        """Lay down a blob that is encoded already."""
        if not fits(self._payload_bytes, len(self._blobs), record.stored_bytes):
            self.close()
        self._blobs.append((record, stored))
        self._payload_bytes += record.stored_bytes
        self.stored_bytes += record.stored_bytes

    def close(self) -> None:
        """End the open container, full or not."""
        if self._blobs:
            self._full.append(self._blobs)
            self._blobs = []
            self._payload_bytes = 0

    @property
    def has_open(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._blobs or self._full)

    def own_open(self) -> None:
        """Copy views of larger buffers in the open container, so that it does not keep those alive."""
        self._blobs = [
            (record, bytes(stored) if isinstance(stored, memoryview) else stored) for record, stored in self._blobs
        ]

    def take_full(self) -> list[list[tuple[BlobRecord, bytes | memoryview]]]:
        """Return the ended containers, not yet sealed, and forget them."""
        full, self._full = self._full, []
        return full


def seal_container(sealer: ProjectSealer, blobs: list[tuple[BlobRecord, bytes | memoryview]]) -> SealedChunk:
    """Shuffle, lay out, seal and hash one container."""
    plaintext = encode_container(_shuffled(blobs))
    chunk_id, sealed = sealer.seal_chunk(plaintext)
    start = sum(record.stored_bytes for record, _ in blobs)
    lines = plaintext[start : start + len(blobs) * LINE_BYTES]
    return SealedChunk(chunk_id, sealed, ChunkLines(chunk_id, len(sealed), lines))


def _shuffled(blobs: list[tuple[BlobRecord, bytes | memoryview]]) -> list[tuple[BlobRecord, bytes | memoryview]]:
    """Return blobs in an order that tells nothing of that of files; the system's randomness can't be guessed."""
    keys = struct.unpack(f"{len(blobs)}Q", os.urandom(8 * len(blobs)))
    return [blobs[number] for number in sorted(range(len(blobs)), key=keys.__getitem__)]
