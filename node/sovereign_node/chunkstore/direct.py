"""Large batches go to a segment past the page cache, where the file system lets them.

Sealed chunks are hardly read again soon, and finding fresh pages for them costs several times as much as handing
the bytes to the disk. Such writes begin and end at block boundaries: the last block of a segment, partly filled, is
written again together with what follows it, as the page cache would.
"""

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sovereign_node.chunkstore.files import Buffers, FileOperations

# Divides into every block size in use; memory from mmap is aligned to it.
BLOCK_BYTES: Final = 4_096
_SCRATCH_BYTES: Final = 4 * 1024 * 1024
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


class DirectWriter:
    """Writes to the active segment.

    Args:
        files: file operations.
    """

    def __init__(self, files: FileOperations) -> None:
        self._files = files
        self._descriptor = -1
        self._path: Path | None = None
        self._is_supported = True
        self._scratch: mmap.mmap | None = None
        self._tail = (-1, b"")

    def write(self, path: Path, descriptor: int, buffers: Buffers, offset: int) -> bool:
        """Write `buffers` at `offset`; False if the file system does not support it, and nothing counts as written.

        What follows up to the next block boundary is overwritten with zeros.

        Args:
            path: of the segment.
            descriptor: of the same file, as usual.
            buffers: what to write.
            offset: the end of what must stay.

        Raises:
            OSError: as usual.
        """
        start = offset - offset % BLOCK_BYTES
        try:
            if not self._open(path):
                return False
            before = self._before(descriptor, start, offset)
            if len(before) != offset - start:
                return False
            self._tail = self._write_blocks([before, *buffers], start)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.close()
            self._is_supported = False
            return False
        return True

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._path = -1, None
        self._tail = (-1, b"")

    def _open(self, path: Path) -> bool:
        if self._is_supported and self._path != path:
            self.close()
            self._descriptor = self._files.open_direct(path)
            self._path = path
        return self._is_supported

    def _before(self, descriptor: int, start: int, offset: int) -> bytes:
        """Return what lies between the last block boundary and the end."""
        end, tail = self._tail
        if end == offset:
            return tail
        return os.pread(descriptor, offset - start, start) if offset > start else b""

    def _write_blocks(self, buffers: Sequence[bytes | bytearray | memoryview], at: int) -> tuple[int, bytes]:
        """Write from a block boundary on; return the end, and what lies between it and the boundary before it."""
        self._scratch = self._scratch or mmap.mmap(-1, _SCRATCH_BYTES)
        with memoryview(self._scratch) as view:
            filled = 0
            for buffer in buffers:
                source = memoryview(buffer)
                while len(source):
                    part = source[: _SCRATCH_BYTES - filled]
                    view[filled : filled + len(part)] = part
                    filled += len(part)
                    source = source[len(part) :]
                    if filled == _SCRATCH_BYTES:
                        self._files.write_direct(self._descriptor, view, at)
                        at, filled = at + filled, 0
            odd_bytes = filled % BLOCK_BYTES
            tail = bytes(view[filled - odd_bytes : filled])
            blocks_end = filled + -filled % BLOCK_BYTES
            view[filled:blocks_end] = bytes(blocks_end - filled)
            if blocks_end:
                self._files.write_direct(self._descriptor, view[:blocks_end], at)
            return at + filled, tail
