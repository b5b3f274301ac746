"""A chunk store in memory, for tests and for nodes that hold nothing of others."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sovereign_node.chunkstore import records
from sovereign_node.chunkstore.errors import (
    ContentMismatchError,
    RecoveryConflictError,
    TooManyRecordsError,
    UnknownContractError,
)
from sovereign_node.chunkstore.interface import (
    MAX_HEADS_PER_CONTRACT,
    MAX_RECOVERY_PER_CONTRACT,
    MAX_RECOVERY_PER_LOCATOR,
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


@dataclass(slots=True)
class _Chunk:
    data: bytes
    delete_after_at: int | None = None


@dataclass(slots=True)
class _Contract:
    quota_bytes: int
    chunks: dict[bytes, _Chunk] = field(default_factory=dict)
    rotten: set[bytes] = field(default_factory=set)
    heads: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    recovery: dict[bytes, RecoveryRecord] = field(default_factory=dict)
    size_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


class MemoryChunkStore(ChunkStore):
    """The contract of `ChunkStore` over dictionaries; nothing survives the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._contracts: dict[bytes, _Contract] = {}
        self._identities: dict[bytes, list[bytes]] = {}

    def set_quota(self, contract_id: bytes, quota_bytes: int) -> None:
        """Create the contract or change its quota."""
        with self._lock:
            self._contracts.setdefault(contract_id, _Contract(quota_bytes)).quota_bytes = quota_bytes

    def contracts(self) -> list[bytes]:
        """Return the ids of all contracts."""
        return sorted(self._contracts)

    def usage(self, contract_id: bytes) -> Usage:
        """Return the counters of one contract."""
        with self._lock:
            contract = self._contract(contract_id)
            marked = [chunk for chunk in contract.chunks.values() if chunk.delete_after_at is not None]
            return Usage(
                quota_bytes=contract.quota_bytes,
                chunks=len(contract.chunks),
                size_bytes=contract.size_bytes,
                marked_chunks=len(marked),
                marked_bytes=sum(len(chunk.data) for chunk in marked),
                received_bytes=contract.received_bytes,
                sent_bytes=contract.sent_bytes,
            )

    def drop_contract(self, contract_id: bytes) -> PurgeReport:
        """Remove a contract with everything in it."""
        with self._lock:
            contract = self._contract(contract_id)
            del self._contracts[contract_id]
            return PurgeReport(len(contract.chunks), contract.size_bytes)

    def statistics(self) -> StoreStatistics:
        """Return totals; there is no disk, so its figures are 0."""
        with self._lock:
            contracts = self._contracts.values()
            return StoreStatistics(
                contracts=len(contracts),
                chunks=sum(len(contract.chunks) for contract in contracts),
                size_bytes=sum(contract.size_bytes for contract in contracts),
                segments=0,
                segment_bytes=0,
                quarantined=sum(len(contract.rotten) for contract in contracts),
                disk_free_bytes=0,
            )

    def put_many(
        self, contract_id: bytes, items: Sequence[tuple[bytes, Sealed]], *, verified: bool = False
    ) -> list[PutOutcome]:
        """Store a batch."""
        contents = [
            (chunk_id, sealed.to_bytes() if isinstance(sealed, Payload) else bytes(sealed))
            for chunk_id, sealed in items
        ]
        if not verified:
            for chunk_id, data in contents:
                if hashlib.sha256(data).digest() != chunk_id:
                    raise ContentMismatchError(chunk_id)
        with self._lock:
            contract = self._contract(contract_id)
            return [self._put(contract, chunk_id, data) for chunk_id, data in contents]

    def _put(self, contract: _Contract, chunk_id: bytes, data: bytes) -> PutOutcome:
        chunk = contract.chunks.get(chunk_id)
        if chunk is not None:
            chunk.delete_after_at = None
            return PutOutcome.EXISTING
        if contract.size_bytes + len(data) > contract.quota_bytes:
            return PutOutcome.OVER_QUOTA
        contract.chunks[chunk_id] = _Chunk(data)
        contract.rotten.discard(chunk_id)
        contract.size_bytes += len(data)
        contract.received_bytes += len(data)
        return PutOutcome.STORED

    def has(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[bool]:
        """Tell for each id whether a live chunk is there."""
        with self._lock:
            chunks = self._contract(contract_id).chunks
            found = [chunks.get(chunk_id) for chunk_id in chunk_ids]
            return [chunk is not None and chunk.delete_after_at is None for chunk in found]

    def sizes(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[int | None]:
        """Return the sealed size of each readable chunk, None for others."""
        return [None if data is None else len(data) for _, data in self.get_many(contract_id, chunk_ids)]

    def get(self, contract_id: bytes, chunk_id: bytes) -> bytes | None:
        """Return the sealed bytes of a readable chunk, or None."""
        with self._lock:
            chunk = self._contract(contract_id).chunks.get(chunk_id)
            return None if chunk is None else chunk.data

    def get_many(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[tuple[bytes, Stored | None]]:
        """Return (id, bytes or None) pairs."""
        with self._lock:
            chunks = self._contract(contract_id).chunks
            found = [(chunk_id, chunks.get(chunk_id)) for chunk_id in chunk_ids]
            return [(chunk_id, None if chunk is None else chunk.data) for chunk_id, chunk in found]

    def iter_ids(self, contract_id: bytes, *, after: bytes = b"") -> Iterator[bytes]:
        """Yield the ids of live chunks in ascending order."""
        with self._lock:
            chunks = self._contract(contract_id).chunks
            ids = sorted(key for key, chunk in chunks.items() if key > after and chunk.delete_after_at is None)
        yield from ids

    def add_sent_bytes(self, contract_id: bytes, size_bytes: int) -> None:
        """Count bytes that were sent to the contract's owner."""
        with self._lock:
            if contract_id in self._contracts:
                self._contracts[contract_id].sent_bytes += size_bytes

    def flush_counters(self) -> None:
        """Do nothing: there is nothing more durable than memory here."""

    def mark_deleted(self, contract_id: bytes, chunk_ids: Sequence[bytes], delete_after_at: int) -> int:
        """Mark live chunks for removal at `delete_after_at`."""
        marked = 0
        with self._lock:
            chunks = self._contract(contract_id).chunks
            for chunk_id in chunk_ids:
                chunk = chunks.get(chunk_id)
                if chunk is not None and chunk.delete_after_at is None:
                    chunk.delete_after_at = delete_after_at
                    marked += 1
        return marked

    def undelete(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> int:
        """Make marked chunks live again."""
        revived = 0
        with self._lock:
            chunks = self._contract(contract_id).chunks
            for chunk_id in chunk_ids:
                chunk = chunks.get(chunk_id)
                if chunk is not None and chunk.delete_after_at is not None:
                    chunk.delete_after_at = None
                    revived += 1
        return revived

    def purge(self, now_at: int, *, limit: int = 10_000) -> PurgeReport:
        """Remove at most `limit` marked chunks whose time has come."""
        with self._lock:
            due = sorted(
                (chunk.delete_after_at, chunk_id, contract_id)
                for contract_id, contract in self._contracts.items()
                for chunk_id, chunk in contract.chunks.items()
                if chunk.delete_after_at is not None and chunk.delete_after_at <= now_at
            )[:limit]
            size_bytes = sum(self._remove(self._contracts[owner], chunk_id) for _, chunk_id, owner in due)
        return PurgeReport(len(due), size_bytes)

    def _remove(self, contract: _Contract, chunk_id: bytes) -> int:
        size = len(contract.chunks.pop(chunk_id).data)
        contract.size_bytes -= size
        return size

    def compact(self, *, max_segments: int = 16) -> int:
        """Return 0: removed chunks take no space."""
        return 0

    def scrub(self, *, cursor: bytes | None = None, max_bytes: int | None = None) -> ScrubReport:
        """Recompute all hashes, whatever the limits say."""
        corrupt = []
        checked = checked_bytes = 0
        with self._lock:
            for contract_id, contract in self._contracts.items():
                for chunk_id, chunk in list(contract.chunks.items()):
                    checked += 1
                    checked_bytes += len(chunk.data)
                    if hashlib.sha256(chunk.data).digest() != chunk_id:
                        self._remove(contract, chunk_id)
                        contract.rotten.add(chunk_id)
                        corrupt.append((contract_id, chunk_id))
        return ScrubReport(checked, checked_bytes, tuple(corrupt), None)

    def quarantined(self, contract_id: bytes) -> list[bytes]:
        """Return the ids of chunks that rotted and were not stored again since."""
        return sorted(self._contract(contract_id).rotten)

    def export(self, contract_id: bytes, directory: Path) -> int:
        """Write each readable chunk to a file named by its hex id."""
        directory.mkdir(parents=True, exist_ok=True)
        with self._lock:
            chunks = dict(self._contract(contract_id).chunks)
        for chunk_id, chunk in chunks.items():
            (directory / chunk_id.hex()).write_bytes(chunk.data)
        return len(chunks)

    def heads(self, contract_id: bytes, locator: bytes) -> list[tuple[bytes, bytes]]:
        """Return (device public key, head bytes) for every device that set a head under `locator`."""
        with self._lock:
            heads = self._contract(contract_id).heads
            return sorted((device, head) for (place, device), head in heads.items() if place == locator)

    def set_head(
        self, contract_id: bytes, locator: bytes, device_pk: bytes, head: bytes, previous_hash: bytes | None
    ) -> None:
        """Compare and swap a device's head."""
        records.check_head(head)
        with self._lock:
            heads = self._contract(contract_id).heads
            slot = (locator, device_pk)
            if not records.check_previous_head(heads.get(slot), head, previous_hash):
                return
            if slot not in heads and len(heads) >= MAX_HEADS_PER_CONTRACT:
                raise TooManyRecordsError("heads of this contract")
            heads[slot] = head

    def set_recovery(self, record: RecoveryRecord) -> None:
        """Store a recovery record."""
        records.check_recovery(record)
        with self._lock:
            own = self._contract(record.contract_id).recovery
            stored = own.get(record.locator)
            if stored == record:
                return
            if stored is not None and stored.revision >= record.revision:
                raise RecoveryConflictError(stored.revision)
            crowded = len(self.recovery(record.locator)) >= MAX_RECOVERY_PER_LOCATOR
            if stored is None and (crowded or len(own) >= MAX_RECOVERY_PER_CONTRACT):
                raise TooManyRecordsError("recovery records")
            own[record.locator] = record

    def recovery(self, locator: bytes) -> list[RecoveryRecord]:
        """Return the records of all contracts under `locator`, highest revision first."""
        with self._lock:
            contracts = self._contracts.values()
            found = [contract.recovery[locator] for contract in contracts if locator in contract.recovery]
        return sorted(found, key=lambda record: -record.revision)

    def announce_keys(self) -> set[bytes]:
        """Return the announce keys of all recovery records."""
        with self._lock:
            return {r.announce_key for contract in self._contracts.values() for r in contract.recovery.values()}

    def identity_log(self, identity_id: bytes) -> list[bytes]:
        """Return the raw entries of the longest log known of an identity."""
        return list(self._identities.get(identity_id, []))

    def set_identity_log(
        self, identity_id: bytes, entries: Sequence[bytes], *, extends: Callable[[list[bytes]], bool]
    ) -> bool:
        """Replace an identity's log if `extends(stored entries)` says so."""
        with self._lock:
            wanted = extends(self.identity_log(identity_id))
            if wanted:
                self._identities[identity_id] = list(entries)
        return wanted

    def close(self) -> None:
        """Forget everything."""
        self._contracts.clear()

    def _contract(self, contract_id: bytes) -> _Contract:
        try:
            return self._contracts[contract_id]
        except KeyError:
            raise UnknownContractError(contract_id.hex()) from None
