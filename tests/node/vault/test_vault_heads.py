"""Heads: rolled-back providers, forks, lost and copied device state, several devices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from vault_bench import Bench, listing, whole

from sovereign_crypto.signing import SigningKey
from sovereign_node.vault.errors import ForkError, RollbackError
from sovereign_node.vault.heads import FileSeenHeads
from sovereign_node.vault.target import MemoryTarget
from sovereign_protocols.vault.head import parse_head
from sovereign_protocols.vault.snapshot import SeenHead


async def test_a_rolled_back_provider_is_refused_until_a_person_accepts(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    old = dict(bench.target.stored_heads)
    await vault.backup(whole(source))
    bench.target.stored_heads.clear()
    with pytest.raises(RollbackError) as caught:
        await vault.backup(whole(source))
    assert (caught.value.seen, caught.value.found) == (2, 0)
    bench.target.stored_heads.update(old)
    with pytest.raises(RollbackError) as caught:
        await vault.snapshots()
    assert (caught.value.seen, caught.value.found) == (2, 1)
    await vault.repair_index(accept_rollback=True)
    assert len(await vault.snapshots()) == 1
    await vault.backup(whole(source))
    assert len(await vault.snapshots()) == 2
    # The numbers that had been used are not used again: another instance goes on.
    (raw,) = await bench.target.heads(bench.keys.locator())
    (first,) = old.values()
    assert parse_head(raw).instance != parse_head(first).instance


async def test_a_target_that_lags_is_no_rollback_and_catches_up(bench: Bench, source: Path) -> None:
    other = MemoryTarget("other")
    await bench.vault("a", targets=[bench.target, other]).backup(whole(source))
    vault = bench.vault("a2", targets=[bench.target])
    bench.opened[0].close()
    shutil.copy(bench.folder / "a" / "seen.cbor", bench.folder / "a2" / "seen.cbor")
    await vault.backup(whole(source))
    both = bench.vault("a3", targets=[other, bench.target])
    assert len(await both.snapshots()) == 2
    await both.backup(whole(source))
    assert await other.heads(bench.keys.locator()) == await bench.target.heads(bench.keys.locator())


async def test_two_heads_with_one_number_are_a_fork(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    vault.close()
    # The device's whole disk is copied, and both copies write.
    shutil.copytree(bench.folder / "laptop", bench.folder / "clone")
    before = dict(bench.target.stored_heads)
    await bench.vault("laptop").backup(whole(source))
    other = MemoryTarget("other")
    other.chunks, other.stored_heads = bench.target.chunks, before
    await bench.vault("clone", targets=[other]).backup(whole(source))
    with pytest.raises(ForkError) as caught:
        await bench.vault("third", targets=[bench.target, other]).snapshots()
    assert caught.value.device == bench.device.public
    assert parse_head(caught.value.first).sequence == parse_head(caught.value.second).sequence == 2
    bench.target.stored_heads = other.stored_heads
    with pytest.raises(ForkError):
        await bench.opened[1].snapshots()


async def test_a_device_set_back_to_yesterday_catches_up(bench: Bench, source: Path, tmp_path: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    vault.close()
    shutil.copytree(bench.folder / "laptop", tmp_path / "yesterday")
    again = bench.vault()
    (source / "note.txt").write_bytes(b"newer")
    await again.backup(whole(source))
    again.close()
    shutil.rmtree(bench.folder / "laptop")
    shutil.copytree(tmp_path / "yesterday", bench.folder / "laptop")
    restored = bench.vault()
    await restored.backup(whole(source))
    snapshots = await restored.snapshots()
    assert len(snapshots) == 3
    (raw,) = await bench.target.heads(bench.keys.locator())
    assert parse_head(raw).sequence == 3


async def test_a_device_that_lost_its_cache_goes_on_as_a_new_instance(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    for _ in range(3):
        await vault.backup(whole(source))
    vault.close()
    shutil.rmtree(bench.folder / "laptop" / "cache")
    again = bench.vault()
    await again.backup(whole(source))
    assert len(await again.snapshots()) == 4
    (raw,) = await bench.target.heads(bench.keys.locator())
    assert parse_head(raw).sequence == 1


async def test_devices_see_and_reuse_what_the_others_stored(bench: Bench, source: Path, tmp_path: Path) -> None:
    laptop, studio = bench.device, SigningKey.generate()
    await bench.vault("laptop", device=laptop).backup(whole(source))
    other = bench.vault("studio", device=studio)
    report = await other.backup(whole(source))
    assert report.chunks_sent == 0
    snapshots = await other.snapshots()
    assert {item.author for item in snapshots} == {laptop.public, studio.public}
    assert snapshots[1].content.seen[0].device == laptop.public
    assert snapshots[1].content.parents == (snapshots[0].snapshot_id,)
    await other.restore(tmp_path / "out", snapshot=snapshots[0].snapshot_id.hex()[:12])
    assert listing(tmp_path / "out") == listing(source)


async def test_heads_and_snapshots_of_strangers_do_not_count(bench: Bench, source: Path) -> None:
    stranger = SigningKey.generate()
    await bench.vault("stranger", device=stranger).backup(whole(source))
    own = bench.vault("own", is_author=lambda device: device != stranger.public)
    assert await own.snapshots() == []
    await own.backup(whole(source))
    assert len(await own.snapshots()) == 1


async def test_garbage_from_a_provider_does_not_count(bench: Bench, source: Path) -> None:
    vault = bench.vault()
    await vault.backup(whole(source))
    bench.target.stored_heads[bench.keys.locator(), b"x" * 32] = b"garbage"
    assert len(await vault.snapshots()) == 1


def test_seen_heads_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "seen.cbor"
    seen = FileSeenHeads(path)
    head = SeenHead(b"d" * 32, b"instance", 4, b"h" * 32)
    seen.record(b"l" * 32, head, b"")
    seen.record(b"m" * 32, head, b"")
    assert FileSeenHeads(path).highest(b"l" * 32) == [head]
    seen.forget(b"l" * 32)
    assert FileSeenHeads(path).highest(b"l" * 32) == []
    assert FileSeenHeads(path).highest(b"m" * 32) == [head]
    assert path.stat().st_mode & 0o777 == 0o600
