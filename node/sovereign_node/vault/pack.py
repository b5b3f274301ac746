"""Filling containers: blobs in, sealed chunks out. Everything here runs in worker threads."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sovereign_protocols.vault.blobs import BlobEncoder, BlobRecord, BlobType
from sovereign_protocols.vault.container import encode_container, encode_directory, fits
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.sealing import ProjectSealer

# The order of blobs in a chunk must not tell the order of files; the system's randomness can't be guessed.
_shuffle = random.SystemRandom().shuffle


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
    _shuffle(blobs)
    chunk_id, sealed = sealer.seal_chunk(encode_container(blobs))
    lines = encode_directory([record for record, _ in blobs])
    return SealedChunk(chunk_id, sealed, ChunkLines(chunk_id, len(sealed), lines))
