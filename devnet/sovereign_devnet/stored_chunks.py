"""Chunks in the segment files of a provider, read and damaged on disk behind the back of its node."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign_devnet.errors import DevnetError
from sovereign_node.chunkstore.segments import FILE_HEADER, RECORD_HEADER, RECORD_HEADER_BYTES, RECORD_MAGIC


@dataclass(frozen=True)
class StoredChunk:
    """A chunk as it lies in a segment file.

    Args:
        chunk_id: 32 bytes.
        contract_id: 32 bytes.
        path: segment file.
        offset: of the sealed bytes.
        size_bytes: of the sealed bytes.
    """

    chunk_id: bytes
    contract_id: bytes
    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """Return the sealed bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size_bytes)

    @property
    def is_sound(self) -> bool:
        """True while the bytes have the hash that names them."""
        return hashlib.sha256(self.read()).digest() == self.chunk_id


def stored_chunks(chunks_dir: Path) -> Iterator[StoredChunk]:
    """Yield what the segment files below the chunk directory of a data directory hold, in order.

    What follows the last whole record of a file is left out: it belongs to a write under way or cut off.
    """
    for path in sorted((chunks_dir / "segments").glob("*.seg")):
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            at = FILE_HEADER.size
            while at + RECORD_HEADER_BYTES <= end:
                file.seek(at)
                header = file.read(RECORD_HEADER_BYTES)
                magic, size, contract_id, chunk_id = RECORD_HEADER.unpack_from(header)
                crc = int.from_bytes(header[RECORD_HEADER.size : RECORD_HEADER.size + 4], "big")
                at += RECORD_HEADER_BYTES
                if magic != RECORD_MAGIC or crc != zlib.crc32(header[: RECORD_HEADER.size]) or at + size > end:
                    break
                yield StoredChunk(chunk_id, contract_id, path, at, size)
                at += size


def corrupt_chunk(chunks_dir: Path, prefix: str = "") -> StoredChunk:
    """Flip bytes in the middle of a stored chunk.

    Args:
        chunks_dir: chunk directory of a data directory.
        prefix: beginning of the chunk's id in hex; the largest sound chunk if empty.

    Returns:
        The chunk that is damaged now.

    Raises:
        DevnetError: there is no such chunk.
    """
    found = [item for item in stored_chunks(chunks_dir) if item.chunk_id.hex().startswith(prefix.lower())]
    sound = [item for item in found if item.is_sound]
    if not sound:
        named = f"sound chunk that begins with {prefix}" if prefix else "sound chunk"
        raise DevnetError(f"there is no {named} below {chunks_dir}")
    chunk = max(sound, key=lambda item: item.size_bytes)
    at = chunk.offset + chunk.size_bytes // 2
    with chunk.path.open("r+b") as file:
        file.seek(at)
        rotten = bytes(byte ^ 0xFF for byte in file.read(3))
        file.seek(at)
        file.write(rotten)
        file.flush()
        os.fsync(file.fileno())
    return chunk
