"""Consistent reading of live SQLite databases: the file itself while nobody writes, else a copy by the backup API.

The copy is page for page the source at one moment, whatever other processes write meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# 16 MiB of 4 KiB pages: some 20 ms in which a writer of a database without WAL has to wait.
_STEP_PAGES = 4096
# A writer in another process makes an unprotected copy start again; after this many times it is made in one step.
_MAX_RESTARTS = 4
_BUSY_TIMEOUT_S = 10.0
# A change within the clock tick of the last one could not be seen in the times.
_SETTLED_NS = 100_000_000
_HEADER = struct.Struct(">16sHBB")
_MAGIC = b"SQLite format 3\0"
_LOGS = ("-wal", "-journal")


class CaptureError(Exception):
    """The database could not be copied: locked for too long, damaged, encrypted or not a database."""


class CaptureCancelledError(Exception):
    """The caller asked to stop."""


class _RestartedTooOften(Exception):
    """The source was written during every attempt."""


@dataclass(frozen=True, slots=True)
class CapturedDatabase:
    """A finished copy.

    Args:
        path: the copy; it disappears with the context.
        page_bytes: size of a page.
    """

    path: Path
    page_bytes: int


class IdleDatabase:
    """A database that nobody is writing: its file can be read as it is, if it is still idle afterwards.

    Args:
        descriptor: open for reading; the caller's to close.
        page_bytes: size of a page.
        status: of the file, before anything was read.
    """

    def __init__(self, descriptor: int, page_bytes: int, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.page_bytes = page_bytes
        self.status = status

    def is_unchanged(self) -> bool:
        """Whether nothing was written since it was opened, so that all that was read is of one state."""
        return _identity(os.fstat(self.descriptor)) == _identity(self.status)


def check_idle(source: Path, descriptor: int, now_ns: int) -> IdleDatabase | None:
    """Return a database whose file holds one committed state right now; None if that can't be said.

    Whoever has pages of an open transaction in the file keeps others out with a lock, and whoever writes later
    changes the file's times: nothing is locked while the file is read, and no writer ever waits.

    Args:
        source: the database file.
        descriptor: of the same file, open for reading.
        now_ns: by the clock of its file system, nanoseconds UTC; not later than now.
    """
    status = os.fstat(descriptor)
    settled = max(status.st_mtime_ns, status.st_ctime_ns) + _SETTLED_NS < now_ns
    head = os.pread(descriptor, _HEADER.size, 0)
    if (
        not settled
        or len(head) < _HEADER.size
        or any(source.with_name(source.name + end).exists() for end in _LOGS)
    ):
        return None
    magic, page_bytes, write_version, read_version = _HEADER.unpack(head)
    # Opening one with a write-ahead log makes SQLite put the log and its index beside it, where a reader leaves
    # them behind; without a log there, nobody has it open.
    immutable = "&immutable=1" if (write_version, read_version) == (2, 2) else ""
    try:
        uri = f"{source.absolute().as_uri()}?mode=ro{immutable}"
        with closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
    except sqlite3.Error:
        return None
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if magic != _MAGIC or pages * page_bytes != status.st_size:
        return None
    database = IdleDatabase(descriptor, page_bytes, status)
    return database if database.is_unchanged() else None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def capture_database(source: Path, spool: Path, stop: threading.Event) -> Iterator[CapturedDatabase]:
    """Copy a live database into the spool for the time of the block.

    Args:
        source: the database file.
        spool: folder for the copy, on a disk with room for it; the copy is readable by its owner only.
        stop: set by another thread to give up.

    Raises:
        CaptureError: no consistent copy could be made.
        CaptureCancelledError: ``stop`` was set.
    """
    descriptor, name = tempfile.mkstemp(prefix="capture-", suffix=".db", dir=spool)
    os.close(descriptor)
    copy = Path(name)
    try:
        try:
            page_bytes = _copy(source, copy, stop)
        except (sqlite3.Error, OSError) as error:
            raise CaptureError(str(error)) from error
        yield CapturedDatabase(copy, page_bytes)
    finally:
        copy.unlink(missing_ok=True)


def _copy(source: Path, copy: Path, stop: threading.Event) -> int:
    # Reading a database with a write-ahead log makes SQLite put the log and its index beside it, where a reader
    # leaves them behind. Nobody has this one open: read it without, and if somebody came, read it again.
    idle = _idle_state(source, copy)
    if idle is not None:
        with suppress(sqlite3.Error):
            page_bytes = _copy_from(f"{source.absolute().as_uri()}?mode=ro&immutable=1", copy, stop)
            if _idle_state(source, copy) == idle:
                return page_bytes
    return _copy_from(f"{source.absolute().as_uri()}?mode=ro", copy, stop)


def _copy_from(uri: str, copy: Path, stop: threading.Event) -> int:
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)) as origin,
        closing(sqlite3.connect(copy, isolation_level=None)) as destination,
    ):
        destination.execute("PRAGMA journal_mode = OFF")
        destination.execute("PRAGMA synchronous = OFF")
        write_ahead = origin.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if write_ahead:
            # A read transaction pins one state for as many steps as it takes, and blocks no writer.
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            _run_steps(origin, destination, stop)
        except _RestartedTooOften:
            origin.backup(destination, pages=-1)
        page_bytes: int = origin.execute("PRAGMA page_size").fetchone()[0]
        return page_bytes


def _idle_state(source: Path, copy: Path) -> tuple[int, ...] | None:
    """Return what tells whether an idle database with a write-ahead log is written to; None if it is not idle."""
    with source.open("rb") as file:
        has_log = file.read(20)[18:] == b"\x02\x02"
    status = source.stat()
    # A change within the clock tick of the last one could not be seen.
    settled = copy.stat().st_mtime_ns - status.st_mtime_ns > _SETTLED_NS
    if not has_log or not settled or source.with_name(source.name + "-wal").exists():
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _run_steps(origin: sqlite3.Connection, destination: sqlite3.Connection, stop: threading.Event) -> None:
    least_remaining: int | None = None
    restarts = 0

    def watch(_status: int, remaining: int, _total: int) -> None:
        nonlocal least_remaining, restarts
        if stop.is_set():
            raise CaptureCancelledError
        if least_remaining is not None and remaining > least_remaining:
            restarts += 1
            if restarts > _MAX_RESTARTS:
                raise _RestartedTooOften
        least_remaining = remaining

    origin.backup(destination, pages=_STEP_PAGES, progress=watch, sleep=0.01)
