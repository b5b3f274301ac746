"""The few file operations that a store makes, in one replaceable object.

Tests pass a subclass that fails or exits at the n-th call; the store itself has no test hooks.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import lmdb

Buffers = Sequence[bytes | bytearray | memoryview]
# IOV_MAX is 1024 on Linux and macOS.
_BUFFERS_PER_WRITE: Final = 1_000


class FileOperations:
    """Operations on the real file system. All raise `OSError`, `commit` raises `lmdb.Error`.

    Attributes:
        large_bytes: from this size on, what is written or read does not stay in the page cache.
    """

    large_bytes = 256 * 1024

    def open_segment(self, path: Path) -> int:
        """Open or create a segment for reading and writing, private to the owner; return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, buffers: Buffers, offset: int) -> None:
        """Write all `buffers` at `offset`, however often the system takes only a part of them."""
        pending = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while pending:
            written = os.pwritev(descriptor, pending[:_BUFFERS_PER_WRITE], offset)
            offset += written
            while pending and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if pending and written:
                pending[0] = pending[0][written:]

    def open_direct(self, path: Path) -> int:
        """Open a segment for writing past the page cache; return its descriptor."""
        if not hasattr(os, "O_DIRECT"):
            raise OSError(errno.ENOTSUP, "not on this system")
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)

    def open_direct_read(self, path: Path) -> int:
        """Open a segment for reading past the page cache; return its descriptor."""
        if not hasattr(os, "O_DIRECT"):
            raise OSError(errno.ENOTSUP, "not on this system")
        return os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)

    def write_direct(self, descriptor: int, blocks: memoryview, offset: int) -> None:
        """Write all of `blocks`, aligned as the file system wants it, however often it takes only a part."""
        while len(blocks):
            written = os.pwrite(descriptor, blocks, offset)
            offset += written
            blocks = blocks[written:]

    def sync(self, descriptor: int) -> None:
        """Make written data durable."""
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def drop_cached(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Let the system forget its copy in memory of what was synced or read; only a hint.

        Sealed chunks are hardly read again soon. Without this they push everything else out of memory, and each
        write has to find a fresh page, which costs several times as much as the copy into it.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)

    def sync_directory(self, path: Path) -> None:
        """Make created and removed names durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, size_bytes)

    def unlink(self, path: Path) -> None:
        """Remove a file; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def commit(self, transaction: lmdb.Transaction) -> None:
        """Commit an index transaction durably."""
        transaction.commit()

    def disk_space(self, path: Path) -> tuple[int, int]:
        """Return (total bytes, free bytes) of the disk that holds `path`."""
        usage = shutil.disk_usage(path)
        return usage.total, usage.free
