"""Where a provider keeps the sealed chunks of its contracts.

`ChunkStore` is the interface, `LogChunkStore` the embedded default (append-only *segment* files, an LMDB
*index*), `MemoryChunkStore` one for tests. docs/decisions/0004-chunk-store.md tells why the default is what it is.
"""

from sovereign_node.chunkstore.errors import (
    ChunkStoreError,
    ContentMismatchError,
    HeadConflictError,
    RecoveryConflictError,
    StorageError,
    StoreFormatError,
    StoreFullError,
    StoreInUseError,
    TooManyRecordsError,
    UnknownContractError,
)
from sovereign_node.chunkstore.interface import (
    ChunkStore,
    PurgeReport,
    PutOutcome,
    RecoveryRecord,
    ScrubReport,
    Sealed,
    StoreStatistics,
    Usage,
)
from sovereign_node.chunkstore.memory import MemoryChunkStore
from sovereign_node.chunkstore.store import LogChunkStore

__all__ = [
    "ChunkStore",
    "ChunkStoreError",
    "ContentMismatchError",
    "HeadConflictError",
    "LogChunkStore",
    "MemoryChunkStore",
    "PurgeReport",
    "PutOutcome",
    "RecoveryConflictError",
    "RecoveryRecord",
    "ScrubReport",
    "Sealed",
    "StorageError",
    "StoreFormatError",
    "StoreFullError",
    "StoreInUseError",
    "StoreStatistics",
    "TooManyRecordsError",
    "UnknownContractError",
    "Usage",
]
