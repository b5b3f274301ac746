"""Reading large chunks past the page cache, into buffers that are used again and again.

A sealed chunk is hardly read twice in a row, so putting it into the page cache first costs a second copy and the
work of finding, filling and dropping its pages: more than all else that a provider does to read it.
"""

import errno
import mmap
import os
import sys
import threading
from pathlib import Path
from typing import Final

from sovereign_node.chunkstore.direct import BLOCK_BYTES
from sovereign_node.chunkstore.files import FileOperations
from sovereign_protocols.chunk.limits import MAX_CHUNK_BYTES

#: Less than this is read by way of the page cache, which reads ahead.
MIN_BYTES: Final = 1024**2
#: A chunk and the blocks that it shares with its neighbours.
_BUFFER_BYTES: Final = (MAX_CHUNK_BYTES // BLOCK_BYTES + 2) * BLOCK_BYTES
_MOST_BUFFERS: Final = 8
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
# References to a buffer that nobody uses: the list's, the loop's and the one of the question itself.
_IDLE_REFERENCES: Final = 3


class DirectReader:
    """Reads with buffers for a few chunks; safe to use from several threads.

    Args:
        files: file operations.
    """

    def __init__(self, files: FileOperations) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._buffers: list[mmap.mmap] = []
        self._is_refused = not hasattr(os, "preadv")

    def read(self, descriptor: int, offset: int, size: int) -> memoryview | None:
        """Return bytes of a file opened by `FileOperations.open_direct_read`.

        The buffer behind the result is used again when nothing refers to it any more.

        Args:
            descriptor: of the file.
            offset: of the first byte.
            size: up to the largest chunk.

        Returns:
            None if it has to be read in the usual way: all buffers are in use, the file ends early, or the file
            system does not do this.
        """
        start = offset // BLOCK_BYTES * BLOCK_BYTES
        blocks = -(-(offset + size - start) // BLOCK_BYTES) * BLOCK_BYTES
        if blocks > _BUFFER_BYTES:
            return None
        view = self._take()
        if view is None:
            return None
        try:
            count = os.preadv(descriptor, [view[:blocks]], start)
        except OSError as error:
            self._is_refused |= error.errno in _UNSUPPORTED
            return None
        first = offset - start
        return view[first : first + size] if count >= first + size else None

    def open(self, path: Path) -> int:
        """Return a descriptor for `read`, -1 if the file system does not do this."""
        if self._is_refused:
            return -1
        try:
            return self._files.open_direct_read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._is_refused |= error.errno in _UNSUPPORTED
            return -1

    def release(self) -> None:
        """Give idle buffers back to the system."""
        with self._lock:
            self._buffers = [buffer for buffer in self._buffers if sys.getrefcount(buffer) > _IDLE_REFERENCES]

    def _take(self) -> memoryview | None:
        with self._lock:
            for buffer in self._buffers:
                # Every view of a buffer refers to it, also the parts that are cut out of a view.
                if sys.getrefcount(buffer) == _IDLE_REFERENCES:
                    return memoryview(buffer)
            if len(self._buffers) == _MOST_BUFFERS:
                return None
            self._buffers.append(mmap.mmap(-1, _BUFFER_BYTES))
            return memoryview(self._buffers[-1])
