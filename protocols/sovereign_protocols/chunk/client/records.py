"""What goes into and comes out of a chunk client."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from sovereign_protocols.chunk import limits


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is asking.

    Args:
        certificate: device certificate of this device.
        log: raw entries of its identity log, from the first on.
    """

    certificate: bytes = field(repr=False)
    log: Sequence[bytes] = field(repr=False)

    @property
    def log_hash(self) -> bytes:
        """SHA-256 of the newest entry."""
        return hashlib.sha256(self.log[-1]).digest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of a contract at the server, in bytes and chunks.

    `size_bytes` counts against the quota and includes `marked_bytes`, which are freed when their grace ends.
    """

    quota_bytes: int
    chunks: int
    size_bytes: int
    marked_chunks: int
    marked_bytes: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class RecoveryRecord:
    """A recovery record as a server keeps it; whether it is genuine shows when it is opened."""

    revision: int
    announce_key: bytes
    sealed: bytes = field(repr=False)


def parts(chunk_ids: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Return the ids in lists that fit into a message."""
    ids = tuple(chunk_ids)
    return [ids[start : start + limits.MAX_IDS] for start in range(0, len(ids), limits.MAX_IDS)]
