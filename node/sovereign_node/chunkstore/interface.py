"""What every chunk store offers, whatever holds its bytes.

A *contract* is a namespace with a quota: nothing stored under one contract can be seen, counted or even guessed
through another, and a chunk that two contracts store is stored twice. A chunk is *live*, *marked* (deleted, still
readable until its grace ends) or *quarantined* (its bytes rotted; reported missing, replaced by the next put).
All methods block and may be called from any thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from sovereign_protocols.framing import Payload

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADS_PER_CONTRACT: Final = 4_096
MAX_RECOVERY_BYTES: Final = 4 * 1024**2
MAX_RECOVERY_PER_CONTRACT: Final = 4
MAX_RECOVERY_PER_LOCATOR: Final = 8

Sealed = bytes | bytearray | memoryview | Payload
#: What comes out of a store. A view's memory is used again when the view is gone.
Stored = bytes | memoryview


class PutOutcome(Enum):
    """What happened to one chunk of a batch."""

    STORED = "stored"
    EXISTING = "existing"
    OVER_QUOTA = "over quota"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a contract holds and has moved.

    `size_bytes` and `chunks` count live and marked chunks, because marked ones still fill the disk;
    `marked_*` tells how much of that goes when its grace ends. Transfers count sealed bytes over the lifetime of
    the contract; after a crash `sent_bytes` may miss what was sent in the last seconds.
    """

    quota_bytes: int
    chunks: int
    size_bytes: int
    marked_chunks: int
    marked_bytes: int
    received_bytes: int
    sent_bytes: int

    @property
    def free_bytes(self) -> int:
        """Bytes that fit before the quota is reached."""
        return max(0, self.quota_bytes - self.size_bytes)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Totals over all contracts and the state of the disk below them."""

    contracts: int
    chunks: int
    size_bytes: int
    segments: int
    segment_bytes: int
    quarantined: int
    disk_free_bytes: int


@dataclass(frozen=True, slots=True)
class RecoveryRecord:
    """A sealed recovery bundle that anybody who knows its locator may fetch.

    Args:
        contract_id: 32 bytes, who pays for it.
        locator: 32 bytes.
        revision: grows with every replacement.
        announce_key: key under which the provider announces itself in the DHT, at most 64 bytes.
        sealed: at most 4 MiB.
    """

    contract_id: bytes
    locator: bytes
    revision: int
    announce_key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub looked at. `corrupt` lists (contract id, chunk id); `cursor` continues it, None at the end."""

    checked: int
    checked_bytes: int
    corrupt: tuple[tuple[bytes, bytes], ...]
    cursor: bytes | None


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge removed for good."""

    chunks: int
    size_bytes: int


class ChunkStore(ABC):
    """Sealed chunks, heads and recovery records of many contracts."""

    # --- contracts -------------------------------------------------------------------------------------------

    @abstractmethod
    def set_quota(self, contract_id: bytes, quota_bytes: int) -> None:
        """Create the contract or change its quota; a quota below what is stored only stops further puts."""

    @abstractmethod
    def contracts(self) -> list[bytes]:
        """Return the ids of all contracts."""

    @abstractmethod
    def usage(self, contract_id: bytes) -> Usage:
        """Return the counters of one contract in O(1).

        Raises:
            UnknownContractError: no such contract.
        """

    @abstractmethod
    def drop_contract(self, contract_id: bytes) -> PurgeReport:
        """Remove a contract with everything in it; its grace is the caller's business."""

    @abstractmethod
    def statistics(self) -> StoreStatistics:
        """Return totals."""

    # --- chunks ----------------------------------------------------------------------------------------------

    @abstractmethod
    def put_many(
        self, contract_id: bytes, items: Sequence[tuple[bytes, Sealed]], *, verified: bool = False
    ) -> list[PutOutcome]:
        """Store a batch durably: when this returns, the stored chunks survive a power cut.

        Args:
            contract_id: 32 bytes, an existing contract.
            items: pairs of chunk id (32 bytes) and sealed bytes, in the order in which quota is given out.
            verified: the caller has compared every SHA-256 with its id just now.

        Returns:
            One outcome per item. A chunk that is marked or quarantined becomes live again.

        Raises:
            ContentMismatchError: an id is wrong; nothing of the batch was stored.
            StoreFullError, StorageError: nothing of the batch was stored.
            UnknownContractError: no such contract.
        """

    @abstractmethod
    def has(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[bool]:
        """Tell for each id whether a live chunk is there; marked chunks are not, so that nobody relies on them."""

    @abstractmethod
    def sizes(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[int | None]:
        """Return the sealed size of each readable (live or marked) chunk, None for others."""

    @abstractmethod
    def get(self, contract_id: bytes, chunk_id: bytes) -> bytes | None:
        """Return the sealed bytes of a readable chunk, not verified, or None."""

    @abstractmethod
    def get_many(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[tuple[bytes, Stored | None]]:
        """Return (id, bytes or None) pairs in the order that reads the disk forwards."""

    @abstractmethod
    def iter_ids(self, contract_id: bytes, *, after: bytes = b"") -> Iterator[bytes]:
        """Yield the ids of live chunks in ascending order, starting behind `after`."""

    @abstractmethod
    def add_sent_bytes(self, contract_id: bytes, size_bytes: int) -> None:
        """Count bytes that were sent to the contract's owner; written with the next commit or `flush_counters`."""

    @abstractmethod
    def flush_counters(self) -> None:
        """Write counters that are still in memory."""

    # --- deletion --------------------------------------------------------------------------------------------

    @abstractmethod
    def mark_deleted(self, contract_id: bytes, chunk_ids: Sequence[bytes], delete_after_at: int) -> int:
        """Mark live chunks for removal at `delete_after_at` (seconds UTC).

        Returns:
            How many live chunks were marked; ids that are missing or marked already keep their state.
        """

    @abstractmethod
    def undelete(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> int:
        """Make marked chunks live again and return how many there were."""

    @abstractmethod
    def purge(self, now_at: int, *, limit: int = 10_000) -> PurgeReport:
        """Remove at most `limit` marked chunks whose time has come."""

    @abstractmethod
    def compact(self, *, max_segments: int = 16) -> int:
        """Give space of removed chunks back to the disk; return the bytes freed."""

    # --- bit rot ---------------------------------------------------------------------------------------------

    @abstractmethod
    def scrub(self, *, cursor: bytes | None = None, max_bytes: int | None = None) -> ScrubReport:
        """Recompute the SHA-256 of stored chunks and quarantine those that rotted."""

    @abstractmethod
    def quarantined(self, contract_id: bytes) -> list[bytes]:
        """Return the ids of chunks that rotted and were not stored again since."""

    @abstractmethod
    def export(self, contract_id: bytes, directory: Path) -> int:
        """Write each readable chunk to a file named by its hex id, for `sha256sum`; return how many."""

    # --- heads -----------------------------------------------------------------------------------------------

    @abstractmethod
    def heads(self, contract_id: bytes, locator: bytes) -> list[tuple[bytes, bytes]]:
        """Return (device public key, head bytes) for every device that set a head under `locator`."""

    @abstractmethod
    def set_head(
        self, contract_id: bytes, locator: bytes, device_pk: bytes, head: bytes, previous_hash: bytes | None
    ) -> None:
        """Durably replace a device's head if the stored one has SHA-256 `previous_hash` (None: there is none).

        Setting the head that is stored already succeeds, so a lost answer can be retried.

        Raises:
            HeadConflictError: another head is stored.
            TooManyRecordsError: the contract holds its maximum of heads.
        """

    # --- recovery records ------------------------------------------------------------------------------------

    @abstractmethod
    def set_recovery(self, record: RecoveryRecord) -> None:
        """Durably store a record under (locator, contract).

        Raises:
            RecoveryConflictError: the stored revision is not lower (and the record is another one).
            TooManyRecordsError: a limit per contract or per locator is reached.
        """

    @abstractmethod
    def recovery(self, locator: bytes) -> list[RecoveryRecord]:
        """Return the records of all contracts under `locator`, highest revision first."""

    @abstractmethod
    def announce_keys(self) -> set[bytes]:
        """Return the announce keys of all recovery records."""

    # --- identity logs ---------------------------------------------------------------------------------------

    @abstractmethod
    def identity_log(self, identity_id: bytes) -> list[bytes]:
        """Return the raw entries of the longest log known of an identity, empty if none."""

    @abstractmethod
    def set_identity_log(
        self, identity_id: bytes, entries: Sequence[bytes], *, extends: Callable[[list[bytes]], bool]
    ) -> bool:
        """Durably replace an identity's log if `extends(stored entries)` says so; return whether it did."""

    @abstractmethod
    def close(self) -> None:
        """Write what is pending and release all files. Further calls are an error."""
