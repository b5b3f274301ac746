"""What the parts of the embedded store share: its files, its one writer, and the counters that every change keeps.

Order of every write: append to the segment, sync it, commit the index. So the index never names bytes that a
crash could take away, and bytes that no index row names are free to be overwritten.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sovereign_node.chunkstore.errors import StorageError, StoreFullError, StoreInUseError
from sovereign_node.chunkstore.files import FileOperations
from sovereign_node.chunkstore.index import (
    MARKED,
    ChunkRow,
    Index,
    Transaction,
    contract_prefix,
    deletion_key,
    split_chunk_key,
)
from sovereign_node.chunkstore.segments import Location, Segments, record_bytes
from sovereign_protocols.framing import Payload

SEGMENT_BYTES: Final = 256 * 1024**2
_RESERVE_SHARE: Final = 20  # one twentieth of the disk
_RESERVE_BYTES: Final = 2 * 1024**3
_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


class Entry(NamedTuple):
    """A row of the chunk table."""

    key: bytes
    row: ChunkRow


class Engine:
    """An open store in a directory of its own.

    Args:
        directory: created if missing, private to the user.
        reserve_bytes: puts are refused when less than this would stay free on the disk;
            None means 5 % of the disk but at least 2 GiB.
        segment_bytes: size at which a segment file is closed.
        files: file operations; tests pass failing ones.

    Raises:
        StoreInUseError: another store object has the directory open.
        StoreFormatError: the directory was written by a newer version.
    """

    def __init__(
        self,
        directory: Path,
        *,
        reserve_bytes: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        files: FileOperations | None = None,
    ) -> None:
        self.files = files or FileOperations()
        self.directory = directory
        self._reserve_bytes = reserve_bytes
        self._write_lock = threading.RLock()
        self._sent_lock = threading.Lock()
        self._sent: dict[bytes, int] = {}
        self._unadvanced: list[Location] = []
        (directory / "segments").mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(directory, 0o700)
        with ExitStack() as undo:
            self._lock_descriptor = _lock_directory(directory)
            undo.callback(os.close, self._lock_descriptor)
            self.index = Index(directory / "index.lmdb", self.files)
            undo.callback(self.index.close)
            self.segments = Segments(directory / "segments", self.files, segment_bytes)
            with self.index.read() as transaction:
                ends = {number: end for number, (end, _) in self.index.segments(transaction).items()}
                self.contract_ids = {row.number: key for key, row in self.index.contracts(transaction)}
            self.segments.recover(ends)
            undo.pop_all()

    def close(self) -> None:
        """Write what is pending and release all files."""
        with self._write_lock:
            self.flush_counters()
            self.segments.close()
            self.index.close()
            os.close(self._lock_descriptor)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Hold the write lock and an index transaction that commits at the end of the block."""
        with self._write_lock:
            self._unadvanced.clear()
            try:
                with self.index.write() as transaction:
                    sent = self._apply_sent(transaction)
                    yield transaction
            except OSError as error:
                if error.errno in _FULL_ERRNOS:
                    raise StoreFullError("no room on the disk") from error
                raise StorageError("the disk failed") from error
            self.segments.advance(self._unadvanced)
            self._settle_sent(sent)

    def append(self, transaction: Transaction, chunks: Sequence[tuple[bytes, Payload]]) -> list[Location]:
        """Write chunks durably to the active segment and count them there; keys as `chunk_key` makes them."""
        if not chunks:
            return []
        by_id = [
            (self.contract_ids[split_chunk_key(key)[0]], split_chunk_key(key)[1], payload)
            for key, payload in chunks
        ]
        locations = self.segments.append(by_id)
        self._unadvanced.extend(locations)
        last = locations[-1]
        self.index.change_segment(
            transaction,
            last.segment,
            end=last.offset + last.size,
            live=sum(record_bytes(location.size) for location in locations),
        )
        return locations

    def prefix(self, contract_id: bytes) -> bytes:
        """Return what the keys of a contract begin with."""
        with self.index.read() as transaction:
            return contract_prefix(self.index.contract(transaction, contract_id).number)

    def quarantine(self, entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
        """Take rotten chunks out of service and return their (contract id, chunk id)."""
        taken = []
        if entries:
            with self.writing() as transaction:
                for entry in entries:
                    row = self.index.chunk(transaction, entry.key)
                    if row is not None and row.location == entry.row.location:
                        self.remove_chunk(transaction, entry.key, row)
                        self.index.put(transaction, "rotten", entry.key, b"")
                        number, chunk_id = split_chunk_key(entry.key)
                        taken.append((self.contract_ids[number], chunk_id))
        return taken

    def flush_counters(self) -> None:
        """Write counters that are still in memory, and give up memory that is idle; to be called now and then."""
        self.segments.release_buffers()
        if self._sent:
            with self.writing():
                pass

    def remove_chunk(self, transaction: Transaction, key: bytes, row: ChunkRow) -> None:
        """Take a chunk out of the index and out of all counters."""
        size = row.location.size
        contract_id = self.contract_ids[split_chunk_key(key)[0]]
        contract = self.index.contract(transaction, contract_id)
        contract.chunks -= 1
        contract.size_bytes -= size
        if row.state == MARKED:
            contract.marked_chunks -= 1
            contract.marked_bytes -= size
            self.index.delete(transaction, "deletions", deletion_key(row.delete_after_at, key))
        self.index.put_contract(transaction, contract_id, contract)
        self.index.delete(transaction, "chunks", key)
        self.index.change_segment(transaction, row.location.segment, live=-record_bytes(size))

    def check_reserve(self, size_bytes: int) -> None:
        """Refuse to write `size_bytes` if the disk's reserve would be touched.

        Raises:
            StoreFullError: it would.
            StorageError: the disk cannot be asked.
        """
        try:
            total, free = self.files.disk_space(self.directory)
        except OSError as error:
            raise StorageError("the disk failed") from error
        reserve = self._reserve_bytes
        if reserve is None:
            reserve = max(total // _RESERVE_SHARE, _RESERVE_BYTES)
        if free - size_bytes < reserve:
            raise StoreFullError("the disk's reserve would be touched")

    def _apply_sent(self, transaction: Transaction) -> dict[bytes, int]:
        with self._sent_lock:
            sent = dict(self._sent)
        for contract_id, size_bytes in sent.items():
            if self.index.get(transaction, "contracts", contract_id) is not None:
                row = self.index.contract(transaction, contract_id)
                row.sent_bytes += size_bytes
                self.index.put_contract(transaction, contract_id, row)
        return sent

    def _settle_sent(self, sent: dict[bytes, int]) -> None:
        with self._sent_lock:
            for contract_id, size_bytes in sent.items():
                self._sent[contract_id] -= size_bytes
                if not self._sent[contract_id]:
                    del self._sent[contract_id]


def _lock_directory(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreInUseError(str(directory)) from error
    return descriptor
