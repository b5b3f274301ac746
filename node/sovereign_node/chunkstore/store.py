"""The embedded chunk store: append-only segment files with an LMDB index."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from sovereign_node.chunkstore import maintenance, records
from sovereign_node.chunkstore.batches import Batch, BatchQueue
from sovereign_node.chunkstore.engine import Engine, Entry
from sovereign_node.chunkstore.errors import ContentMismatchError, UnknownContractError
from sovereign_node.chunkstore.index import (
    LIVE,
    MARKED,
    ChunkRow,
    ContractRow,
    Transaction,
    chunk_key,
    decode_chunk,
    deletion_key,
    split_chunk_key,
    split_deletion_key,
)
from sovereign_node.chunkstore.interface import (
    ChunkStore,
    PurgeReport,
    PutOutcome,
    RecoveryRecord,
    ScrubReport,
    Sealed,
    Stored,
    StoreStatistics,
    Usage,
)
from sovereign_protocols.framing import Payload

_PAGE_IDS: Final = 1_000
_DROP_STEP: Final = 10_000


class LogChunkStore(Engine, ChunkStore):
    """A chunk store in a directory of its own; see `Engine` for how it is opened."""

    # --- contracts -------------------------------------------------------------------------------------------

    def set_quota(self, contract_id: bytes, quota_bytes: int) -> None:
        """Create the contract or change its quota."""
        with self.writing() as transaction:
            try:
                row = self.index.contract(transaction, contract_id)
            except UnknownContractError:
                row = ContractRow(number=1 + max(self.contract_ids, default=0))
            row.quota_bytes = quota_bytes
            self.index.put_contract(transaction, contract_id, row)
        self.contract_ids[row.number] = contract_id

    def contracts(self) -> list[bytes]:
        """Return the ids of all contracts."""
        with self.index.read() as transaction:
            return [contract_id for contract_id, _ in self.index.contracts(transaction)]

    def usage(self, contract_id: bytes) -> Usage:
        """Return the counters of one contract in O(1)."""
        with self._sent_lock, self.index.read() as transaction:
            row = self.index.contract(transaction, contract_id)
            sent_bytes = row.sent_bytes + self._sent.get(contract_id, 0)
        return Usage(
            quota_bytes=row.quota_bytes,
            chunks=row.chunks,
            size_bytes=row.size_bytes,
            marked_chunks=row.marked_chunks,
            marked_bytes=row.marked_bytes,
            received_bytes=row.received_bytes,
            sent_bytes=sent_bytes,
        )

    def drop_contract(self, contract_id: bytes) -> PurgeReport:
        """Remove a contract with everything in it, in steps; after a crash it can be repeated."""
        removed = size_bytes = 0
        prefix = self.prefix(contract_id)
        while True:
            with self.writing() as transaction:
                rows = self._first_keys(transaction, "chunks", prefix)
                for key in rows:
                    row = self.index.chunk(transaction, key)
                    assert row is not None
                    self.remove_chunk(transaction, key, row)
                    removed += 1
                    size_bytes += row.location.size
                if rows:
                    continue
                for table in ("rotten", "heads"):
                    for key in [key for key, _ in self.index.scan(transaction, table, prefix)]:
                        self.index.delete(transaction, table, key)
                for key in [key for key, _ in self.index.scan(transaction, "recovery", b"")]:
                    if key[32:] == contract_id:
                        self.index.delete(transaction, "recovery", key)
                number = self.index.contract(transaction, contract_id).number
                self.index.delete(transaction, "contracts", contract_id)
            del self.contract_ids[number]
            return PurgeReport(removed, size_bytes)

    def statistics(self) -> StoreStatistics:
        """Return totals, O(contracts + segments)."""
        with self.index.read() as transaction:
            rows = [row for _, row in self.index.contracts(transaction)]
            segments = self.index.segments(transaction)
            quarantined = self.index.count(transaction, "rotten")
        return StoreStatistics(
            contracts=len(rows),
            chunks=sum(row.chunks for row in rows),
            size_bytes=sum(row.size_bytes for row in rows),
            segments=len(segments),
            segment_bytes=sum(end for end, _ in segments.values()),
            quarantined=quarantined,
            disk_free_bytes=self.files.disk_space(self.directory)[1],
        )

    # --- chunks ----------------------------------------------------------------------------------------------

    def put_many(
        self, contract_id: bytes, items: Sequence[tuple[bytes, Sealed]], *, verified: bool = False
    ) -> list[PutOutcome]:
        """Store a batch durably with at most one sync of the data and one commit of the index."""
        payloads = [(chunk_id, as_payload(sealed)) for chunk_id, sealed in items]
        if not verified:
            for chunk_id, payload in payloads:
                if payload.sha256() != chunk_id:
                    raise ContentMismatchError(chunk_id)
        self._drop_rotten(contract_id, [chunk_id for chunk_id, _ in payloads])
        return self._batches.put(Batch(contract_id, payloads))

    @cached_property
    def _batches(self) -> BatchQueue:
        return BatchQueue(self._write_lock, self._put_batches)

    def _put_batches(self, batches: Sequence[Batch]) -> None:
        self.check_reserve(sum(batch.size_bytes for batch in batches))
        new: dict[bytes, Payload] = {}
        outcomes = []
        with self.writing() as transaction:
            for batch in batches:
                contract = self.index.contract(transaction, batch.contract_id)
                keyed = [(chunk_key(contract.number, chunk_id), payload) for chunk_id, payload in batch.payloads]
                outcomes.append([self._admit(transaction, contract, *item, new) for item in keyed])
                self.index.put_contract(transaction, batch.contract_id, contract)
            for (key, _), location in zip(new.items(), self.append(transaction, list(new.items())), strict=True):
                self.index.put_chunk(transaction, key, ChunkRow(location, LIVE, 0))
                self.index.delete(transaction, "rotten", key)
        for batch, found in zip(batches, outcomes, strict=True):
            batch.outcomes = found

    def has(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[bool]:
        """Tell for each id whether a live chunk is there."""
        rows = self._rows(contract_id, chunk_ids)
        return [row is not None and row.state == LIVE for row in rows]

    def sizes(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[int | None]:
        """Return the sealed size of each readable chunk, None for others."""
        return [None if row is None else row.location.size for row in self._rows(contract_id, chunk_ids)]

    def get(self, contract_id: bytes, chunk_id: bytes) -> bytes | None:
        """Return the sealed bytes of a readable chunk, not verified, or None."""
        data = self.get_many(contract_id, [chunk_id])[0][1]
        return None if data is None else bytes(data)

    def get_many(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[tuple[bytes, Stored | None]]:
        """Return (id, bytes or None) pairs in the order that reads the disk forwards."""
        prefix = self.prefix(contract_id)
        rows = self._rows(contract_id, chunk_ids)
        found: list[tuple[bytes, Stored | None]] = []
        entries = []
        for chunk_id, row in zip(chunk_ids, rows, strict=True):
            if row is None:
                found.append((chunk_id, None))
            else:
                entries.append(Entry(prefix + chunk_id, row))
        unreadable = []
        read = set()
        for entry, data in maintenance.read_entries(self, entries):
            read.add(entry.key)
            found.append((split_chunk_key(entry.key)[1], data))
            if data is None:
                unreadable.append(entry)
        # A chunk that was purged between the two looks at the index.
        found.extend((split_chunk_key(entry.key)[1], None) for entry in entries if entry.key not in read)
        self.quarantine(unreadable)
        return found

    def iter_ids(self, contract_id: bytes, *, after: bytes = b"") -> Iterator[bytes]:
        """Yield the ids of live chunks in ascending order."""
        prefix = self.prefix(contract_id)
        last = prefix + after if after else b""
        while True:
            with self.index.read() as transaction:
                page = []
                for key, row in self.index.scan(transaction, "chunks", prefix, last):
                    page.append((key, decode_chunk(row).state))
                    if len(page) == _PAGE_IDS:
                        break
            if not page:
                return
            for key, state in page:
                if state == LIVE:
                    yield split_chunk_key(key)[1]
            last = page[-1][0]

    def add_sent_bytes(self, contract_id: bytes, size_bytes: int) -> None:
        """Count bytes that were sent to the contract's owner."""
        with self._sent_lock:
            self._sent[contract_id] = self._sent.get(contract_id, 0) + size_bytes

    # --- deletion --------------------------------------------------------------------------------------------

    def mark_deleted(self, contract_id: bytes, chunk_ids: Sequence[bytes], delete_after_at: int) -> int:
        """Mark live chunks for removal at `delete_after_at`."""
        with self.writing() as transaction:
            contract = self.index.contract(transaction, contract_id)
            marked = 0
            for chunk_id in chunk_ids:
                key = chunk_key(contract.number, chunk_id)
                row = self.index.chunk(transaction, key)
                if row is not None and row.state == LIVE:
                    self.index.put_chunk(transaction, key, ChunkRow(row.location, MARKED, delete_after_at))
                    self.index.put(transaction, "deletions", deletion_key(delete_after_at, key), b"")
                    contract.marked_chunks += 1
                    contract.marked_bytes += row.location.size
                    marked += 1
            self.index.put_contract(transaction, contract_id, contract)
        return marked

    def undelete(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> int:
        """Make marked chunks live again."""
        with self.writing() as transaction:
            contract = self.index.contract(transaction, contract_id)
            before = contract.marked_chunks
            for chunk_id in chunk_ids:
                key = chunk_key(contract.number, chunk_id)
                row = self.index.chunk(transaction, key)
                if row is not None and row.state == MARKED:
                    self._revive(transaction, contract, key, row)
            self.index.put_contract(transaction, contract_id, contract)
        return before - contract.marked_chunks

    def purge(self, now_at: int, *, limit: int = 10_000) -> PurgeReport:
        """Remove at most `limit` marked chunks whose time has come."""
        removed = size_bytes = 0
        with self.writing() as transaction:
            for deletion in self._first_keys(transaction, "deletions", b"", limit):
                delete_after_at, key = split_deletion_key(deletion)
                if delete_after_at > now_at:
                    break
                row = self.index.chunk(transaction, key)
                assert row is not None
                self.remove_chunk(transaction, key, row)
                removed += 1
                size_bytes += row.location.size
        return PurgeReport(removed, size_bytes)

    def compact(self, *, max_segments: int = 16) -> int:
        """Give space of removed chunks back to the disk."""
        return maintenance.compact(self, max_segments)

    def scrub(self, *, cursor: bytes | None = None, max_bytes: int | None = None) -> ScrubReport:
        """Recompute the SHA-256 of stored chunks and quarantine those that rotted."""
        return maintenance.scrub(self, cursor, max_bytes)

    def quarantined(self, contract_id: bytes) -> list[bytes]:
        """Return the ids of chunks that rotted and were not stored again since."""
        prefix = self.prefix(contract_id)
        with self.index.read() as transaction:
            return [split_chunk_key(key)[1] for key, _ in self.index.scan(transaction, "rotten", prefix)]

    def export(self, contract_id: bytes, directory: Path) -> int:
        """Write each readable chunk to a file named by its hex id."""
        return maintenance.export(self, contract_id, directory)

    # --- heads, recovery records, identity logs --------------------------------------------------------------

    def heads(self, contract_id: bytes, locator: bytes) -> list[tuple[bytes, bytes]]:
        """Return (device public key, head bytes) for every device that set a head under `locator`."""
        with self.index.read() as transaction:
            return records.read_heads(self.index, transaction, contract_id, locator)

    def set_head(
        self, contract_id: bytes, locator: bytes, device_pk: bytes, head: bytes, previous_hash: bytes | None
    ) -> None:
        """Durably compare and swap a device's head."""
        records.check_head(head)
        with self.writing() as transaction:
            slot = (locator, device_pk)
            records.write_head(self.index, transaction, contract_id, slot, head, previous_hash)

    def set_recovery(self, record: RecoveryRecord) -> None:
        """Durably store a recovery record."""
        records.check_recovery(record)
        with self.writing() as transaction:
            records.write_recovery(self.index, transaction, record)

    def recovery(self, locator: bytes) -> list[RecoveryRecord]:
        """Return the records of all contracts under `locator`, highest revision first."""
        with self.index.read() as transaction:
            return records.read_recovery(self.index, transaction, locator)

    def announce_keys(self) -> set[bytes]:
        """Return the announce keys of all recovery records."""
        with self.index.read() as transaction:
            return set(records.read_announce_keys(self.index, transaction))

    def identity_log(self, identity_id: bytes) -> list[bytes]:
        """Return the raw entries of the longest log known of an identity."""
        with self.index.read() as transaction:
            return records.decode_entries(self.index.get(transaction, "identities", identity_id) or b"")

    def set_identity_log(
        self, identity_id: bytes, entries: Sequence[bytes], *, extends: Callable[[list[bytes]], bool]
    ) -> bool:
        """Durably replace an identity's log if `extends(stored entries)` says so."""
        with self.writing() as transaction:
            stored = records.decode_entries(self.index.get(transaction, "identities", identity_id) or b"")
            wanted = extends(stored)
            if wanted:
                self.index.put(transaction, "identities", identity_id, records.encode_entries(entries))
        return wanted

    # --- parts of the above ----------------------------------------------------------------------------------

    def _admit(
        self,
        transaction: Transaction,
        contract: ContractRow,
        key: bytes,
        payload: Payload,
        new: dict[bytes, Payload],
    ) -> PutOutcome:
        """Decide about one chunk of a batch and count it; `new` collects what must be written."""
        row = self.index.chunk(transaction, key)
        if row is not None or key in new:
            if row is not None and row.state == MARKED:
                self._revive(transaction, contract, key, row)
            return PutOutcome.EXISTING
        if contract.size_bytes + len(payload) > contract.quota_bytes:
            return PutOutcome.OVER_QUOTA
        contract.chunks += 1
        contract.size_bytes += len(payload)
        contract.received_bytes += len(payload)
        new[key] = payload
        return PutOutcome.STORED

    def _drop_rotten(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> None:
        """Read what is there already: who stores a chunk again may do so because it has rotted here."""
        prefix = self.prefix(contract_id)
        rows = zip(chunk_ids, self._rows(contract_id, chunk_ids), strict=True)
        present = [Entry(prefix + chunk_id, row) for chunk_id, row in rows if row is not None]
        read = maintenance.read_entries(self, present)
        self.quarantine([entry for entry, data in read if not maintenance.is_intact(entry.key, data)])

    def _revive(self, transaction: Transaction, contract: ContractRow, key: bytes, row: ChunkRow) -> None:
        self.index.delete(transaction, "deletions", deletion_key(row.delete_after_at, key))
        self.index.put_chunk(transaction, key, ChunkRow(row.location, LIVE, 0))
        contract.marked_chunks -= 1
        contract.marked_bytes -= row.location.size

    def _first_keys(
        self, transaction: Transaction, table: str, prefix: bytes, limit: int = _DROP_STEP
    ) -> list[bytes]:
        scan = self.index.scan(transaction, table, prefix)
        return [key for (key, _), _ in zip(scan, range(limit), strict=False)]

    def _rows(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[ChunkRow | None]:
        with self.index.read() as transaction:
            number = self.index.contract(transaction, contract_id).number
            return [self.index.chunk(transaction, chunk_key(number, chunk_id)) for chunk_id in chunk_ids]


def as_payload(sealed: Sealed) -> Payload:
    """Return sealed bytes as a payload, without a copy."""
    return sealed if isinstance(sealed, Payload) else Payload([sealed])
