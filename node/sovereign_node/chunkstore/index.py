"""The index of a store: LMDB tables, their keys and rows.

    table       key                                    row
    meta        "version"                              u32
    contracts   contract id 32                         ContractRow
    chunks      contract number u32 | chunk id 32      ChunkRow
    deletions   delete_after u64 | number u32 | id 32  empty
    rotten      number u32 | chunk id 32               empty
    segments    segment number u32                     end u64 | live bytes u64
    heads       number u32 | locator 32 | device 32    head
    recovery    locator 32 | contract id 32            revision u64 | key length u8 | announce key | sealed
    identities  identity id 32                         entries, each with a u32 length before it

All integers are big-endian, so that keys sort by value. Contracts have a short number because a chunk key of
36 bytes instead of 64 keeps a third more entries in a page.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from sovereign_node.chunkstore.errors import (
    StorageError,
    StoreFormatError,
    StoreFullError,
    UnknownContractError,
)
from sovereign_node.chunkstore.files import FileOperations
from sovereign_node.chunkstore.segments import Location

VERSION: Final = 1
LIVE: Final = 0
MARKED: Final = 1
_TABLES: Final = (
    "meta", "contracts", "chunks", "deletions", "rotten", "segments", "heads", "recovery", "identities",
)  # fmt: skip
# Address space, not memory or disk: enough for 100 million chunks.
_MAP_BYTES: Final = 16 * 1024**3
_U32: Final = struct.Struct(">I")
_CHUNK: Final = struct.Struct(">IQIBQ")
_SEGMENT: Final = struct.Struct(">QQ")
_CONTRACT: Final = struct.Struct(">I9Q")
_DELETION: Final = struct.Struct(">Q36s")

Transaction = Any  # lmdb.Transaction: the package has no types


@dataclass(slots=True)
class ContractRow:
    """Counters of one contract; `number` is its short name inside this index."""

    number: int
    quota_bytes: int = 0
    chunks: int = 0
    size_bytes: int = 0
    marked_chunks: int = 0
    marked_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    heads: int = 0
    recoveries: int = 0


class ChunkRow(NamedTuple):
    """Where a chunk is and whether it is marked for removal."""

    location: Location
    state: int
    delete_after_at: int


class Index:
    """Opens the tables and reads and writes typed rows inside a caller's transaction.

    Args:
        path: the index file.
        files: file operations, for commits.
    """

    def __init__(self, path: Path, files: FileOperations) -> None:
        self._files = files
        self._environment = _open_environment(path)
        found = self._read_version()
        if found not in (None, VERSION):
            self._environment.close()
            raise StoreFormatError(f"the store has format {found}, this program knows {VERSION}")
        self._tables = {name: self._environment.open_db(name.encode()) for name in _TABLES}
        if found is None:
            with self.write() as transaction:
                self.put(transaction, "meta", b"version", _U32.pack(VERSION))

    def _read_version(self) -> int | None:
        """Return the format of the tables, None if they are new or their creation was interrupted."""
        try:
            self._tables = {"meta": self._environment.open_db(b"meta", create=False)}
        except lmdb.NotFoundError:
            return None
        with self.read() as transaction:
            row = self.get(transaction, "meta", b"version")
        return None if row is None else int(_U32.unpack(row)[0])

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a read transaction: a stable view, keep it short.

        Raises:
            StorageError: the index cannot be read.
        """
        try:
            with self._environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StorageError("the index failed") from error

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open the write transaction; it commits durably at the end of the block or changes nothing.

        Raises:
            StoreFullError: no room for the index.
            StorageError: the disk failed.
        """
        try:
            transaction = self._environment.begin(write=True)
            try:
                yield transaction
                self._files.commit(transaction)
            except BaseException:
                transaction.abort()
                raise
        except (lmdb.MapFullError, lmdb.DiskError, lmdb.TxnFullError) as error:
            raise StoreFullError("no room for the index") from error
        except lmdb.Error as error:
            raise StorageError("the index failed") from error

    def close(self) -> None:
        """Release the file."""
        self._environment.close()

    # --- raw rows --------------------------------------------------------------------------------------------

    def get(self, transaction: Transaction, table: str, key: bytes) -> bytes | None:
        """Return a row."""
        row: bytes | None = transaction.get(key, db=self._tables[table])
        return row

    def put(self, transaction: Transaction, table: str, key: bytes, row: bytes) -> None:
        """Write a row."""
        transaction.put(key, row, db=self._tables[table])

    def delete(self, transaction: Transaction, table: str, key: bytes) -> bool:
        """Remove a row and tell whether it was there."""
        return bool(transaction.delete(key, db=self._tables[table]))

    def scan(
        self, transaction: Transaction, table: str, prefix: bytes, after: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, row) for keys that begin with `prefix` and come behind the key `after`."""
        cursor = transaction.cursor(db=self._tables[table])
        start = max(prefix, after)
        found = cursor.set_range(start) if start else cursor.first()
        if found and after and cursor.key() == after:
            found = cursor.next()
        while found and cursor.key().startswith(prefix):
            yield cursor.key(), cursor.value()
            found = cursor.next()

    def count(self, transaction: Transaction, table: str) -> int:
        """Return the number of rows of a table."""
        return int(transaction.stat(db=self._tables[table])["entries"])

    # --- typed rows ------------------------------------------------------------------------------------------

    def contract(self, transaction: Transaction, contract_id: bytes) -> ContractRow:
        """Return the counters of a contract.

        Raises:
            UnknownContractError: no such contract.
        """
        row = self.get(transaction, "contracts", contract_id)
        if row is None:
            raise UnknownContractError(contract_id.hex())
        return ContractRow(*_CONTRACT.unpack(row))

    def put_contract(self, transaction: Transaction, contract_id: bytes, row: ContractRow) -> None:
        """Write the counters of a contract."""
        self.put(transaction, "contracts", contract_id, _CONTRACT.pack(*astuple(row)))

    def contracts(self, transaction: Transaction) -> Iterator[tuple[bytes, ContractRow]]:
        """Yield every contract."""
        for key, row in self.scan(transaction, "contracts", b""):
            yield key, ContractRow(*_CONTRACT.unpack(row))

    def chunk(self, transaction: Transaction, key: bytes) -> ChunkRow | None:
        """Return the row of the chunk with this key (see `chunk_key`)."""
        row = self.get(transaction, "chunks", key)
        return None if row is None else decode_chunk(row)

    def put_chunk(self, transaction: Transaction, key: bytes, row: ChunkRow) -> None:
        """Write a chunk's row."""
        self.put(transaction, "chunks", key, _CHUNK.pack(*row.location, row.state, row.delete_after_at))

    def segment(self, transaction: Transaction, segment: int) -> tuple[int, int]:
        """Return (committed end, live bytes) of a segment, zeros if it is new."""
        row = self.get(transaction, "segments", _U32.pack(segment))
        return _SEGMENT.unpack(row) if row else (0, 0)

    def segments(self, transaction: Transaction) -> dict[int, tuple[int, int]]:
        """Return (committed end, live bytes) of all segments."""
        return {_U32.unpack(key)[0]: _SEGMENT.unpack(row) for key, row in self.scan(transaction, "segments", b"")}

    def change_segment(self, transaction: Transaction, segment: int, *, end: int = 0, live: int = 0) -> None:
        """Raise a segment's end to `end` and add `live` (may be negative) to its live bytes."""
        old_end, old_live = self.segment(transaction, segment)
        self.put(transaction, "segments", _U32.pack(segment), _SEGMENT.pack(max(old_end, end), old_live + live))

    def drop_segment(self, transaction: Transaction, segment: int) -> None:
        """Forget a segment."""
        self.delete(transaction, "segments", _U32.pack(segment))


