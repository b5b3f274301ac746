"""Writing past the page cache: every alignment, mixed with usual writes, and file systems that refuse it."""

import errno
import os
import random
from pathlib import Path

import pytest

from sovereign_node.chunkstore.direct import BLOCK_BYTES, DirectWriter
from sovereign_node.chunkstore.files import Buffers, FileOperations
from sovereign_node.chunkstore.segments import Segments
from sovereign_protocols.framing import Payload


class Watching(FileOperations):
    """Counts what goes which way; can refuse the direct one as some file systems do."""

    large_bytes = 10_000

    def __init__(self, refuse: str = "") -> None:
        self.refuse = refuse
        self.direct = self.usual = 0

    def open_direct(self, path: Path) -> int:
        if self.refuse == "open":
            raise OSError(errno.EINVAL, "refused")
        return super().open_direct(path)

    def write_direct(self, descriptor: int, blocks: memoryview, offset: int) -> None:
        if self.refuse == "write":
            raise OSError(errno.EINVAL, "refused")
        assert offset % BLOCK_BYTES == len(blocks) % BLOCK_BYTES == 0
        self.direct += 1
        super().write_direct(descriptor, blocks, offset)

    def write(self, descriptor: int, buffers: Buffers, offset: int) -> None:
        self.usual += 1
        super().write(descriptor, buffers, offset)


def can_write_direct(folder: Path) -> bool:
    probe = folder / "probe"
    probe.write_bytes(bytes(BLOCK_BYTES))
    return DirectWriter(FileOperations()).write(probe, -1, [bytes(BLOCK_BYTES)], 0)


def batches(seed: int) -> list[list[bytes]]:
    source = random.Random(seed)
    sizes = (1, 500, 3_999, 4_016, 9_999, 12_000, 100_000, 4_300_000)
    return [[source.randbytes(source.choice(sizes)) for _ in range(source.randint(1, 4))] for _ in range(25)]


@pytest.mark.parametrize("refuse", ["", "open", "write"])
def test_all_sizes_in_all_orders_are_read_back(tmp_path: Path, refuse: str) -> None:
    files = Watching(refuse)
    segments = Segments(tmp_path, files, 20_000_000)
    segments.recover({})
    stored = []
    for number, pieces in enumerate(batches(1)):
        chunks = [(bytes(32), number.to_bytes(32, "big"), Payload([piece[:100], piece[100:]])) for piece in pieces]
        if number % 5 == 4:
            # Written, but never committed: the next batch takes its place.
            segments.append(chunks)
            continue
        locations = segments.append(chunks)
        segments.advance(locations)
        stored += list(zip(locations, pieces, strict=True))
    assert [data for location, _ in stored for data in segments.read([location])] == [piece for _, piece in stored]
    assert len({location.segment for location, _ in stored}) > 1
    assert files.usual > 3
    assert bool(files.direct) == (not refuse and can_write_direct(tmp_path))
    segments.close()


def test_a_segment_is_continued_after_a_restart(tmp_path: Path) -> None:
    stored = []
    ends: dict[int, int] = {}
    for number in range(6):
        segments = Segments(tmp_path, Watching(), 10_000_000)
        segments.recover(ends)
        piece = os.urandom(20_001 + number)
        (location,) = segments.append([(bytes(32), bytes(32), Payload([piece]))])
        segments.advance([location])
        ends[location.segment] = location.offset + location.size
        stored.append((location, piece))
        segments.close()
    assert len(ends) == 1
    assert list(segments.read([location for location, _ in stored])) == [piece for _, piece in stored]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_error_of_the_disk_is_not_taken_for_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    files = FileOperations()
    path = tmp_path / "segment"
    path.write_bytes(b"before")
    writer = DirectWriter(files)
    descriptor = os.open(path, os.O_RDWR)

    def fail(*_: object) -> None:
        raise OSError(number, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_direct", fail)
        with pytest.raises(OSError, match="injected"):
            writer.write(path, descriptor, [b"x" * 5000], 6)
    if writer.write(path, descriptor, [b"y" * 5000], 6):
        assert path.read_bytes() == b"before" + b"y" * 5000 + bytes(-5006 % BLOCK_BYTES)
    # Less in the file than what should stay: nothing is made up in its place.
    assert not writer.write(path, descriptor, [b"z" * 5000], 20_000)
    writer.close()
    os.close(descriptor)
