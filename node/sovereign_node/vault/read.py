"""Reading and cutting files: small ones in groups by the workers, large ones in windows by one reader."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyfastcdc import FastCDC

from sovereign_node.store.sqlite_capture import CaptureError, capture_database, check_idle
from sovereign_node.vault.scan import SQLITE_HEADER, FileWork
from sovereign_protocols.vault.tree import MAX_LIST_IDS, Flag

# Files up to this size are read whole by a worker; larger ones pass through one buffer in windows.
WHOLE_FILE_BYTES = 4 * 1024 * 1024
WINDOW_BYTES = 4 * 1024 * 1024
GROUP_BYTES = 4 * 1024 * 1024
GROUP_FILES = 256
READ_ATTEMPTS = 3
MIN_CUT_BYTES = 256 * 1024
AVERAGE_CUT_BYTES = 1024 * 1024
# One page less than a full container, for the directory and the trailer.
MAX_CUT_BYTES = 4 * 1024 * 1024 - 4096
# A random row of a database touches a page or two: small cuts keep what is sent small, larger ones the number of
# blobs. The list that names a changed piece is sent with it, so lists are short.
# (size up to which it applies, bytes of a cut, ids in a list)
DATABASE_CUTS = (
    (64 * 1024 * 1024, 4096, 16),
    (1024 * 1024 * 1024, 8192, 32),
)
LARGE_DATABASE_CUT = (64 * 1024, 64)
# Linux can fail a read that would have to wait for the disk.
_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


@dataclass(frozen=True, slots=True)
class Group:
    """Files that one worker reads, hashes and packs.

    Args:
        works: the files.
    """

    works: list[FileWork]


@dataclass(slots=True, eq=False)
class LargeFile:
    """A file that arrives in parts.

    Args:
        work: the file.
        flags: flags of its entry.
        parts: ids of each part, by part number.
        total: number of parts so far.
        closed: no part follows.
        size_bytes: bytes read.
        info: its times and mode after reading.
        again: it kept changing.
        list_ids: how many ids go into one list.
    """

    work: FileWork
    flags: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)
    total: int = 0
    closed: bool = False
    size_bytes: int = 0
    info: os.stat_result | None = None
    again: bool = False
    list_ids: int = MAX_LIST_IDS
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Part:
    """A run of pieces of a large file; an empty last one says that the file has ended.

    Args:
        file: the file.
        number: counted from 0.
        pieces: what to store, in order.
        last: no part follows.
    """

    file: LargeFile
    number: int
    pieces: list[memoryview]
    last: bool


Batch = Group | Part


def content_cutter() -> FastCDC:
    """Return a cutter for content-defined pieces; one per thread."""
    return FastCDC(AVERAGE_CUT_BYTES, min_size=MIN_CUT_BYTES, max_size=MAX_CUT_BYTES)


def cut_whole(cutter: FastCDC, data: bytes | bytearray) -> list[memoryview]:
    """Cut a file that is in memory."""
    view = memoryview(data)
    if len(data) <= MIN_CUT_BYTES:
        return [view] if data else []
    return [view[piece.offset : piece.offset + piece.length] for piece in cutter.cut_buf(view)]


def open_regular(path: bytes) -> int:
    """Open a file for reading; never through a symlink, and never waiting for a pipe."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def same_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nothing was written between two looks at a file."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
        other.st_ino,
    )


def read_cached(path: bytes, listed: os.stat_result) -> bytearray | None:
    """Return a small file's bytes if that takes no disk and it is still as it was listed.

    Args:
        path: the file.
        listed: its state when it was listed.

    Returns:
        ``None`` if it has to be read with :func:`read_small`.
    """
    if _NO_WAIT is None or listed.st_size > WHOLE_FILE_BYTES:
        return None
    data = bytearray(listed.st_size)
    try:
        descriptor = open_regular(path)
        try:
            count = os.preadv(descriptor, (data,), 0, _NO_WAIT) if data else 0
            unchanged = count == len(data) and same_state(listed, os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return data if unchanged else None


def read_small(path: bytes) -> tuple[bytes, os.stat_result, bool]:
    """Read a file whole, or its first 4 MiB if it has grown meanwhile.

    Returns:
        Its bytes, its state, and whether it was written meanwhile.

    Raises:
        OSError: it can't be read, or is no file any more.
    """
    descriptor = open_regular(path)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "is not a file any more")
        size_bytes = min(before.st_size, WHOLE_FILE_BYTES)
        data = os.read(descriptor, size_bytes)
        while len(data) < size_bytes:
            more = os.read(descriptor, size_bytes - len(data))
            if not more:
                break
            data += more
        changed = len(data) != before.st_size or not same_state(before, os.fstat(descriptor))
        return data, before, changed
    finally:
        os.close(descriptor)


