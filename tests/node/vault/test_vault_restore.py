"""Restoring: subsets, what is there already, hostile trees, targets that fail."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from vault_bench import Bench, listing, whole

from sovereign_crypto.chunks import blob_id
from sovereign_node.errors import NodeError
from sovereign_node.vault.config import Source
from sovereign_node.vault.errors import ChunkUnavailableError, TargetError
from sovereign_node.vault.fetch import Fetcher
from sovereign_node.vault.report import ProgressNote
from sovereign_node.vault.rewrite import open_run, rewrite_head
from sovereign_node.vault.safe_fs import Existing, TargetTree
from sovereign_node.vault.session import open_session
from sovereign_node.vault.target import MemoryTarget
from sovereign_protocols.vault import tree
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import Snapshot
from sovereign_protocols.vault.tree import Content, Entry, Kind


async def test_a_part_keeps_its_place(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    report = await vault.restore(tmp_path / "out", paths=["/sub/deep/", b"note.txt"])
    assert report.errors == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["note.txt", "sub"]
    assert listing(tmp_path / "out" / "sub" / "deep") == listing(source / "sub" / "deep")
    assert (tmp_path / "out" / "sub").stat().st_mode & 0o777 == 0o705
    report = await vault.restore(tmp_path / "other", paths=["no/such"])
    assert report.partial
    assert report.errors[0].path == "no/such"


async def test_what_is_there_is_never_overwritten_silently(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    out = tmp_path / "out"
    out.mkdir()
    (out / "note.txt").write_bytes(b"mine")
    (out / "link").symlink_to("elsewhere")
    (out / "sub").mkdir()
    (out / "sub" / "other").write_bytes(b"stays")
    report = await vault.restore(out)
    assert sorted(error.path for error in report.errors) == ["link", "note.txt"]
    assert (out / "note.txt").read_bytes() == b"mine"
    assert (out / "sub" / "other").read_bytes() == b"stays"
    kept = await vault.restore(out, existing=Existing.KEEP)
    assert kept.errors == ()
    assert kept.files == 0
    assert (out / "note.txt").read_bytes() == b"mine"
    replaced = await vault.restore(out, existing=Existing.REPLACE)
    assert (replaced.errors, replaced.files, replaced.symlinks) == ((), 1, 1)
    (out / "sub" / "other").unlink()
    os.utime(out / "sub", ns=((source / "sub").stat().st_mtime_ns,) * 2)
    assert listing(out) == listing(source)


async def test_a_symlink_in_the_way_is_not_followed(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(outside)
    report = await vault.restore(out, existing=Existing.REPLACE)
    assert any(error.path.startswith("sub") for error in report.errors)
    assert list(outside.iterdir()) == []
    assert (out / "note.txt").read_bytes() == b"hello"


async def test_one_file_can_be_read_without_a_disk(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    for name in ("large", "note.txt", "nothing"):
        async with vault.read_file(name) as pieces:
            assert b"".join([piece async for piece in pieces]) == (source / name).read_bytes()
    with pytest.raises(NodeError, match="not a file"):
        async with vault.read_file("sub"):
            pass
    with pytest.raises(NodeError, match="the snapshot has no"):
        await vault.list_tree(path="nowhere")
    assert [entry.name for entry in await vault.list_tree(path="sub/script")] == [b"script"]


async def test_unknown_and_ambiguous_snapshots(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    with pytest.raises(NodeError, match="no snapshot"):
        await vault.restore(tmp_path / "out")
    for _ in range(20):
        await vault.backup(whole(source))
    assert (await vault.snapshot()).snapshot_id == (await vault.snapshots())[-1].snapshot_id
    digits = [item.snapshot_id.hex()[0] for item in await vault.snapshots()]
    doubled = max(digits, key=digits.count)
    with pytest.raises(NodeError, match="fits"):
        await vault.snapshot(doubled)


async def test_no_room_is_said_before_anything_is_written(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    monkeypatch.setattr(TargetTree, "free_bytes", lambda _: 1000)
    with pytest.raises(NodeError, match="needs"):
        await vault.restore(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_full_disk_fails_files_not_the_restore(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    original = os.pwritev
    written = 0

    def limited(descriptor: int, pieces: list[memoryview], at: int) -> int:
        nonlocal written
        written += sum(map(len, pieces))
        if written > 5_000_000:
            raise OSError(28, "No space left on device")
        return original(descriptor, pieces, at)

    monkeypatch.setattr(os, "pwritev", limited)
    report = await vault.restore(tmp_path / "out")
    monkeypatch.undo()
    assert {error.reason for error in report.errors} == {"No space left on device"}
    assert not (tmp_path / "out" / "large").exists()
    # The next run, with room, completes it, and does not fetch again what is there.
    report = await vault.restore(tmp_path / "out")
    assert report.errors == ()
    assert report.present > 3
    assert listing(tmp_path / "out").keys() == listing(source).keys()


async def test_what_the_system_writes_short_is_completed(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    original, short = os.pwritev, 0

    def shortened(descriptor: int, pieces: list[memoryview], at: int) -> int:
        nonlocal short
        short += 1
        return original(descriptor, [memoryview(pieces[0])[:1000]], at)

    monkeypatch.setattr(os, "pwritev", shortened)
    report = await vault.restore(tmp_path / "out")
    monkeypatch.undo()
    assert short > 1
    assert report.errors == ()
    assert listing(tmp_path / "out") == listing(source)


class Liar(MemoryTarget):
    """Answers with other chunks, broken chunks, nothing, or an error."""

    def __init__(self, honest: MemoryTarget, lie: int) -> None:
        super().__init__("liar")
        self.lie = lie
        self.chunks, self.stored_heads = honest.chunks, honest.stored_heads
        self.asked = 0

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        for chunk_id in ids:
            self.asked += 1
            good = self.chunks[chunk_id]
            match self.lie:
                case 0:
                    yield chunk_id, good[:-1] + bytes((good[-1] ^ 1,))
                case 1:
                    yield chunk_id, next(iter(self.chunks.values()))
                case 2:
                    raise TargetError(self.name, "went away")


@pytest.mark.parametrize("lie", range(4))
async def test_a_lying_target_costs_nothing_but_time(bench: Bench, source: Path, tmp_path: Path, lie: int) -> None:
    await bench.vault().backup(whole(source))
    liar = Liar(bench.target, lie)
    vault = bench.vault("reader", targets=[liar, bench.target])
    notes: list[ProgressNote] = []
    report = await vault.restore(tmp_path / "out", on_progress=notes.append)
    assert liar.asked > 0
    assert report.errors == ()
    assert listing(tmp_path / "out") == listing(source)
    assert notes[-1].bytes_done == report.bytes_written


async def plant(bench: Bench, entries: list[Entry], blobs: list[tuple[BlobType, bytes]] = ()) -> None:  # type: ignore[assignment]
    """Store a snapshot that no honest writer would make."""
    vault = bench.vault("hostile")
    session = await open_session(vault._context)
    node = tree.encode_node(tree.pack_entry(entry) for entry in entries)
    root = Entry(b"root", Kind.DIRECTORY, 0o755, 0, 0, Content.NODES, blob_id(bench.keys.dedup_key, node))
    content = Snapshot(bench.keys.project_id, root, (), bench.clock(), 1, 1, 1, 0)
    raw = content.sign(bench.device).raw
    writer = await session.writer()
    async with open_run(session) as (run, sender):
        for kind, data in [(BlobType.TREE, node), *blobs]:
            run.assembler.put_blob(kind, data)
        await rewrite_head(session, run, sender, writer, writer.payload, [raw])


def file(name: bytes, ids: bytes, size: int) -> Entry:
    return Entry(name, Kind.FILE, 0o4755, 5, size, Content.BLOBS, ids)


async def test_a_hostile_tree_stays_inside_and_harms_one_entry_at_most(bench: Bench, tmp_path: Path) -> None:
    key = bench.keys.dedup_key
    data, other = os.urandom(5000), tree.encode_list([bytes(32)])
    good, listed = blob_id(key, data), blob_id(key, other)
    entries = [
        file(b"a missing piece", good + bytes(32), 5001),
        file(b"b wrong sum", good + good, 9999),
        file(b"c wrong type", listed, 32),
        Entry(b"d evil", Kind.SYMLINK, 0o777, 0, 0, Content.INLINE, b"../../outside"),
        file(b"e good", good, 5000),
        Entry(b"f no list", Kind.FILE, 0o600, 0, 5000, Content.LISTS, good),
    ]
    await plant(bench, entries, [(BlobType.DATA, data), (BlobType.LIST, other)])
    report = await bench.vault().restore(tmp_path / "out")
    assert sorted(error.path[0] for error in report.errors) == ["a", "b", "c", "f"]
    out = tmp_path / "out"
    assert (out / "e good").read_bytes() == data
    assert (out / "e good").stat().st_mode & 0o7777 == 0o755
    assert sorted(path.name for path in out.iterdir()) == ["d evil", "e good"]


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"../x", b"/etc/x"])
async def test_names_that_leave_their_folder_are_refused(bench: Bench, tmp_path: Path, name: bytes) -> None:
    entry = Entry(name, Kind.FILE, 0o644, 0, 3, Content.INLINE, b"bad")
    await plant(bench, [entry])
    vault = bench.vault()
    report = await vault.verify()
    assert [error.kind for error in report.errors] == ["tree"]
    restored = await vault.restore(tmp_path / "out")
    assert [error.path for error in restored.errors] == ["."]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["devices", "out"]
    with pytest.raises(NodeError, match="breaks its format"):
        await vault.list_tree()


async def test_depth_is_bounded(bench: Bench, tmp_path: Path) -> None:
    key = bench.keys.dedup_key
    node = tree.encode_node([tree.encode_entry(Entry(b"leaf", Kind.FILE, 0o600, 0, 1, Content.INLINE, b"x"))])
    blobs = [(BlobType.TREE, node)]
    for _ in range(140):
        entry = Entry(b"d", Kind.DIRECTORY, 0o755, 0, 0, Content.NODES, blob_id(key, node))
        node = tree.encode_node([tree.encode_entry(entry)])
        blobs.append((BlobType.TREE, node))
    await plant(bench, [Entry(b"d", Kind.DIRECTORY, 0o755, 0, 0, Content.NODES, blob_id(key, node))], blobs)
    (error,) = (await bench.vault().restore(tmp_path / "out")).errors
    assert error.reason == "folders are nested too deep"
    assert (await bench.vault("verifier").verify()).errors[0].reason == "folders are nested too deep"


async def test_a_single_file_source(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup([Source(source / "large")])
    await vault.restore(tmp_path / "out")
    assert (tmp_path / "out" / "large").read_bytes() == (source / "large").read_bytes()
    # A folder of the user's stays as it is, but for the file.
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    await vault.restore(home)
    assert (home / "large").exists()
    assert home.stat().st_mode & 0o777 == 0o755
    assert home.stat().st_mtime > 1_700_000_000


class Stalling(MemoryTarget):
    """Never answers."""

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        await trio.sleep_forever()
        yield b"", b""


class Timed(MemoryTarget):
    """Notes when it is asked."""

    asked_at = 0.0

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        self.asked_at = trio.current_time()
        async for item in super().get(ids):
            yield item


async def test_a_target_that_stalls_is_overtaken(bench: Bench, autojump_clock: trio.testing.MockClock) -> None:
    stalling, second = Stalling("stalling"), Timed("second")
    sealer = ProjectSealer(bench.keys)
    fetcher = Fetcher([stalling, second], sealer)
    second.chunks[b"c" * 32] = b"sealed"
    started = trio.current_time()
    assert await fetcher.get(b"c" * 32, lambda sealed, _: sealed.to_bytes()) == b"sealed"
    # Not the time of the answer: it is unpacked in a thread, for which this clock does not wait.
    assert second.asked_at - started == pytest.approx(10, abs=0.1)
    with pytest.raises(ChunkUnavailableError, match="does not have"):
        await Fetcher([bench.target], sealer).get(b"d" * 32, lambda sealed, _: sealed)


async def test_a_place_that_is_no_folder_is_named(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    (tmp_path / "file").write_text("here first")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NodeError, match=f"{tmp_path}.* can't be used") as caught:
            await vault.restore(place)
        assert caught.value.code == "path_not_usable"
    assert (tmp_path / "file").read_text() == "here first"
