"""Segment files: append-only logs of sealed chunks.

    offset  size  field
    0       8     "SVSEG1" 0 0
    8       8     segment number, big-endian
    then records, each
    0       4     "SVRC"
    4       4     size s, big-endian
    8       32    contract id
    40      32    chunk id
    72      4     CRC-32 of the 72 bytes before
    76      4     zero
    80      s     sealed bytes

What a segment holds is decided by the index alone: bytes behind the committed end are what a crash or a failed
write left, and the next append overwrites them. Record headers are there so that a lost index can be rebuilt.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from sovereign_node.chunkstore.direct import DirectWriter
from sovereign_node.chunkstore.direct_read import MIN_BYTES as DIRECT_READ_BYTES
from sovereign_node.chunkstore.direct_read import DirectReader
from sovereign_node.chunkstore.files import FileOperations
from sovereign_protocols.framing import Payload

FILE_MAGIC: Final = b"SVSEG1\x00\x00"
FILE_HEADER: Final = struct.Struct(">8sQ")
RECORD_MAGIC: Final = b"SVRC"
RECORD_HEADER: Final = struct.Struct(">4sI32s32s")
RECORD_HEADER_BYTES: Final = 80


class Location(NamedTuple):
    """Where the sealed bytes of a chunk lie."""

    segment: int
    offset: int
    size: int


def record_bytes(size: int) -> int:
    """Return how much of a segment a chunk of `size` bytes takes."""
    return RECORD_HEADER_BYTES + size


def encode_record_header(contract_id: bytes, chunk_id: bytes, size: int) -> bytes:
    """Return the 80 bytes that precede a chunk in its segment."""
    fields = RECORD_HEADER.pack(RECORD_MAGIC, size, contract_id, chunk_id)
    return fields + struct.pack(">II", zlib.crc32(fields), 0)


class Segments:
    """The segment files of one store, one of which is appended to.

    Args:
        directory: holds the files; created by the store.
        files: file operations.
        segment_bytes: a segment that has reached this size is closed and a new one begun.
    """

    def __init__(self, directory: Path, files: FileOperations, segment_bytes: int) -> None:
        self._directory = directory
        self._files = files
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._direct = DirectWriter(files)
        self._reader = DirectReader(files)
        self.active = 0
        self.end = 0

    def path(self, segment: int) -> Path:
        """Return the file of a segment."""
        return self._directory / f"{segment:010d}.seg"

    def recover(self, ends: dict[int, int]) -> None:
        """Make the files agree with the index after any kind of stop.

        Args:
            ends: committed end of each segment that the index knows.
        """
        for path in self._directory.glob("*.seg"):
            if int(path.stem) not in ends:
                self._files.unlink(path)
        self.active = max(ends, default=0)
        self.end = self._segment_bytes
        if self.active and self.path(self.active).exists():
            descriptor = self._files.open_segment(self.path(self.active))
            end = ends[self.active]
            if os.fstat(descriptor).st_size < end:
                # Committed bytes are missing: leave the file as evidence and append to a new one.
                os.close(descriptor)
                return
            self._files.truncate(descriptor, end)
            self._descriptor, self.end = descriptor, end

    def append(self, chunks: Sequence[tuple[bytes, bytes, Payload]]) -> list[Location]:
        """Write and sync a batch behind the committed end; `advance` makes it part of the segment.

        Args:
            chunks: (contract id, chunk id, sealed bytes) of each chunk.

        Raises:
            OSError: nothing counts as written; the next append overwrites what is there.
        """
        if self.end >= self._segment_bytes or self._descriptor < 0:
            self._roll()
        buffers: list[bytes | bytearray | memoryview] = []
        locations = []
        offset = self.end
        for contract_id, chunk_id, payload in chunks:
            size = len(payload)
            buffers.append(encode_record_header(contract_id, chunk_id, size))
            buffers.extend(payload.pieces)
            locations.append(Location(self.active, offset + RECORD_HEADER_BYTES, size))
            offset += record_bytes(size)
        is_large = offset - self.end >= self._files.large_bytes
        is_past_cache = is_large and self._direct.write(self.path(self.active), self._descriptor, buffers, self.end)
        if not is_past_cache:
            self._files.write(self._descriptor, buffers, self.end)
        self._files.sync(self._descriptor)
        if is_large and not is_past_cache:
            self._files.drop_cached(self._descriptor, self.end, offset - self.end)
        return locations

    def advance(self, locations: Iterable[Location]) -> None:
        """Note that the index has committed these locations."""
        for location in locations:
            self.end = max(self.end, location.offset + location.size)

    def read(self, locations: Sequence[Location]) -> Iterator[bytes | memoryview | None]:
        """Yield the bytes at each location, None where the file ends early or fails.

        Files are opened per call, not cached: a descriptor that is closed while another thread reads
        through it could by then belong to another file.

        Args:
            locations: best sorted, so that each file is opened once and read forwards.

        Raises:
            FileNotFoundError: the segment is gone, which happens to a reader that a compaction overtakes.
        """
        for segment, group in groupby(locations, key=lambda location: location.segment):
            with ExitStack() as opened:
                descriptor = os.open(self.path(segment), os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, descriptor)
                direct = -1
                for location in group:
                    if location.size < DIRECT_READ_BYTES:
                        yield self._read_cached(descriptor, location)
                        continue
                    if direct < 0 and (direct := self._reader.open(self.path(segment))) >= 0:
                        opened.callback(os.close, direct)
                    data = self._reader.read(direct, location.offset, location.size) if direct >= 0 else None
                    yield self._read_cached(descriptor, location) if data is None else data
                    del data

    def _read_cached(self, descriptor: int, location: Location) -> bytes | None:
        try:
            data = os.pread(descriptor, location.size, location.offset)
        except OSError:
            data = b""
        if location.size >= self._files.large_bytes:
            self._files.drop_cached(descriptor, location.offset, location.size)
        return data if len(data) == location.size else None

    def release_buffers(self) -> None:
        """Give memory for reading that is idle back to the system."""
        self._reader.release()

    def remove(self, segment: int) -> None:
        """Delete the file of a segment that the index no longer knows."""
        self._files.unlink(self.path(segment))
        self._files.sync_directory(self._directory)

    def close(self) -> None:
        """Release the active file."""
        self._direct.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _roll(self) -> None:
        number = self.active + 1
        descriptor = self._files.open_segment(self.path(number))
        try:
            # A failed attempt may have left anything under this number.
            self._files.truncate(descriptor, 0)
            self._files.write(descriptor, [FILE_HEADER.pack(FILE_MAGIC, number)], 0)
            self._files.sync_directory(self._directory)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self.active, self.end = descriptor, number, FILE_HEADER.size