def _open_environment(path: Path) -> Any:
    try:
        # Without read-ahead only pages that are used become resident.
        return lmdb.open(
            str(path), subdir=False, map_size=_MAP_BYTES, max_dbs=len(_TABLES), max_readers=512, readahead=False,
            mode=0o600,
        )  # fmt: skip
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        raise StoreFormatError("the index is not one of a chunk store") from error
    except lmdb.Error as error:
        raise StorageError("the index cannot be opened") from error


def chunk_key(number: int, chunk_id: bytes) -> bytes:
    """Return the key of a chunk in `chunks` and `rotten`."""
    return _U32.pack(number) + chunk_id


def contract_prefix(number: int) -> bytes:
    """Return what every key of a contract's chunks and heads begins with."""
    return _U32.pack(number)


def split_chunk_key(key: bytes) -> tuple[int, bytes]:
    """Return (contract number, chunk id)."""
    return _U32.unpack_from(key)[0], key[4:]


def deletion_key(delete_after_at: int, key: bytes) -> bytes:
    """Return the key in `deletions` of a marked chunk."""
    return _DELETION.pack(delete_after_at, key)


def split_deletion_key(key: bytes) -> tuple[int, bytes]:
    """Return (delete_after_at, chunk key)."""
    delete_after_at, chunk = _DELETION.unpack(key)
    return delete_after_at, chunk


def decode_chunk(row: bytes) -> ChunkRow:
    """Return the row of a chunk."""
    segment, offset, size, state, delete_after_at = _CHUNK.unpack(row)
    return ChunkRow(Location(segment, offset, size), state, delete_after_at)
