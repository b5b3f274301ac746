"""The embedded store: the contract, and what is its own (files, bit rot, compaction, start-up)."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunk_store_suite import CONTRACT, OTHER, ChunkStoreContract, chunk

from sovereign_node.chunkstore import (
    ChunkStore,
    LogChunkStore,
    PutOutcome,
    StoreFormatError,
    StoreFullError,
    StoreInUseError,
)
from sovereign_node.chunkstore.files import FileOperations
from sovereign_node.chunkstore.segments import record_bytes


def open_store(directory: Path, **options: object) -> LogChunkStore:
    return LogChunkStore(directory, **{"reserve_bytes": 0, "segment_bytes": 20_000} | options)


class TestLogStore(ChunkStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ChunkStore]:
        store = open_store(tmp_path / "chunks")
        yield store
        store.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "chunks"


@pytest.fixture
def filled(directory: Path) -> Iterator[LogChunkStore]:
    """Five segments of four chunks of 5,000 bytes."""
    store = open_store(directory)
    store.set_quota(CONTRACT, 10_000_000)
    for seed in range(0, 20, 4):
        store.put_many(CONTRACT, [chunk(number) for number in range(seed, seed + 4)])
    yield store
    store.close()


def flip(directory: Path, key_seed: int, store: LogChunkStore) -> None:
    with store.index.read() as transaction:
        row = store.index.chunk(transaction, store.prefix(CONTRACT) + chunk(key_seed)[0])
    assert row is not None
    with store.segments.path(row.location.segment).open("r+b") as file:
        file.seek(row.location.offset + 100)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_reopen_finds_everything(directory: Path) -> None:
    with_store = open_store(directory)
    with_store.set_quota(CONTRACT, 1_000_000)
    with_store.put_many(CONTRACT, [chunk(seed) for seed in range(10)])
    with_store.mark_deleted(CONTRACT, [chunk(3)[0]], 77)
    with_store.add_sent_bytes(CONTRACT, 55)
    usage = with_store.usage(CONTRACT)
    with_store.close()
    again = open_store(directory)
    assert again.usage(CONTRACT) == usage
    assert again.usage(CONTRACT).sent_bytes == 55
    assert again.get(CONTRACT, chunk(9)[0]) == chunk(9)[1]
    again.put_many(CONTRACT, [chunk(50)])
    assert again.purge(77).chunks == 1
    assert again.scrub().corrupt == ()
    again.close()


def test_only_one_opener(filled: LogChunkStore, directory: Path) -> None:
    with pytest.raises(StoreInUseError):
        open_store(directory)


def test_a_newer_format_is_refused_and_not_touched(directory: Path) -> None:
    store = open_store(directory)
    with store.writing() as transaction:
        store.index.put(transaction, "meta", b"version", b"\0\0\0\2")
    store.close()
    before = (directory / "index.lmdb").read_bytes()
    with pytest.raises(StoreFormatError):
        open_store(directory)
    assert (directory / "index.lmdb").read_bytes() == before


def test_something_else_is_refused(directory: Path) -> None:
    directory.mkdir()
    (directory / "index.lmdb").write_bytes(b"no index" * 10_000)
    with pytest.raises(StoreFormatError):
        open_store(directory)


def test_files_are_private(filled: LogChunkStore, directory: Path) -> None:
    assert directory.stat().st_mode & 0o077 == 0
    for path in directory.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0


def test_rot_is_found_by_scrub(filled: LogChunkStore, directory: Path) -> None:
    key, data = chunk(6)
    flip(directory, 6, filled)
    before = filled.usage(CONTRACT)
    report = filled.scrub()
    assert report.checked == 20
    assert report.corrupt == ((CONTRACT, key),)
    assert filled.has(CONTRACT, [key]) == [False]
    assert filled.get(CONTRACT, key) is None
    assert filled.quarantined(CONTRACT) == [key]
    assert filled.statistics().quarantined == 1
    assert filled.usage(CONTRACT).size_bytes == before.size_bytes - 5_000
    assert filled.put_many(CONTRACT, [(key, data)]) == [PutOutcome.STORED]
    assert filled.quarantined(CONTRACT) == []
    assert filled.get(CONTRACT, key) == data
    assert filled.usage(CONTRACT).size_bytes == before.size_bytes
    assert filled.scrub().corrupt == ()


def test_storing_a_chunk_again_replaces_rot_that_nobody_has_found(filled: LogChunkStore, directory: Path) -> None:
    key, data = chunk(6)
    flip(directory, 6, filled)
    before = filled.usage(CONTRACT)
    assert filled.put_many(CONTRACT, [(key, data)]) == [PutOutcome.STORED]
    assert filled.get(CONTRACT, key) == data
    assert filled.usage(CONTRACT).size_bytes == before.size_bytes
    assert filled.put_many(CONTRACT, [(key, data)]) == [PutOutcome.EXISTING]
    assert filled.scrub().corrupt == ()


def test_scrub_in_steps(filled: LogChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sovereign_node.chunkstore.maintenance._PAGE_CHUNKS", 3)
    cursor, checked = None, 0
    for _ in range(7):
        report = filled.scrub(cursor=cursor, max_bytes=1)
        checked += report.checked
        cursor = report.cursor
    assert checked == 20
    assert filled.scrub(cursor=cursor, max_bytes=1).cursor is None


def test_a_lost_segment_is_reported_missing(filled: LogChunkStore) -> None:
    with filled.index.read() as transaction:
        row = filled.index.chunk(transaction, filled.prefix(CONTRACT) + chunk(0)[0])
    assert row is not None
    filled.segments.path(row.location.segment).unlink()
    assert filled.get(CONTRACT, chunk(0)[0]) is None
    assert filled.quarantined(CONTRACT) == [chunk(0)[0]]
    assert len(filled.scrub().corrupt) == 3
    assert filled.get(CONTRACT, chunk(5)[0]) == chunk(5)[1]


def test_a_cut_active_segment_is_kept_and_not_appended_to(directory: Path) -> None:
    store = open_store(directory, segment_bytes=1_000_000)
    store.set_quota(CONTRACT, 1_000_000)
    store.put_many(CONTRACT, [chunk(0), chunk(1)])
    path = store.segments.path(store.segments.active)
    store.close()
    os.truncate(path, path.stat().st_size - 10)
    again = open_store(directory, segment_bytes=1_000_000)
    again.put_many(CONTRACT, [chunk(2)])
    assert again.get(CONTRACT, chunk(0)[0]) == chunk(0)[1]
    assert again.get(CONTRACT, chunk(1)[0]) is None
    assert again.get(CONTRACT, chunk(2)[0]) == chunk(2)[1]
    again.close()


def test_compaction_gives_space_back(filled: LogChunkStore, directory: Path) -> None:
    assert filled.compact() == 0
    gone = [0, 1, 2, 4, 5, 6, 7, 8]
    filled.mark_deleted(CONTRACT, [chunk(seed)[0] for seed in gone], 5)
    filled.purge(5)
    before = sum(path.stat().st_size for path in (directory / "segments").iterdir())
    freed = filled.compact()
    after = sum(path.stat().st_size for path in (directory / "segments").iterdir())
    assert freed == 2 * (16 + 4 * record_bytes(5_000))
    assert after == before - freed + 16 + record_bytes(5_000)
    for seed in set(range(20)) - set(gone):
        assert filled.get(CONTRACT, chunk(seed)[0]) == chunk(seed)[1]
    assert filled.scrub().corrupt == ()
    assert filled.compact() == 0


def test_compaction_keeps_marks_and_does_not_copy_rot(filled: LogChunkStore, directory: Path) -> None:
    filled.mark_deleted(CONTRACT, [chunk(seed)[0] for seed in (0, 1, 2)], 5)
    filled.purge(5)
    filled.mark_deleted(CONTRACT, [chunk(3)[0]], 9)
    filled.mark_deleted(CONTRACT, [chunk(seed)[0] for seed in (4, 5, 6)], 5)
    filled.purge(5)
    flip(directory, 7, filled)
    assert filled.compact() > 0
    assert filled.get(CONTRACT, chunk(3)[0]) == chunk(3)[1]
    assert filled.quarantined(CONTRACT) == [chunk(7)[0]]
    assert filled.purge(9).chunks == 1
    assert filled.usage(CONTRACT).chunks == 12


def test_readers_survive_compaction(filled: LogChunkStore) -> None:
    kept = [chunk(seed) for seed in range(0, 16, 4)]
    doomed = [chunk(seed)[0] for seed in range(16) if seed % 4]
    stop = threading.Event()
    wrong: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            wrong.extend(
                key for key, data in filled.get_many(CONTRACT, [k for k, _ in kept]) if data != dict(kept)[key]
            )

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    filled.mark_deleted(CONTRACT, doomed, 1)
    filled.purge(1)
    filled.compact()
    for seed in range(100, 160):
        filled.put_many(CONTRACT, [chunk(seed)])
    filled.mark_deleted(CONTRACT, [chunk(seed)[0] for seed in range(100, 160)], 2)
    filled.purge(2)
    filled.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert filled.quarantined(CONTRACT) == []


def test_the_disk_keeps_a_reserve(directory: Path) -> None:
    class SmallDisk(FileOperations):
        free = 10_000

        def disk_space(self, path: Path) -> tuple[int, int]:
            return 10**12, self.free

    files = SmallDisk()
    store = open_store(directory, reserve_bytes=5_000, files=files)
    store.set_quota(CONTRACT, 10**6)
    assert store.put_many(CONTRACT, [chunk(1, 5_000)]) == [PutOutcome.STORED]
    with pytest.raises(StoreFullError):
        store.put_many(CONTRACT, [chunk(2, 5_001)])
    store.close()
    files.free = 49 * 10**9
    again = open_store(directory, reserve_bytes=None, files=files)
    with pytest.raises(StoreFullError):
        again.put_many(CONTRACT, [chunk(3)])
    files.free = 51 * 10**9
    assert again.put_many(CONTRACT, [chunk(3)]) == [PutOutcome.STORED]
    again.close()


def test_contracts_with_neighbouring_ids_stay_apart(filled: LogChunkStore) -> None:
    filled.set_quota(OTHER, 10**6)
    filled.put_many(OTHER, [chunk(500)])
    assert set(filled.iter_ids(CONTRACT)) == {chunk(seed)[0] for seed in range(20)}
    assert list(filled.iter_ids(OTHER)) == [chunk(500)[0]]
    assert filled.drop_contract(CONTRACT).chunks == 20
    assert filled.get(OTHER, chunk(500)[0]) == chunk(500)[1]
