"""The local index: blob id -> place, kept in LMDB and always rebuildable from the stored segments.

It is also the journal of a running backup: chunks that a target has acknowledged are entered as *pending* and count
as stored for the next run, even when this one is killed before its head is written.
"""

from __future__ import annotations

import shutil
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lmdb

from sovereign_protocols.vault.blobs import BlobRecord, BlobType, Codec
from sovereign_protocols.vault.container import LINE_BYTES
from sovereign_protocols.vault.index import ChunkLines

# Address space, not disk: LMDB grows the file as needed.
_MAP_BYTES = 1 << 37
_PLACE = struct.Struct(">IIIIBB")
_REST = struct.Struct(">IIIBB")
_LINE = struct.Struct(">32sBBII")
_NUMBER = struct.Struct(">I")
_TYPES = {int(item): item for item in BlobType}
_CODECS = {int(item): item for item in Codec}


class Place(NamedTuple):
    """Where a blob lies.

    Args:
        chunk: local number of the chunk.
        offset_bytes: start inside the container's payload.
        record: the blob's directory line.
    """

    chunk: int
    offset_bytes: int
    record: BlobRecord


class LocalIndex:
    """Blobs, chunks and segments of one project, with small caches beside them; safe to use from any thread.

    Args:
        folder: created when missing; only this process may use it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._environment = _open(folder)
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError):
            # Everything here can be rebuilt from what the targets hold.
            shutil.rmtree(folder)
            self._environment = _open(folder)
        self._blobs = self._environment.open_db(b"blobs")
        self._chunks = self._environment.open_db(b"chunks")
        self._numbers = self._environment.open_db(b"numbers")
        self._pending = self._environment.open_db(b"pending")
        self._segments = self._environment.open_db(b"segments")
        self._cache = self._environment.open_db(b"cache")
        self._folders = self._environment.open_db(b"folders")
        self._write_lock = threading.Lock()

    def close(self) -> None:
        """Close the files."""
        self._environment.close()

    # Blobs

    def known(self, ids: Iterable[bytes]) -> set[bytes]:
        """Return those of ``ids`` that are in the index."""
        with self._environment.begin(db=self._blobs, buffers=True) as transaction:
            get = transaction.get
            return {blob_id for blob_id in ids if get(blob_id) is not None}

    def find(self, ids: Iterable[bytes]) -> dict[bytes, Place]:
        """Return the places of those of ``ids`` that are in the index."""
        found: dict[bytes, Place] = {}
        with self._environment.begin(db=self._blobs) as transaction:
            for blob_id in ids:
                value = transaction.get(blob_id)
                if value is not None:
                    chunk, offset, stored, raw, kind, codec = _PLACE.unpack(value)
                    found[blob_id] = Place(
                        chunk, offset, BlobRecord(blob_id, _TYPES[kind], _CODECS[codec], stored, raw)
                    )
        return found

    def blob_count(self) -> int:
        """Number of blobs."""
        with self._environment.begin() as transaction:
            return int(transaction.stat(self._blobs)["entries"])

    # Chunks

    def chunk_id(self, number: int) -> bytes:
        """Return the id of a chunk by its local number."""
        with self._environment.begin(db=self._chunks) as transaction:
            value = transaction.get(_NUMBER.pack(number))
            assert value is not None
            return bytes(value[:32])

    def chunk_lines(self, number: int) -> ChunkLines:
        """Return what a chunk holds, by its local number."""
        with self._environment.begin(db=self._chunks) as transaction:
            value = transaction.get(_NUMBER.pack(number))
            assert value is not None
            return _chunk_lines(value)

    def chunks(self, batch: int = 1024) -> Iterator[list[tuple[int, ChunkLines]]]:
        """Yield all chunks with their local numbers, in batches, in the order in which they became known."""
        start = 0
        while True:
            with self._environment.begin(db=self._chunks) as transaction, transaction.cursor() as cursor:
                rows: list[tuple[int, ChunkLines]] = []
                found = cursor.set_range(_NUMBER.pack(start))
                while found and len(rows) < batch:
                    number = _NUMBER.unpack(cursor.key())[0]
                    rows.append((number, _chunk_lines(cursor.value())))
                    found = cursor.next()
            if not rows:
                return
            yield rows
            start = rows[-1][0] + 1

    def chunk_count(self) -> int:
        """Number of chunks."""
        with self._environment.begin() as transaction:
            return int(transaction.stat(self._chunks)["entries"])

    def has_chunk(self, chunk_id: bytes) -> bool:
        """Whether a chunk is known."""
        with self._environment.begin(db=self._numbers) as transaction:
            return transaction.get(chunk_id) is not None

    def add_pending(self, chunks: Sequence[ChunkLines]) -> None:
        """Enter chunks that are stored, but that no head refers to yet; durable on return."""
        with self._write_lock, self._environment.begin(write=True) as transaction:
            for number in self._add(transaction, chunks):
                transaction.put(_NUMBER.pack(number), b"", db=self._pending)

    def pending(self) -> list[ChunkLines]:
        """Return the chunks that no head refers to yet."""
        with self._environment.begin() as transaction, transaction.cursor(self._pending) as cursor:
            keys = [bytes(key) for key in cursor.iternext(values=False)]
            values = [transaction.get(key, db=self._chunks) for key in keys]
        return [_chunk_lines(value) for value in values if value is not None]

    def has_pending(self) -> bool:
        """Whether there are chunks that no head refers to yet."""
        with self._environment.begin() as transaction:
            return bool(transaction.stat(self._pending)["entries"])

    def drop_chunks(self, ids: Iterable[bytes]) -> None:
        """Forget chunks; their blobs stay known where another chunk holds a copy."""
        with self._write_lock, self._environment.begin(write=True) as transaction:
            for chunk_id in ids:
                key = transaction.pop(chunk_id, db=self._numbers)
                if key is None:
                    continue
                value = transaction.pop(bytes(key), db=self._chunks)
                transaction.delete(bytes(key), db=self._pending)
                if value is None:
                    continue
                for at in range(36, len(value), LINE_BYTES):
                    blob_id = bytes(value[at : at + 32])
                    place = transaction.get(blob_id, db=self._blobs)
                    if place is not None and place[:4] == key:
                        transaction.delete(blob_id, db=self._blobs)
            with transaction.cursor(self._chunks) as cursor:
                for number, value in cursor.iternext():
                    self._put_blobs(transaction, bytes(number), bytes(value[36:]))

    # Segments

    def segments(self) -> dict[bytes, list[int]]:
        """Return the loaded segments with the numbers of their chunks."""
        with self._environment.begin(db=self._segments) as transaction, transaction.cursor() as cursor:
            return {
                bytes(key): [item[0] for item in _NUMBER.iter_unpack(value)] for key, value in cursor.iternext()
            }

    def add_segment(self, segment_id: bytes, chunks: Sequence[ChunkLines]) -> None:
        """Enter a segment and its chunks, which are pending no more."""
        with self._write_lock, self._environment.begin(write=True) as transaction:
            numbers = self._add(transaction, chunks)
            for number in numbers:
                transaction.delete(_NUMBER.pack(number), db=self._pending)
            transaction.put(segment_id, b"".join(map(_NUMBER.pack, numbers)), db=self._segments)

    def release_segments(self, ids: Iterable[bytes]) -> None:
        """Forget that segments were loaded; chunks that no other loaded segment lists become pending."""
        with self._write_lock, self._environment.begin(write=True) as transaction:
            released: set[bytes] = set()
            for segment_id in ids:
                released.update(_keys(transaction.pop(segment_id, db=self._segments) or b""))
            if not released:
                return
            with transaction.cursor(self._segments) as cursor:
                for _, value in cursor.iternext():
                    released.difference_update(_keys(bytes(value)))
            for key in released:
                if transaction.get(key, db=self._chunks) is not None:
                    transaction.put(key, b"", db=self._pending)

    def segment_chunks(self, ids: Iterable[bytes]) -> list[ChunkLines]:
        """Return the chunks of loaded segments, each once."""
        with self._environment.begin() as transaction:
            keys: dict[bytes, None] = {}
            for segment_id in ids:
                keys.update(dict.fromkeys(_keys(transaction.get(segment_id, db=self._segments) or b"")))
            values = [transaction.get(key, db=self._chunks) for key in keys]
        return [_chunk_lines(value) for value in values if value is not None]

    def clear(self, *, keep_pending: bool = True) -> None:
        """Forget everything but, if wanted, the chunks that no head refers to yet."""
        pending = self.pending() if keep_pending else []
        with self._write_lock, self._environment.begin(write=True) as transaction:
            for database in (self._blobs, self._chunks, self._numbers, self._pending, self._segments):
                transaction.drop(database, delete=False)
            for database in (self._cache, self._folders):
                transaction.drop(database, delete=False)
        self.add_pending(pending)

    # Small caches

    def cached(self, key: bytes) -> bytes | None:
        """Return a small value; everything here may be thrown away."""
        with self._environment.begin(db=self._cache) as transaction:
            return transaction.get(key)

    def cache(self, key: bytes, value: bytes) -> None:
        """Keep a small value."""
        with self._write_lock, self._environment.begin(db=self._cache, write=True) as transaction:
            transaction.put(key, value)

    def folder(self, key: bytes) -> bytes | None:
        """Return what is remembered of a scanned folder."""
        with self._environment.begin(db=self._folders) as transaction:
            return transaction.get(key)

    def put_folders(self, changed: dict[bytes, bytes]) -> None:
        """Remember scanned folders."""
        with self._write_lock, self._environment.begin(db=self._folders, write=True) as transaction:
            for key, value in changed.items():
                transaction.put(key, value)

    def keep_folders(self, keep: set[bytes]) -> None:
        """Drop remembered folders that are not in ``keep``."""
        with self._write_lock, self._environment.begin(db=self._folders, write=True) as transaction:
            with transaction.cursor() as cursor:
                stale = [bytes(key) for key in cursor.iternext(values=False) if bytes(key) not in keep]
            for key in stale:
                transaction.delete(key)

    def folder_count(self) -> int:
        """Number of remembered folders."""
        with self._environment.begin() as transaction:
            return int(transaction.stat(self._folders)["entries"])

    def _add(self, transaction: lmdb.Transaction, chunks: Sequence[ChunkLines]) -> list[int]:
        numbers: list[int] = []
        for chunk in chunks:
            known = transaction.get(chunk.chunk_id, db=self._numbers)
            if known is not None:
                numbers.append(_NUMBER.unpack(known)[0])
                continue
            number = self._next_number(transaction)
            key = _NUMBER.pack(number)
            transaction.put(chunk.chunk_id, key, db=self._numbers)
            transaction.put(
                key, chunk.chunk_id + _NUMBER.pack(chunk.sealed_bytes) + chunk.lines, db=self._chunks, append=True
            )
            self._put_blobs(transaction, key, chunk.lines)
            numbers.append(number)
        return numbers

    def _put_blobs(self, transaction: lmdb.Transaction, key: bytes, lines: bytes) -> None:
        offset = 0
        for blob_id, kind, codec, stored, raw in _LINE.iter_unpack(lines):
            # The first place stays: a later copy of a blob is the one that a repack removes.
            place = key + _REST.pack(offset, stored, raw, kind, codec)
            transaction.put(blob_id, place, db=self._blobs, overwrite=False)
            offset += stored

    def _next_number(self, transaction: lmdb.Transaction) -> int:
        with transaction.cursor(self._chunks) as cursor:
            return int(_NUMBER.unpack(cursor.key())[0]) + 1 if cursor.last() else 0


def _open(folder: Path) -> lmdb.Environment:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Without metasync a crash of the system may lose the last commit, never more.
    return lmdb.open(str(folder), map_size=_MAP_BYTES, max_dbs=8, metasync=False, mode=0o600, max_readers=256)


def _keys(value: bytes) -> list[bytes]:
    return [value[at : at + _NUMBER.size] for at in range(0, len(value), _NUMBER.size)]


def _chunk_lines(value: bytes) -> ChunkLines:
    return ChunkLines(bytes(value[:32]), int.from_bytes(value[32:36], "big"), bytes(value[36:]))
