"""Two devices work on one project at the same moment: whatever the order, nothing that a snapshot needs is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vault_bench import Bench, GraceTarget, age, listing, whole

from sovereign_crypto.signing import SigningKey
from sovereign_node.vault.facade import Vault
from sovereign_node.vault.policy import ForgetPolicy


async def check_all(bench: Bench, target: GraceTarget, out: Path, expected: dict[str, tuple[object, ...]]) -> None:
    """Let every grace period end, then see whether a new device finds everything."""
    target.end_grace()
    fresh = bench.vault(out.name)
    assert (await fresh.verify(read_data=1.0)).errors == ()
    await fresh.restore(out)
    assert listing(out) == expected


class Pair:
    """A laptop that gives content up, and a studio whose files have that content again."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        bench.target = self.target = GraceTarget()
        self.laptop_files, self.studio_files = folder / "laptop files", folder / "studio files"
        for path in (self.laptop_files, self.studio_files):
            path.mkdir()
        self.laptop: Vault = bench.vault("laptop", device=SigningKey.generate())
        self.studio: Vault = bench.vault("studio", device=SigningKey.generate())

    async def begin(self) -> None:
        content = os.urandom(3_000_000)
        (self.laptop_files / "large").write_bytes(content)
        (self.studio_files / "other").write_bytes(os.urandom(200_000))
        age(self.laptop_files)
        age(self.studio_files)
        await self.laptop.backup(whole(self.laptop_files))
        await self.studio.backup(whole(self.studio_files))
        (self.laptop_files / "large").write_bytes(b"small")
        await self.laptop.backup(whole(self.laptop_files))
        (first, *_) = await self.laptop.snapshots()
        await self.laptop.forget(snapshots=[first.snapshot_id.hex()])
        (self.studio_files / "large").write_bytes(content)

    async def collect(self) -> None:
        assert (await self.laptop.gc()).bytes_freed > 3_000_000

    async def back_up(self) -> None:
        await self.studio.backup(whole(self.studio_files))


@pytest.fixture
def pair(bench: Bench, tmp_path: Path) -> Pair:
    return Pair(bench, tmp_path)


@pytest.mark.parametrize("call", ["put", "set_head"])
async def test_a_collection_in_the_middle_of_a_backup(pair: Pair, tmp_path: Path, call: str) -> None:
    await pair.begin()
    pair.target.before[call] = pair.collect
    await pair.back_up()
    assert not pair.target.before
    assert len(await pair.studio.snapshots()) == 3
    await check_all(pair.bench, pair.target, tmp_path / "out", listing(pair.studio_files))


@pytest.mark.parametrize("call", ["set_head", "delete"])
async def test_a_backup_in_the_middle_of_a_collection(pair: Pair, tmp_path: Path, call: str) -> None:
    await pair.begin()
    pair.target.before[call] = pair.back_up
    await pair.laptop.gc()
    assert not pair.target.before
    await check_all(pair.bench, pair.target, tmp_path / "out", listing(pair.studio_files))


async def test_forgetting_in_the_middle_of_a_backup_leaves_no_segment_behind(pair: Pair, tmp_path: Path) -> None:
    await pair.begin()

    async def forget() -> None:
        await pair.laptop.forget(ForgetPolicy(last=1))

    pair.target.before["put"] = forget
    await pair.back_up()
    # The laptop has taken over the studio's segments; joining them must not take one away that is still listed.
    for number in range(12):
        (pair.laptop_files / "new").write_bytes(os.urandom(100_000 + number))
        await pair.laptop.backup(whole(pair.laptop_files))
    pair.target.end_grace()
    fresh = pair.bench.vault("fresh")
    assert (await fresh.verify(read_data=1.0)).errors == ()


class Killed(Exception):
    pass


async def kill_backup(pair: Pair) -> Path:
    """Let the laptop's backup end just before its head is published; return its source."""
    source = pair.laptop_files
    (source / "large").write_bytes(os.urandom(9_000_000))
    age(source)

    async def kill() -> None:
        raise Killed

    pair.target.before["set_head"] = kill
    with pytest.raises(Killed):
        await pair.laptop.backup(whole(source))
    return source


async def test_what_was_marked_before_a_backup_goes_on_is_taken_back(pair: Pair, tmp_path: Path) -> None:
    source = await kill_backup(pair)
    # Another device of the owner takes them for garbage, since no head lists them.
    await pair.target.delete(list(pair.target.chunks))
    report = await pair.laptop.backup(whole(source))
    assert report.bytes_new == 0
    await check_all(pair.bench, pair.target, tmp_path / "out", listing(source))


async def test_what_is_gone_before_a_backup_goes_on_is_stored_again(pair: Pair, tmp_path: Path) -> None:
    source = await kill_backup(pair)
    pair.target.chunks.clear()
    report = await pair.laptop.backup(whole(source))
    assert report.bytes_new > 8_000_000
    await check_all(pair.bench, pair.target, tmp_path / "out", listing(source))