class Reader:
    """Turns the files of a scan into batches; used by one thread at a time.

    Args:
        works: files to read, in order.
        spool: folder for copies of databases.
        stop: set when the backup is cancelled.
        on_error: called for a file that can't be read.
        now_ns: time of the start by the file system's clock, nanoseconds UTC.
        capture: capture databases consistently.
    """

    def __init__(
        self,
        works: Iterator[FileWork],
        spool: Path,
        stop: threading.Event,
        on_error: Callable[[FileWork, str], None],
        now_ns: int,
        *,
        capture: bool = True,
    ) -> None:
        self._works = works
        self._spool = spool
        self._stop = stop
        self._on_error = on_error
        self._now_ns = now_ns
        self._capture = capture
        self._cutter = content_cutter()
        self._batches = self._generate()

    def next_batch(self) -> Batch | None:
        """Return the next batch, or ``None`` at the end."""
        return next(self._batches, None)

    def _generate(self) -> Iterator[Batch]:
        group: list[FileWork] = []
        room = GROUP_BYTES
        for work in self._works:
            if self._is_captured(work):
                yield from self._database(work)
            elif work.info.st_size > WHOLE_FILE_BYTES:
                yield from self._large(work)
            else:
                group.append(work)
                room -= work.info.st_size
                if room <= 0 or len(group) >= GROUP_FILES:
                    yield Group(group)
                    group, room = [], GROUP_BYTES
        if group:
            yield Group(group)

    def _is_captured(self, work: FileWork) -> bool:
        # A database consists of pages, and the smallest page has 512 bytes; the test saves most files an open.
        if not self._capture or not work.info.st_size or work.info.st_size % 512:
            return False
        return work.database or looks_like_database(work.path)

    def _database(self, work: FileWork) -> Iterator[Batch]:
        if (yield from self._idle_database(work)):
            return
        try:
            with capture_database(Path(os.fsdecode(work.path)), self._spool, self._stop) as copy:
                file = LargeFile(work, flags=Flag.DATABASE, info=work.info)
                with copy.path.open("rb", buffering=0) as stream:
                    yield from self._fixed(file, stream.fileno(), copy.page_bytes)
                yield Part(file, file.total, [], True)
        except CaptureError as error:
            # Encrypted, damaged, or locked for too long: its bytes are still worth more than nothing.
            self._on_error(work, f"not captured as a database, copied as a file: {error}")
            yield from self._large(work)

    def _idle_database(self, work: FileWork) -> Generator[Batch, None, bool]:
        """Read a database that nobody writes without a copy; returns whether that went well to the end."""
        try:
            descriptor = open_regular(work.path)
        except OSError:
            return False
        try:
            idle = check_idle(Path(os.fsdecode(work.path)), descriptor, self._now_ns)
            if idle is None:
                return False
            file = LargeFile(work, flags=Flag.DATABASE, info=idle.status)
            yield from self._fixed(file, descriptor, idle.page_bytes)
            if not idle.is_unchanged():
                return False
        except OSError:
            return False
        finally:
            os.close(descriptor)
        yield Part(file, file.total, [], True)
        return True

    def _fixed(self, file: LargeFile, descriptor: int, page_bytes: int) -> Iterator[Batch]:
        size_bytes = os.fstat(descriptor).st_size
        fitting = (cut for below, *cut in DATABASE_CUTS if size_bytes <= below)
        cut_bytes, file.list_ids = next(fitting, LARGE_DATABASE_CUT)
        cut_bytes = max(cut_bytes, page_bytes)
        while not self._stop.is_set():
            view = memoryview(_read_window(descriptor, file.size_bytes))
            pieces = [view[at : at + cut_bytes] for at in range(0, len(view), cut_bytes)]
            if pieces:
                file.size_bytes += len(view)
                yield Part(file, file.total, pieces, False)
                file.total += 1
            if len(view) < WINDOW_BYTES:
                return

    def _large(self, work: FileWork) -> Iterator[Batch]:
        for attempt in range(READ_ATTEMPTS):
            file = LargeFile(work)
            try:
                descriptor = open_regular(work.path)
            except OSError as error:
                self._on_error(work, error.strerror or str(error))
                yield Part(file, 0, [], True)
                return
            try:
                before = os.fstat(descriptor)
                yield from self._windows(file, descriptor)
                after = os.fstat(descriptor)
                file.info = after
                file.again = not same_state(before, after)
            except OSError as error:
                file.info = None
                self._on_error(work, error.strerror or str(error))
            finally:
                os.close(descriptor)
            if not file.again or attempt == READ_ATTEMPTS - 1 or self._stop.is_set():
                break
        if file.again:
            self._on_error(work, "kept changing while it was read")
        yield Part(file, file.total, [], True)

    def _windows(self, file: LargeFile, descriptor: int) -> Iterator[Batch]:
        while not self._stop.is_set():
            view = memoryview(_read_window(descriptor, file.size_bytes))
            pieces = [view[piece.offset : piece.offset + piece.length] for piece in self._cutter.cut_buf(view)]
            ended = len(view) < WINDOW_BYTES
            if not ended and len(pieces) > 1:
                # The end of the window is no cut point: the last piece is read again with what follows it, which
                # costs less than keeping a copy.
                pieces.pop()
            if pieces:
                file.size_bytes += sum(map(len, pieces))
                yield Part(file, file.total, pieces, False)
                file.total += 1
            if ended:
                return


def looks_like_database(path: bytes) -> bool:
    """Whether a file begins like a SQLite database."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _read_window(descriptor: int, at: int) -> bytes:
    """Read one window; less only at the end of the file."""
    data = os.pread(descriptor, WINDOW_BYTES, at)
    while len(data) < WINDOW_BYTES:
        more = os.pread(descriptor, WINDOW_BYTES - len(data), at + len(data))
        if not more:
            break
        data += more
    return data
