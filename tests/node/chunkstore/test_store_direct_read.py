"""Reading past the page cache: every alignment, buffers that are in use, and file systems that refuse it."""

import errno
import os
import random
from pathlib import Path

import pytest

from sovereign_node.chunkstore.direct_read import MIN_BYTES, DirectReader
from sovereign_node.chunkstore.files import FileOperations
from sovereign_node.chunkstore.segments import Segments
from sovereign_protocols.chunk.limits import MAX_CHUNK_BYTES
from sovereign_protocols.framing import Payload


@pytest.fixture
def content(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "segment"
    data = random.Random(1).randbytes(9_000_001)
    path.write_bytes(data)
    return path, data


@pytest.fixture
def reader(content: tuple[Path, bytes]) -> DirectReader:
    reader = DirectReader(FileOperations())
    descriptor = reader.open(content[0])
    if descriptor < 0 or reader.read(descriptor, 0, 1) is None:
        pytest.fail("the file system of the tests reads through its cache only")
    os.close(descriptor)
    return reader


def test_all_alignments(reader: DirectReader, content: tuple[Path, bytes]) -> None:
    path, data = content
    descriptor = reader.open(path)
    for offset in (0, 1, 4_095, 4_096, 4_097, 80, 5_000_000):
        for size in (1, 4_096, MIN_BYTES, MIN_BYTES + 1, len(data) - offset):
            found = reader.read(descriptor, offset, size)
            if size <= MAX_CHUNK_BYTES:
                assert found == data[offset : offset + size]
    assert reader.read(descriptor, 0, MAX_CHUNK_BYTES) == data[:MAX_CHUNK_BYTES]
    assert reader.read(descriptor, 4_095, MAX_CHUNK_BYTES) == data[4_095 : 4_095 + MAX_CHUNK_BYTES]
    assert reader.read(descriptor, 0, 2 * MAX_CHUNK_BYTES) is None
    # The file ends before.
    assert reader.read(descriptor, len(data) - 10, 11) is None
    os.close(descriptor)


def test_a_buffer_is_used_again_only_when_nobody_refers_to_it(
    reader: DirectReader, content: tuple[Path, bytes]
) -> None:
    path, data = content
    descriptor = reader.open(path)
    kept = [reader.read(descriptor, number * 1000, MIN_BYTES) for number in range(8)]
    assert reader.read(descriptor, 0, 1) is None
    reader.release()
    assert kept == [data[number * 1000 : number * 1000 + MIN_BYTES] for number in range(8)]
    part = kept.pop()[5:10]  # type: ignore[index]
    assert reader.read(descriptor, 0, 1) is None
    part.release()
    del part
    assert reader.read(descriptor, 7, 1) == data[7:8]
    reader.release()
    assert kept == [data[number * 1000 : number * 1000 + MIN_BYTES] for number in range(7)]
    os.close(descriptor)


class Refusing(FileOperations):
    def __init__(self, code: int) -> None:
        self.code = code
        self.asked = 0

    def open_direct_read(self, path: Path) -> int:
        self.asked += 1
        raise OSError(self.code, "refused")


def stored(folder: Path, files: FileOperations) -> tuple[Segments, list[bytes], list[bytes | memoryview | None]]:
    segments = Segments(folder, files, 3_000_000)
    segments.recover({})
    chunks = [random.Random(size).randbytes(size) for size in (5_000, MIN_BYTES, MIN_BYTES + 88, 2_000_000, 4_184)]
    locations = []
    for data in chunks:
        locations += segments.append([(bytes(32), bytes(32), Payload([data]))])
        segments.advance(locations)
    return segments, chunks, list(segments.read(locations))


def test_small_and_large_chunks_of_several_segments(tmp_path: Path) -> None:
    segments, chunks, found = stored(tmp_path, FileOperations())
    assert found == chunks
    assert [type(data) for data in found] == [bytes, memoryview, memoryview, memoryview, bytes]
    segments.close()


def test_a_file_system_that_refuses_is_asked_once(tmp_path: Path) -> None:
    files = Refusing(errno.EINVAL)
    segments, chunks, found = stored(tmp_path, files)
    assert found == chunks
    assert files.asked == 1
    segments.close()


def test_a_segment_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectReader(Refusing(errno.ENOENT)).open(tmp_path / "gone")


def test_a_read_that_fails_is_repeated_in_the_usual_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(os, "preadv", fail)
    segments, chunks, found = stored(tmp_path, FileOperations())
    assert found == chunks
    segments.close()
