from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import lmdb
import pytest
import trio
from vault_bench import Bench, NoHeads, age, listing, whole

from sovereign_node.vault import read
from sovereign_node.vault.config import Source
from sovereign_node.vault.errors import NoTargetError, TargetError, VaultError
from sovereign_node.vault.estimate import estimate
from sovereign_node.vault.report import Counters, ProgressNote
from sovereign_node.vault.target import DirectoryTarget, MemoryTarget, Sealed


def content_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


async def test_everything_comes_back(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    report = await vault.backup(whole(source))
    assert (report.files, report.directories, report.partial) == (9, 4, False)
    assert report.bytes_total == sum(
        p.stat().st_size for p in source.rglob("*") if p.is_file() and not p.is_symlink()
    )
    restored = await vault.restore(tmp_path / "out")
    assert restored.errors == ()
    assert (restored.files, restored.symlinks, restored.directories) == (7, 2, 4)
    assert listing(tmp_path / "out") == listing(source)
    assert (tmp_path / "out").stat().st_mtime_ns == source.stat().st_mtime_ns


async def test_unchanged_data_sends_nothing_but_a_head(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await trio.sleep(0.05)  # the files' ctime must lie in an earlier tick of the kernel's clock
    await vault.backup(whole(source))
    chunks = set(bench.target.chunks)
    for _ in range(5):
        report = await vault.backup(whole(source))
        assert (report.chunks_sent, report.bytes_read, report.files_changed) == (0, 0, 0)
        assert report.bytes_sent < 8192
        assert report.files == 9
    assert set(bench.target.chunks) == chunks
    assert len(await vault.snapshots()) == 6


async def test_a_change_deep_down_is_found_and_only_it_is_sent(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await trio.sleep(0.05)
    await vault.backup(whole(source))
    (source / "sub" / "deep" / "random").write_bytes(b"new content" * 1000)
    (source / "nothing").unlink()
    report = await vault.backup(whole(source))
    assert report.files_changed == 1
    assert report.bytes_read == 11_000
    assert report.bytes_sent < 40_000
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_a_lost_cache_costs_reading_but_no_sending(bench: Bench, source: Path) -> None:
    await bench.vault("one").backup(whole(source))
    chunks = len(bench.target.chunks)
    vault = bench.vault("two")
    report = await vault.backup(whole(source))
    assert report.chunks_sent == 0
    assert report.bytes_new == 0
    assert report.bytes_read == report.bytes_total
    assert len(bench.target.chunks) == chunks
    assert len(await vault.snapshots()) == 2


async def test_same_size_and_time_but_other_content_is_found_by_the_change_time(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await trio.sleep(0.05)
    await vault.backup(whole(source))
    before = (source / "note.txt").stat().st_mtime_ns
    (source / "note.txt").write_bytes(b"HELLO")
    os.utime(source / "note.txt", ns=(before, before))
    assert (await vault.backup(whole(source))).files_changed == 1


async def test_several_sources_lie_side_by_side(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup([Source(source / "sub"), Source(source / "note.txt", "renamed.txt")])
    assert [entry.name for entry in await vault.list_tree()] == [b"renamed.txt", b"sub"]
    await vault.restore(tmp_path / "out", paths=["sub/deep"])
    assert listing(tmp_path / "out" / "sub" / "deep") == listing(source / "sub" / "deep")
    assert sorted(os.listdir(tmp_path / "out")) == ["sub"]


async def test_an_unreadable_file_is_reported_and_the_rest_goes_on(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    (source / "gone").symlink_to("x")
    (source / "sub" / "pipe").unlink(missing_ok=True)
    os.mkfifo(source / "sub" / "pipe")
    locked = source / "sub" / "locked"
    locked.write_bytes(b"secret")

    report = await vault.backup([Source(source), Source(source / "missing")])
    assert report.partial
    assert [error.path.endswith("missing") for error in report.errors] == [True]
    assert report.files == 11


async def test_a_file_that_vanishes_or_turns_unreadable_is_left_out(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sovereign_node.vault.read as read

    original = read.open_regular

    def refuse(path: bytes) -> int:
        if path.endswith((b"note.txt", b"large")):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(read, "open_regular", refuse)
    vault = bench.vault()
    report = await vault.backup(whole(source))
    assert sorted(error.reason for error in report.errors) == ["Permission denied"] * 2
    assert report.partial
    assert report.files == 7
    monkeypatch.undo()
    report = await vault.backup(whole(source))
    assert not report.partial
    assert report.files == 9


async def test_exclusion_by_name_path_and_place(bench: Bench, source: Path) -> None:
    vault = bench.vault(exclude=("*.txt", "sub/deep"), exclude_paths=(source / "large",))
    await vault.backup(whole(source))
    assert b"note.txt" not in {entry.name for entry in await vault.list_tree()}
    assert b"large" not in {entry.name for entry in await vault.list_tree()}
    assert [entry.name for entry in await vault.list_tree(path="sub")] == [b"script", b"text"]


async def test_equal_content_is_stored_once(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "twins"
    root.mkdir()
    data = os.urandom(2_000_000)
    for number in range(4):
        (root / str(number)).write_bytes(data)
    report = await bench.vault().backup(whole(root))
    assert report.bytes_new == 2_000_000
    assert report.dedup_saved_bytes == 6_000_000
    assert report.bytes_sent < 2_200_000


async def test_what_shrinks_is_compressed_and_what_does_not_is_not(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "text"
    root.mkdir()
    (root / "text").write_bytes(b"all work and no play\n" * 100_000)
    report = await bench.vault().backup(whole(root))
    assert report.compression_saved_bytes > 2_000_000
    (root / "random").write_bytes(os.urandom(1_000_000))
    report = await bench.vault("other").backup(whole(root))
    assert report.compression_saved_bytes == 0


class FailingTarget(MemoryTarget):
    """Takes a number of chunks, then fails."""

    def __init__(self, name: str, takes: int, *, full: bool = False) -> None:
        super().__init__(name)
        self.left = takes
        self._full = full

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        if self.left <= 0:
            raise TargetError(self.name, "no", full=self._full)
        self.left -= 1
        await super().put(chunk_id, sealed)

    async def heads(self, locator: bytes) -> list[bytes]:
        if self.left < 0:
            raise TargetError(self.name, "away")
        return await super().heads(locator)


async def test_copies_go_to_all_targets(bench: Bench, source: Path, tmp_path: Path) -> None:
    other = DirectoryTarget(tmp_path / "disk")
    vault = bench.vault(targets=[bench.target, other])
    await vault.backup(whole(source))
    assert set(bench.target.chunks) == set(await other.list_ids(b"", 1000))
    # Either alone is enough.
    alone = bench.vault("alone", targets=[other])
    await alone.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_when_one_target_is_full_the_other_takes_the_rest(bench: Bench, source: Path, tmp_path: Path) -> None:
    small, large = FailingTarget("small", 2, full=True), MemoryTarget("large")
    vault = bench.vault(targets=[small, large], copies=1)
    report = await vault.backup(whole(source))
    assert [error.path for error in report.failed_targets] == ["small"]
    assert report.partial
    assert len(small.chunks) == 2
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_no_space_anywhere_is_one_clean_error_and_the_next_run_goes_on(bench: Bench, source: Path) -> None:
    target = FailingTarget("small", 2, full=True)
    vault = bench.vault(targets=[target])
    with pytest.raises(NoTargetError) as caught:
        await vault.backup(whole(source))
    assert caught.value.code == "storage_full"
    assert await target.heads(bench.keys.locator()) == []
    target.left = 1000
    report = await vault.backup(whole(source))
    assert not report.partial
    assert len(await vault.snapshots()) == 1


async def test_unreachable_targets_are_named(bench: Bench, source: Path) -> None:
    with pytest.raises(NoTargetError, match="away"):
        await bench.vault(targets=[FailingTarget("far", -1)]).backup(whole(source))
    with pytest.raises(NoTargetError, match="no target"):
        await bench.vault("none", targets=[]).backup(whole(source))


class StoppingTarget(MemoryTarget):
    """Cancels a scope after a number of chunks."""

    def __init__(self, after: int, scope: trio.CancelScope) -> None:
        super().__init__("stopping")
        self.after = after
        self.scope = scope

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        await super().put(chunk_id, sealed)
        self.after -= 1
        if self.after == 0:
            self.scope.cancel()


@pytest.mark.parametrize("after", [1, 3, 6])
async def test_a_cancelled_backup_is_resumed(bench: Bench, source: Path, tmp_path: Path, after: int) -> None:
    (source / "more").write_bytes(os.urandom(30_000_000))
    target = StoppingTarget(after, trio.CancelScope())
    vault = bench.vault(targets=[target], commit_bytes=1)
    with target.scope:
        await vault.backup(whole(source))
    assert target.scope.cancelled_caught
    assert await target.heads(bench.keys.locator()) == []
    stored = sum(map(len, target.chunks.values()))
    vault.close()
    again = bench.vault(targets=[target])
    report = await again.backup(whole(source))
    # What had been acknowledged and noted is not sent again; the last few may not have been noted.
    assert report.bytes_new <= report.bytes_total - stored + 5 * 4_200_000
    await again.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_a_cancelled_backup_notes_all_that_was_acknowledged(bench: Bench, source: Path) -> None:
    (source / "more").write_bytes(os.urandom(30_000_000))
    target = StoppingTarget(4, trio.CancelScope())
    vault = bench.vault(targets=[target])
    with target.scope:
        await vault.backup(whole(source))
    # Far fewer bytes than those after which progress is noted anyway.
    stored = sum(map(len, target.chunks.values()))
    target.after = -1
    report = await vault.backup(whole(source))
    assert report.bytes_new <= report.bytes_total - stored + 4_200_000


async def test_progress_is_told(bench: Bench, source: Path) -> None:
    notes: list[ProgressNote] = []
    await bench.vault().backup(whole(source), notes.append)
    assert notes[-1].bytes_done == content_bytes(source)
    assert notes[-1].files_done == 9
    assert notes[-1].phase == "publish"
    assert (notes[-1].files_total, notes[-1].bytes_total) == (9, content_bytes(source))
    assert notes[-1].eta_s == 0
    assert notes[-1].bytes_sent > 9_000_000


async def test_everything_comes_back_where_reads_always_wait(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "_NO_WAIT", None)
    vault = bench.vault()
    assert (await vault.backup(whole(source))).errors == ()
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


def test_only_what_is_as_it_was_listed_is_read_without_a_second_look(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x" * 5000):
        path.write_bytes(content)
        # Other systems than Linux can't tell whether a read would wait.
        expected = content if read._NO_WAIT is not None else None
        assert read.read_cached(os.fsencode(path), path.stat()) == expected
    listed = path.stat()
    path.write_bytes(b"longer" * 1000)
    assert read.read_cached(os.fsencode(path), listed) is None
    path.write_bytes(b"y" * 5000)
    os.utime(path, ns=(1, 1))
    assert read.read_cached(os.fsencode(path), listed) is None
    path.unlink()
    assert read.read_cached(os.fsencode(path), listed) is None
    path.mkdir()
    assert read.read_cached(os.fsencode(path), listed) is None


async def test_a_long_first_backup_is_estimated_meanwhile(source: Path) -> None:
    counters, turn = Counters(), threading.Lock()
    (source / "sub" / "closed").mkdir(mode=0)
    estimate(
        [Source(source), Source(source / "note.txt"), Source(source / "gone")], counters, threading.Event(), turn
    )
    assert counters.files_expected == 9 + 1
    assert counters.bytes_expected == content_bytes(source) + 5
    assert not turn.locked()
    stop = threading.Event()
    stop.set()
    estimate([Source(source)], given_up := Counters(), stop, turn)
    assert given_up.files_expected == 0


async def test_many_snapshots_move_into_catalogs(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    vault = bench.vault()
    for number in range(70):
        if number % 2:
            (root / "file").write_bytes(b"%d" % number)
        await vault.backup(whole(root))
    snapshots = await vault.snapshots()
    assert len(snapshots) == 70
    assert [item.content.created_at for item in snapshots] == sorted(item.content.created_at for item in snapshots)
    assert len({item.snapshot_id for item in snapshots}) == 70
    # The log-structured list keeps segments few.
    assert len(await bench.vault("reader").snapshots()) == 70
    heads = await bench.target.heads(bench.keys.locator())
    assert len(heads[0]) < 20_000


async def test_a_folder_of_many_files_is_split_into_nodes(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(6000):
        (root / f"file number {number:05}").write_bytes(b"%d" % number)
    age(root)
    vault = bench.vault()
    await vault.backup(whole(root))
    assert len(await vault.list_tree()) == 6000
    (root / "file number 03000").write_bytes(b"changed")
    report = await vault.backup(whole(root))
    assert report.bytes_sent < 120_000
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(root)


async def test_a_disk_that_fails_is_a_clean_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = DirectoryTarget(tmp_path / "disk")
    await target.put(b"c" * 32, b"sealed")
    assert await target.have([b"c" * 32, b"d" * 32]) == [True, False]
    await target.delete([b"c" * 32, b"d" * 32])
    assert await target.have([b"c" * 32]) == [False]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TargetError, match="No space") as caught:
        await target.put(b"c" * 32, b"sealed")
    assert caught.value.full
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("nth", range(1, 9))
async def test_disk_full_at_the_nth_write_leaves_a_project_that_works(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    target = DirectoryTarget(tmp_path / "disk")
    vault = bench.vault(targets=[target])
    original, left = os.fsync, nth

    def fails_once(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(28, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fails_once)
    with contextlib.suppress(VaultError):
        await vault.backup(whole(source))
    monkeypatch.undo()
    await vault.backup(whole(source))
    assert (await vault.verify(read_data=1.0)).errors == ()
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_a_damaged_cache_is_thrown_away(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    vault.close()
    (bench.folder / "laptop" / "cache" / "index" / "data.mdb").write_bytes(b"rotten" * 2000)
    report = await bench.vault().backup(whole(source))
    assert report.bytes_new == 0


async def test_a_cache_that_can_not_be_written_is_a_clean_error(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = bench.vault()

    def fails(*_: object) -> None:
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(vault._context.index, "add_pending", fails)
    with pytest.raises(VaultError) as caught:
        await vault.backup(whole(source))
    assert caught.value.code == "disk_full"


async def test_a_head_that_no_target_took_hides_nothing(bench: Bench, source: Path, tmp_path: Path) -> None:
    target = NoHeads()
    target.chunks, target.stored_heads = bench.target.chunks, bench.target.stored_heads
    with pytest.raises(NoTargetError):
        await bench.vault(targets=[target]).backup(whole(source))
    bench.opened[-1].close()
    report = await bench.vault().backup(whole(source))
    assert report.bytes_new == 0
    await bench.vault("fresh").restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


@pytest.mark.parametrize("name", [b"cafe\xcc\x81", b"\xff\xfe", b"n" * 255, b"a\nb"])
async def test_sources_of_any_name(bench: Bench, source: Path, tmp_path: Path, name: bytes) -> None:
    odd = tmp_path / os.fsdecode(name)
    source.rename(odd)
    vault = bench.vault()
    await vault.backup(whole(odd))
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(odd)
