"""Verify, repair, forget, collect, rebuild."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from vault_bench import Bench, GraceTarget, NoHeads, listing, whole

from sovereign_crypto.signing import SigningKey
from sovereign_node.errors import NodeError
from sovereign_node.vault.errors import NoTargetError, TargetError
from sovereign_node.vault.policy import ForgetPolicy
from sovereign_node.vault.report import ProgressNote
from sovereign_node.vault.target import MemoryTarget, Sealed


async def test_a_sound_project_verifies(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    report = await vault.verify()
    assert report.errors == ()
    assert report.chunks_read == 0
    notes: list[ProgressNote] = []
    report = await vault.verify(read_data=1.0, on_progress=notes.append)
    assert report.errors == ()
    assert report.chunks_checked == report.chunks_read - 1 == report.chunks_total > 3
    assert notes[-1].files_done == report.chunks_read
    assert (await vault.verify(read_data=0.1)).chunks_read == 2  # one chunk, one segment


async def test_damage_is_found_and_repaired_from_another_target(bench: Bench, source: Path, tmp_path: Path) -> None:
    other = MemoryTarget("other")
    vault = bench.vault(targets=[bench.target, other])
    await vault.backup(whole(source))
    rotten, missing, *_ = sorted(bench.target.chunks)
    good = dict(bench.target.chunks)
    bench.target.chunks[rotten] = good[rotten][:-1] + bytes((good[rotten][-1] ^ 1,))
    del bench.target.chunks[missing]
    report = await vault.verify(read_data=1.0)
    kinds = {(error.kind, error.subject) for error in report.errors}
    assert ("missing", missing.hex()) in kinds
    assert len(report.errors) == 2
    # A restore does not even notice.
    assert (await vault.restore(tmp_path / "out")).errors == ()
    assert listing(tmp_path / "out") == listing(source)
    report = await vault.verify(read_data=1.0, repair=True)
    assert set(report.repaired) == {error.subject for error in report.errors}
    assert bench.target.chunks == good
    assert (await vault.verify(read_data=1.0)).errors == ()


async def test_what_is_lost_everywhere_is_stored_again(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await trio.sleep(0.05)
    await vault.backup(whole(source))
    largest = max(bench.target.chunks, key=lambda item: len(bench.target.chunks[item]))
    del bench.target.chunks[largest]
    assert (await vault.restore(tmp_path / "partial")).partial
    report = await vault.verify(repair=True)
    assert report.lost == (largest.hex(),)
    report_of_backup = await vault.backup(whole(source))
    assert report_of_backup.bytes_new > 1_000_000
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_a_lost_index_segment_is_written_anew(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    (segment,) = (item for item in bench.target.chunks if bench.target.chunks[item][6:8] == b"\0\2")
    bench.target.chunks[segment] = b"rotten" * 1000
    assert [error.kind for error in (await vault.verify(read_data=0.01)).errors] == ["damaged"]
    assert (await vault.verify(read_data=0.01, repair=True)).lost == (segment.hex(),)
    assert (await vault.verify(read_data=1.0)).errors == ()
    assert (await bench.vault("fresh").verify(read_data=1.0)).errors == ()


async def test_forget_then_collect_gives_space_back(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    for number in range(5):
        (source / "large").write_bytes(os.urandom(3_000_000))
        (source / "note.txt").write_bytes(b"%d" % number)
        await vault.backup(whole(source))
    before = sum(map(len, bench.target.chunks.values()))
    plan = await vault.forget(ForgetPolicy(last=2), dry_run=True)
    assert (len(plan.keep), len(plan.forget)) == (2, 3)
    assert len(await vault.snapshots()) == 5
    await vault.forget(ForgetPolicy(last=2))
    assert len(await vault.snapshots()) == 2
    dry = await vault.gc(dry_run=True)
    assert dry.bytes_freed > 8_000_000
    assert sum(map(len, bench.target.chunks.values())) == before
    report = await vault.gc()
    assert (report.chunks_deleted, report.bytes_freed) == (dry.chunks_deleted, dry.bytes_freed)
    assert report.chunks_deleted > 0
    after = sum(map(len, bench.target.chunks.values()))
    assert after < before - 8_000_000
    assert (await vault.verify(read_data=1.0)).errors == ()
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)
    # Another device, and the next backup, see the same.
    assert (await bench.vault("fresh").verify(read_data=1.0)).errors == ()
    report_of_backup = await vault.backup(whole(source))
    assert report_of_backup.chunks_sent == 0
    assert (await vault.gc()).chunks_deleted == 0


async def test_half_empty_chunks_are_repacked(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(40):
        (root / f"{number:02}").write_bytes(os.urandom(50_000))
    vault = bench.vault(worker_threads=1)
    await vault.backup(whole(root))
    for number in range(40):
        if number % 4:
            (root / f"{number:02}").unlink()
    await vault.backup(whole(root))
    await vault.forget(ForgetPolicy(last=1))
    report = await vault.gc()
    assert report.chunks_repacked == 1
    assert report.bytes_sent < 650_000
    assert sum(map(len, bench.target.chunks.values())) < 650_000
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(root)
    assert (await vault.verify(read_data=1.0)).errors == ()


async def test_many_small_chunks_become_few(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "diary"
    root.mkdir()
    vault = bench.vault()
    for number in range(40):
        (root / f"day {number}").write_bytes(os.urandom(2000))
        await vault.backup(whole(root))
    before = len(bench.target.chunks)
    report = await vault.gc()
    assert report.chunks_repacked > 30
    assert len(bench.target.chunks) < before // 4
    assert (await vault.verify(read_data=1.0)).errors == ()
    assert len(await vault.snapshots()) == 40


async def test_snapshots_of_a_lost_device_can_be_forgotten_and_collected(bench: Bench, source: Path) -> None:
    laptop = bench.vault("laptop", device=SigningKey.generate())
    await laptop.backup(whole(source))
    studio = bench.vault("studio", device=SigningKey.generate())
    (source / "large").write_bytes(b"small now")
    await studio.backup(whole(source))
    await studio.forget(ForgetPolicy(last=1))
    (left,) = await studio.snapshots()
    report = await studio.gc()
    assert report.bytes_freed > 8_000_000
    assert (await bench.vault("third").verify(read_data=1.0)).errors == ()
    # The laptop turns up again: it sees the state of the others, and stores again what they gave up.
    assert [item.snapshot_id for item in await laptop.snapshots()] == [left.snapshot_id]
    (source / "large").write_bytes(os.urandom(500_000))
    await laptop.backup(whole(source))
    assert len(await laptop.snapshots()) == 2
    assert len(await studio.snapshots()) == 2
    assert (await studio.verify(read_data=1.0)).errors == ()


async def test_forgetting_by_name(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    for _ in range(3):
        await vault.backup(whole(source))
    first, second, third = await vault.snapshots()
    await vault.forget(snapshots=[second.snapshot_id.hex()[:16]])
    assert [item.snapshot_id for item in await vault.snapshots()] == [first.snapshot_id, third.snapshot_id]
    with pytest.raises(NodeError, match="no snapshot"):
        await vault.forget(snapshots=["ffffffffffffffffff"])
    assert len((await vault.forget(ForgetPolicy())).forget) == 0


async def test_an_interrupted_collection_does_no_harm(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    for _ in range(3):
        (source / "large").write_bytes(os.urandom(3_000_000))
        await vault.backup(whole(source))
    await vault.forget(ForgetPolicy(last=1))
    vault.close()
    shutil.copytree(bench.folder / "laptop", tmp_path / "before")

    class Stop(Exception):
        pass

    class NoHeads(MemoryTarget):
        async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
            raise Stop

    target = NoHeads()
    target.chunks, target.stored_heads = bench.target.chunks, bench.target.stored_heads
    with pytest.raises(Stop):
        await bench.vault(targets=[target]).gc()
    bench.opened[-1].close()
    again = bench.vault()
    assert (await again.verify(read_data=1.0)).errors == ()
    await again.gc()
    assert (await again.verify(read_data=1.0)).errors == ()


async def test_a_killed_collection_hides_nothing(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    for _ in range(3):
        (source / "large").write_bytes(os.urandom(3_000_000))
        await vault.backup(whole(source))
    await vault.forget(ForgetPolicy(last=1))
    vault.close()
    target = NoHeads()
    target.chunks, target.stored_heads = bench.target.chunks, bench.target.stored_heads
    with pytest.raises(NoTargetError):
        await bench.vault(targets=[target]).gc()
    bench.opened[-1].close()
    # What was stored for the head that nobody took has to go into the next one.
    await bench.vault().backup(whole(source))
    fresh = bench.vault("fresh")
    assert (await fresh.verify(read_data=1.0)).errors == ()
    await fresh.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_what_is_stored_again_after_a_loss_is_found_by_a_new_device(
    bench: Bench, source: Path, tmp_path: Path
) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    lost = max(bench.target.chunks, key=lambda chunk_id: len(bench.target.chunks[chunk_id]))
    del bench.target.chunks[lost]
    assert (await vault.verify(repair=True)).lost == (lost.hex(),)
    await vault.backup(whole(source))
    # Several times: segments are read side by side, and the first one wins.
    for number in range(4):
        await bench.vault(f"fresh {number}").restore(tmp_path / str(number))
        assert listing(tmp_path / str(number)) == listing(source)


async def test_the_index_is_rebuilt_from_segments(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    report = await vault.repair_index()
    assert (report.segments, report.chunks_read, report.unreadable) == (1, 0, ())
    assert report.blobs > 8
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_everything_is_rebuilt_from_the_chunks_alone(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    (source / "note.txt").write_bytes(b"second")
    await vault.backup(whole(source))
    bench.target.stored_heads.clear()
    bench.target.chunks[b"z" * 32] = b"not a chunk"
    report = await vault.repair_index(read_chunks=True, accept_rollback=True)
    assert report.snapshots_recovered == 2
    assert report.unreadable == ((b"z" * 32).hex(),)
    await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)
    fresh = bench.vault("fresh")
    assert len(await fresh.snapshots()) == 2
    assert (await fresh.verify(read_data=1.0)).errors == ()


async def test_a_broken_tree_stops_the_collection(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    for chunk in sorted(bench.target.chunks, key=lambda item: len(bench.target.chunks[item])):
        if len(bench.target.chunks[chunk]) < 20_000:
            bench.target.chunks[chunk] = b"rotten" * 1000
    report = await vault.verify()
    assert {error.kind for error in report.errors} == {"tree"}
    assert (await vault.gc()).dry_run


async def test_a_new_target_gets_everything(bench: Bench, source: Path, tmp_path: Path) -> None:
    await bench.vault("one").backup(whole(source))
    other = MemoryTarget("other")
    vault = bench.vault("two", targets=[bench.target, other])
    report = await vault.replicate()
    assert report.copies_made == len(other.chunks) == len(bench.target.chunks)
    assert report.bytes_copied == sum(map(len, other.chunks.values()))
    assert (report.unavailable, report.failed_targets) == ((), ())
    assert (await vault.replicate()).copies_made == 0
    await vault.backup(whole(source))
    await bench.vault("three", targets=[other]).restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)


async def test_what_a_leaving_target_holds_moves_with_its_heads(bench: Bench, source: Path, tmp_path: Path) -> None:
    other, last = MemoryTarget("other"), MemoryTarget("last")
    await bench.vault("one", targets=[bench.target, other], copies=2).backup(whole(source))
    # The other one misses what comes then, so that only the leaving one has it, and the newest head.
    vault = bench.vault("again", targets=[bench.target], copies=2)
    for number in range(20):
        (source / "new").write_bytes(bytes([number]) * 300_000)
        await vault.backup(whole(source))
    moving = bench.vault("two", targets=[bench.target, other, last], copies=2)
    report = await moving.replicate(leaving=[bench.target.name])
    assert (report.copies_missing, report.failed_targets) == (0, ())
    assert report.copies_made > len(bench.target.chunks)
    again = await moving.replicate(leaving=[bench.target.name])
    assert (again.copies_made, again.copies_missing) == (0, 0)
    await bench.vault("three", targets=[other, last]).restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)
    assert len(await bench.vault("four", targets=[last]).snapshots()) == 21


async def test_replicating_says_how_many_copies_are_missing(bench: Bench, source: Path) -> None:
    await bench.vault("one").backup(whole(source))
    alone = await bench.vault("two", copies=2).replicate()
    assert (alone.copies_made, alone.copies_missing) == (0, len(bench.target.chunks))


async def test_replicating_names_what_fails(bench: Bench, source: Path) -> None:
    await bench.vault("one").backup(whole(source))

    class Full(MemoryTarget):
        async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
            raise TargetError(self.name, "full", full=True)

    class Away(MemoryTarget):
        async def have(self, ids: Sequence[bytes]) -> list[bool]:
            raise TargetError(self.name, "away")

    report = await bench.vault("two", targets=[bench.target, Full("small"), Away("far")]).replicate()
    assert report.failed_targets == ("far: away", "small: full")
    lost = next(iter(bench.target.chunks))
    vault = bench.vault("three", targets=[bench.target, MemoryTarget("other")])
    await vault.snapshots()
    del bench.target.chunks[lost]
    assert (await vault.replicate()).unavailable == (lost.hex(),)


async def test_a_copy_that_nobody_asked_for_is_not_missing(bench: Bench, source: Path) -> None:
    one, other = GraceTarget("one"), GraceTarget("other")
    vault = bench.vault(targets=[one, other], copies=1)
    await vault.backup(whole(source))
    for chunk_id in list(one.chunks)[::2]:
        other.chunks[chunk_id] = one.chunks.pop(chunk_id)
    assert (await vault.verify(read_data=1.0)).errors == ()
    gone = next(iter(one.chunks))
    del one.chunks[gone]
    found = await vault.verify()
    assert {(error.kind, error.subject) for error in found.errors} == {("missing", gone.hex())}
    vault.close()
    both = bench.vault(targets=[one, other], copies=2)
    assert len((await both.verify()).errors) > len(one.chunks) + len(other.chunks)


async def test_nothing_is_lost_while_a_target_fails(bench: Bench, source: Path, tmp_path: Path) -> None:
    one, other = GraceTarget("one"), GraceTarget("other")
    vault = bench.vault(targets=[one, other], copies=1)
    await vault.backup(whole(source))

    async def fail(_ids: Sequence[bytes]) -> list[bool]:
        raise TargetError("other", "the connection was lost")

    answer, other.have = other.have, fail  # type: ignore[method-assign]
    report = await vault.verify(repair=True)
    assert report.errors
    assert report.lost == ()
    other.have = answer  # type: ignore[method-assign]
    vault.close()
    fresh = bench.vault("fresh", targets=[one, other])
    await fresh.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)
