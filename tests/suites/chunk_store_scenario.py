"""A run of everything a store writes, with a ledger of what was acknowledged; made to be interrupted anywhere.

Started as a program it exits hard at one file operation:
    chunk_store_scenario.py DIRECTORY OPERATION before|after|torn|lost
and prints each acknowledged step.
"""

import hashlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from sovereign_node.chunkstore import LogChunkStore, RecoveryRecord
from sovereign_node.chunkstore.files import Buffers, FileOperations

CONTRACT = b"\x01" * 32
LOCATOR = b"\x03" * 32
DEVICE = b"\x04" * 32
QUOTA = 10_000_000


def chunk(seed: int) -> tuple[bytes, bytes]:
    data = random.Random(seed).randbytes(5_000)
    return hashlib.sha256(data).digest(), data


def keys(first: int, last: int) -> list[bytes]:
    return [chunk(seed)[0] for seed in range(first, last)]


# Each step can be repeated after a failure and leads to the same state.
STEPS: dict[str, Callable[[LogChunkStore], object]] = {
    "quota": lambda store: store.set_quota(CONTRACT, QUOTA),
    "put 0-4": lambda store: store.put_many(CONTRACT, [chunk(seed) for seed in range(4)]),
    "put 4-8": lambda store: store.put_many(CONTRACT, [chunk(seed) for seed in range(4, 8)]),
    "put 8-12": lambda store: store.put_many(CONTRACT, [chunk(seed) for seed in range(8, 12)]),
    "head": lambda store: store.set_head(CONTRACT, LOCATOR, DEVICE, b"head", None),
    "recovery": lambda store: store.set_recovery(RecoveryRecord(CONTRACT, LOCATOR, 1, b"key", b"sealed")),
    "mark": lambda store: store.mark_deleted(CONTRACT, keys(0, 7), 100),
    "undelete": lambda store: store.undelete(CONTRACT, keys(0, 1)),
    "purge": lambda store: store.purge(100),
    "compact": lambda store: store.compact(),
    "put 12-16": lambda store: store.put_many(CONTRACT, [chunk(seed) for seed in range(12, 16)]),
}


def open_store(directory: Path, files: FileOperations | None = None) -> LogChunkStore:
    return LogChunkStore(directory, reserve_bytes=0, segment_bytes=20_000, files=files)


def check(store: LogChunkStore, done: list[str]) -> None:
    """Compare a store with the steps that were acknowledged; the one after them may have happened or not."""
    wanted: set[int] = set()
    for step in done:
        if step.startswith("put"):
            first, last = step.removeprefix("put ").split("-")
            wanted |= set(range(int(first), int(last)))
    steps = list(STEPS)
    following = steps[len(done)] if len(done) < len(steps) else ""
    if "mark" in done or following == "mark":
        wanted -= set(range(1, 7))
        if "undelete" not in done:
            wanted.discard(0)
    if "quota" in done:
        for seed in wanted:
            assert store.get(CONTRACT, chunk(seed)[0]) == chunk(seed)[1], seed
        usage = store.usage(CONTRACT)
        readable = [key for key in keys(0, 16) if store.get(CONTRACT, key) is not None]
        assert (usage.chunks, usage.size_bytes) == (len(readable), 5_000 * len(readable))
        assert store.heads(CONTRACT, LOCATOR) == ([(DEVICE, b"head")] if "head" in done else []) or (
            following == "head"
        )
        assert len(store.recovery(LOCATOR)) == ("recovery" in done) or following == "recovery"
        assert store.quarantined(CONTRACT) == []
    assert store.scrub().corrupt == ()
    with store.index.read() as transaction:
        segments = store.index.segments(transaction)
    assert all(0 <= live <= end for end, live in segments.values())
    named = {store.segments.path(number).name for number in segments}
    present = {path.name for path in store.segments.path(0).parent.iterdir()}
    assert named <= present


class CountingFiles(FileOperations):
    """Calls `self.strike` at operation number `at`, counted over all kinds of operations."""

    # The batches of the scenario go past the page cache, what compaction moves does not.
    large_bytes = 16 * 1024

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.count = 0
        self.names: list[str] = []

    def strike(self, name: str, perform: Callable[[], object]) -> None:
        raise NotImplementedError

    def _do(self, name: str, perform: Callable[[], object]) -> object:
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            self.strike(name, perform)
            return None
        return perform()

    def open_segment(self, path: Path) -> int:
        found: list[int] = []
        self._do("open", lambda: found.append(FileOperations.open_segment(self, path)))
        return found[0] if found else -1

    def write(self, descriptor: int, buffers: Buffers, offset: int) -> None:
        self.half = lambda: os.pwrite(descriptor, b"".join(buffers)[: sum(map(len, buffers)) // 2], offset)
        self._do("write", lambda: FileOperations.write(self, descriptor, buffers, offset))

    def open_direct(self, path: Path) -> int:
        found: list[int] = []
        self._do("open past cache", lambda: found.append(FileOperations.open_direct(self, path)))
        return found[0] if found else -1

    def write_direct(self, descriptor: int, blocks: memoryview, offset: int) -> None:
        half_bytes = len(blocks) // 2 // 4096 * 4096
        self.half = lambda: os.pwrite(descriptor, blocks[:half_bytes], offset)
        self._do("write", lambda: FileOperations.write_direct(self, descriptor, blocks, offset))

    def sync(self, descriptor: int) -> None:
        self._do("sync", lambda: FileOperations.sync(self, descriptor))

    def sync_directory(self, path: Path) -> None:
        self._do("sync directory", lambda: FileOperations.sync_directory(self, path))

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        self._do("truncate", lambda: FileOperations.truncate(self, descriptor, size_bytes))

    def unlink(self, path: Path) -> None:
        self._do("unlink", lambda: FileOperations.unlink(self, path))

    def commit(self, transaction: object) -> None:
        self._do("commit", lambda: FileOperations.commit(self, transaction))


class ExitingFiles(CountingFiles):
    """Leaves the process without a goodbye, as kill -9 does; `lost` also takes unsynced bytes away."""

    def __init__(self, at: int, mode: str) -> None:
        super().__init__(at)
        self.mode = mode
        self.synced: dict[int, int] = {}

    def open_segment(self, path: Path) -> int:
        descriptor = super().open_segment(path)
        self.synced[descriptor] = os.fstat(descriptor).st_size
        return descriptor

    def open_direct(self, path: Path) -> int:
        descriptor = super().open_direct(path)
        # The number may be that of a segment that was closed.
        self.synced.pop(descriptor, None)
        return descriptor

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.synced[descriptor] = os.fstat(descriptor).st_size

    def strike(self, name: str, perform: Callable[[], object]) -> None:
        if self.mode == "torn" and name == "write":
            self.half()
        elif self.mode in ("after", "lost"):
            perform()
        if self.mode == "lost" and name != "sync":
            for descriptor, size in self.synced.items():
                try:
                    os.ftruncate(descriptor, min(size, os.fstat(descriptor).st_size))
                except OSError:
                    continue
        os._exit(9)


if __name__ == "__main__":
    store = open_store(Path(sys.argv[1]), ExitingFiles(int(sys.argv[2]), sys.argv[3]))
    for name, step in STEPS.items():
        step(store)
        sys.stdout.write(name + "\n")
        sys.stdout.flush()
    store.close()
