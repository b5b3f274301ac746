"""Errors of a chunk store."""


class ChunkStoreError(Exception):
    """Root of every error that a chunk store raises."""


class StoreFullError(ChunkStoreError):
    """The disk is full, or its reserve would be touched; nothing was stored and a retry may succeed later."""


class StorageError(ChunkStoreError):
    """The disk failed; nothing was stored."""


class StoreInUseError(ChunkStoreError):
    """Another process has this store open."""


class StoreFormatError(ChunkStoreError):
    """The files are not a chunk store, or one written by a newer version."""


class UnknownContractError(ChunkStoreError):
    """The store has no such contract."""


class ContentMismatchError(ChunkStoreError):
    """The SHA-256 of some bytes is not the id under which they were to be stored.

    Args:
        chunk_id: 32 bytes, the id that was claimed.
    """

    def __init__(self, chunk_id: bytes) -> None:
        super().__init__(f"content of chunk {chunk_id.hex()} does not match its id")
        self.chunk_id = chunk_id


class HeadConflictError(ChunkStoreError):
    """The head to replace is not the one that is stored.

    Args:
        current_hash: SHA-256 of the stored head, None if there is none.
    """

    def __init__(self, current_hash: bytes | None) -> None:
        super().__init__("the stored head is another one")
        self.current_hash = current_hash


class RecoveryConflictError(ChunkStoreError):
    """A recovery record with the same or a higher revision is stored.

    Args:
        revision: the stored revision.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"revision {revision} is stored")
        self.revision = revision


class TooManyRecordsError(ChunkStoreError):
    """The contract or the locator already holds as many heads or recovery records as it may."""
