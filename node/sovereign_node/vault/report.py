"""What operations tell while they run and when they are done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ItemError:
    """One entry that could not be handled.

    Args:
        path: the entry, for people (undecodable bytes are escaped).
        reason: why.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class BackupReport:
    """What one backup did.

    Args:
        project: hex id.
        snapshot: hex id of the new snapshot.
        files: files in the snapshot.
        files_changed: files that were read.
        directories: folders in the snapshot.
        bytes_total: sum of the lengths of all files in the snapshot.
        bytes_read: bytes read from the sources.
        bytes_new: raw bytes of blobs that were not stored before.
        bytes_sent: sealed bytes sent once each (chunks, segments and head), not multiplied by copies.
        chunks_sent: chunks and index segments sent.
        dedup_saved_bytes: bytes read that were stored already.
        compression_saved_bytes: what compression took off the new bytes.
        seconds: duration.
        partial: something could not be read, or a target failed.
        errors: entries that could not be read or kept changing.
        failed_targets: targets that dropped out, with the reason.
    """

    project: str
    snapshot: str
    files: int
    files_changed: int
    directories: int
    bytes_total: int
    bytes_read: int
    bytes_new: int
    bytes_sent: int
    chunks_sent: int
    dedup_saved_bytes: int
    compression_saved_bytes: int
    seconds: float
    partial: bool
    errors: tuple[ItemError, ...] = ()
    failed_targets: tuple[ItemError, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgressNote:
    """A moment of a running operation.

    Args:
        phase: what is going on, one word.
        files_done: files handled.
        files_total: files expected; 0 while unknown.
        bytes_done: bytes handled, unchanged files included.
        bytes_total: bytes expected; 0 while unknown.
        bytes_new: raw bytes that were not stored before.
        bytes_sent: sealed bytes given to targets.
        dedup_saved_bytes: bytes read that were stored already.
        compression_saved_bytes: what compression took off.
        rate_bytes_per_s: bytes done over time.
        eta_s: seconds left; negative while unknown.
        errors: entries that could not be handled.
        seconds: since the start.
    """

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    bytes_new: int
    bytes_sent: int
    dedup_saved_bytes: int
    compression_saved_bytes: int
    rate_bytes_per_s: int
    eta_s: int
    errors: int
    seconds: float


@dataclass
class Counters:
    """Sums that worker threads add to under ``lock``."""

    phase: str = "scan"
    files: int = 0
    files_changed: int = 0
    directories: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0
    bytes_sent: int = 0
    chunks_sent: int = 0
    files_expected: int = 0
    bytes_expected: int = 0
    errors: list[ItemError] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, seconds: float) -> ProgressNote:
        """Return the sums as they are now."""
        done = self.bytes_total
        rate = int(done / seconds) if seconds > 0 else 0
        left = max(0, self.bytes_expected - done)
        return ProgressNote(
            self.phase,
            self.files,
            self.files_expected,
            done,
            self.bytes_expected,
            self.bytes_new,
            self.bytes_sent,
            max(0, self.bytes_read - self.bytes_new),
            max(0, self.bytes_new - self.bytes_stored),
            rate,
            left // rate if rate and self.bytes_expected else -1,
            len(self.errors),
            seconds,
        )
