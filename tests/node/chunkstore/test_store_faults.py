"""The disk fails at every single operation: clean error, no partial effect, and a retry works."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import chunk_store_scenario as scenario
import lmdb
import pytest
from chunk_store_scenario import CONTRACT, LOCATOR, STEPS, CountingFiles, chunk, keys, open_store

from sovereign_node.chunkstore import LogChunkStore, StorageError, StoreFullError


class FailingFiles(CountingFiles):
    """Fails once, in one of several ways."""

    def __init__(self, at: int, mode: str) -> None:
        super().__init__(at)
        self.mode = mode

    def strike(self, name: str, perform: Callable[[], object]) -> None:
        if name == "commit":
            raise lmdb.DiskError("no space") if self.mode != "eio" else lmdb.Error("i/o error")
        if self.mode == "short" and name == "write":
            self.half()
        raise OSError(errno.EIO if self.mode == "eio" else errno.ENOSPC, "injected")


def digest(store: LogChunkStore) -> object:
    if CONTRACT not in store.contracts():
        return None
    contents = [store.get(CONTRACT, key) for key in keys(0, 16)]
    return store.usage(CONTRACT), contents, store.heads(CONTRACT, LOCATOR), store.recovery(LOCATOR)


def run_failing(directory: Path, at: int, mode: str) -> bool:
    """Run the scenario with a failure at operation `at`; return whether there was such an operation."""
    files = FailingFiles(-1, mode)
    store = open_store(directory, files)
    files.at, files.count = at, 0
    for name, step in STEPS.items():
        before = digest(store)
        try:
            step(store)
        except (StoreFullError, StorageError) as error:
            is_full = isinstance(error, StoreFullError)
            assert is_full == (mode != "eio")
            if name != "compact":
                assert digest(store) == before
            step(store)
        except OSError:
            # Only the removal of an emptied segment may fail after its commit.
            assert name == "compact"
            step(store)
    scenario.check(store, list(STEPS))
    store.close()
    again = open_store(directory)
    scenario.check(again, list(STEPS))
    again.close()
    return files.count >= at


@pytest.mark.parametrize("mode", ["full", "short", "eio"])
def test_failure_at_every_operation(tmp_path: Path, mode: str) -> None:
    at = 1
    while run_failing(tmp_path / str(at), at, mode):
        at += 1
    assert at > 30


def test_a_limit_of_the_system_on_file_size(tmp_path: Path) -> None:
    """The kernel cuts the first write that crosses the limit and refuses the next; the index is cut off too."""
    program = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(scenario.__file__).parent)!r})
from chunk_store_scenario import *
from sovereign_node.chunkstore import ChunkStoreError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
failures = 0
try:
    store = LogChunkStore(Path(sys.argv[1]), reserve_bytes=0)
    store.set_quota(CONTRACT, QUOTA)
    done = []
    for seed in range(100):
        try:
            store.put_many(CONTRACT, [chunk(seed)])
            done.append(seed)
        except ChunkStoreError:
            failures += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            store.put_many(CONTRACT, [chunk(seed)])
            done.append(seed)
    assert len(done) == 100
    assert all(store.get(CONTRACT, chunk(seed)[0]) == chunk(seed)[1] for seed in done)
    assert store.scrub().corrupt == ()
    store.close()
except ChunkStoreError:
    failures += 1
print(failures)
"""
    for limit in (20_000, 60_000, 123_456, 300_000):
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / str(limit)), str(limit)],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert run.stdout.strip() == "1"


def test_a_failing_read_counts_as_rot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.set_quota(CONTRACT, 10**6)
    store.put_many(CONTRACT, [chunk(1)])

    def fail(*_arguments: object) -> bytes:
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        assert store.get(CONTRACT, chunk(1)[0]) is None
    assert store.quarantined(CONTRACT) == [chunk(1)[0]]
    store.close()


def test_the_disks_size_cannot_be_asked(tmp_path: Path) -> None:
    class Blind(CountingFiles):
        def disk_space(self, path: Path) -> tuple[int, int]:
            raise OSError(errno.EIO, "injected")

    store = open_store(tmp_path, Blind())
    store.set_quota(CONTRACT, 10**6)
    with pytest.raises(StorageError):
        store.put_many(CONTRACT, [chunk(1)])
    store.close()
