"""Chunks that killed backups left at a provider go again, and nothing else does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
from node_world import Calendar, Device, World, open_world

from sovereign_node.clock import wall_clock
from sovereign_node.services.orphans import MIN_AGE_S, FirstSeen
from sovereign_node.services.targets import RemoteTarget

DAY_S = 86400

pytestmark = pytest.mark.usefixtures("no_keyring")


async def start_pair(world: World) -> tuple[Device, Device]:
    world.make("disk", "provider")
    world.make("laptop", "mobile")
    provider = await world.start("disk")
    laptop = await world.start("laptop", provider.address)
    await laptop.node.discovery.joined.wait()
    await laptop.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=500_000_000)
    return provider, laptop


async def kill_backup(laptop: Device, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a backup run until everything but the head is stored, and end it there."""
    reached = trio.Event()

    async def hang(_target: object, *_arguments: object) -> None:
        reached.set()
        await trio.sleep_forever()

    with monkeypatch.context() as patched:
        patched.setattr(RemoteTarget, "set_head", hang)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: laptop.ask("backup", project=project))
            await reached.wait()
            nursery.cancel_scope.cancel()


def stored(provider: Device) -> tuple[int, int]:
    """Bytes that the provider holds under its contract, and how many of them are marked for removal."""
    (contract,) = [item for item in provider.node.chunk_store.contracts() if any(item)]
    usage = provider.node.chunk_store.usage(contract)
    return usage.size_bytes, usage.marked_bytes


@pytest.mark.slow
async def test_what_a_killed_backup_left_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size_bytes in (("kept", 300_000), ("doomed", 5_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(os.urandom(size_bytes))
    calendar = Calendar()
    async with open_world(tmp_path, calendar) as world:
        provider, laptop = await start_pair(world)
        await laptop.ask("protect", path=str(tmp_path / "kept"))
        await laptop.ask("backup")
        needed_bytes, _ = stored(provider)
        await laptop.ask("protect", path=str(tmp_path / "doomed"))
        await kill_backup(laptop, "doomed", monkeypatch)
        await world.stop("laptop")
        assert stored(provider)[0] > needed_bytes + 5_000_000
        # The laptop goes on, without what it knew about that backup.
        shutil.rmtree(tmp_path / "laptop" / "cache")
        shutil.rmtree(tmp_path / "doomed")
        laptop = await world.start("laptop", provider.address)
        await laptop.node.discovery.joined.wait()
        found = await laptop.ask("gc", dry_run=True)
        assert found["orphans_found"] > 2
        seen = await laptop.ask("gc")
        assert (seen["orphans_found"], seen["orphans_deleted"]) == (found["orphans_found"], 0)
        assert stored(provider)[1] == 0
        calendar.ahead_s = MIN_AGE_S + 60
        gone = await laptop.ask("gc")
        assert gone["orphans_deleted"] == found["orphans_found"]
        assert gone["orphan_bytes"] > 5_000_000
        assert stored(provider)[1] == gone["orphan_bytes"]
        assert (await laptop.ask("gc"))["orphans_found"] == 0
        store = provider.node.chunk_store
        await trio.to_thread.run_sync(lambda: store.purge(calendar() + 31 * DAY_S))
        assert stored(provider) == (pytest.approx(needed_bytes, abs=100_000), 0)
        checked = await laptop.ask("verify", project="kept", read_data_percent=100.0)
        assert checked["errors"] == []


@pytest.mark.slow
async def test_what_another_device_still_needs_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data").write_bytes(os.urandom(3_000_000))
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await laptop.node.recovery.synchronise()
        await world.join("studio", "laptop", provider.address)
        studio = await world.start("studio", provider.address)
        await studio.node.discovery.joined.wait()
        assert await studio.node.recovery.synchronise()
        # The studio has never heard of this project when it begins to collect.
        await laptop.ask("protect", path=str(tmp_path / "source"))
        await laptop.ask("backup")
        done = await studio.ask("gc", orphan_age_s=0)
        assert (done["orphans_found"], done["failed_targets"]) == (0, [])
        # A backup that was killed goes on after the studio took its chunks for garbage.
        (tmp_path / "source" / "more").write_bytes(os.urandom(4_000_000))
        await kill_backup(laptop, "source", monkeypatch)
        done = await studio.ask("gc", orphan_age_s=0)
        assert done["orphan_bytes"] > 4_000_000
        assert stored(provider)[1] == done["orphan_bytes"]
        report = await laptop.ask("backup")
        assert report["new_bytes"] == 0
        store = provider.node.chunk_store
        await trio.to_thread.run_sync(lambda: store.purge(wall_clock() + 400 * DAY_S))
        checked = await studio.ask("verify", read_data_percent=100.0)
        assert checked["errors"] == []
        to = tmp_path / "restored"
        await studio.ask("restore", project="source", to=str(to))
        assert (to / "more").read_bytes() == (tmp_path / "source" / "more").read_bytes()


@pytest.mark.slow
async def test_listed_chunks_that_were_marked_come_back(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data").write_bytes(os.urandom(3_000_000))
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await laptop.ask("protect", path=str(tmp_path / "source"))
        await laptop.ask("backup")
        (contract,) = laptop.node.contracts.live_as_customer()
        store = provider.node.chunk_store
        ids = list(store.iter_ids(contract.contract_id))
        await trio.to_thread.run_sync(lambda: store.mark_deleted(contract.contract_id, ids, wall_clock() + DAY_S))
        report = await laptop.node.orphans.collect(contract)
        assert (report.revived, report.deleted) == (len(ids), 0)
        assert stored(provider)[1] == 0


def test_ages_count_from_the_first_look_without_a_break(tmp_path: Path) -> None:
    seen = FirstSeen(tmp_path / "folder" / "file")
    one, two = bytes(32), bytes(31) + b"\x01"
    assert seen.update({one}, at=100, write=True) == {one: 100}
    assert seen.update({one, two}, at=200, write=False) == {one: 100, two: 200}
    assert seen.update({one, two}, at=300, write=True) == {one: 100, two: 300}
    assert seen.update({two}, at=400, write=True) == {two: 300}
    assert seen.update({one, two}, at=500, write=True) == {one: 500, two: 300}
    # A clock that was ahead must not keep a chunk for ever.
    assert seen.update({one, two}, at=50, write=True) == {one: 50, two: 50}
    (tmp_path / "folder" / "file").write_bytes(b"broken")
    assert seen.update({one}, at=600, write=True) == {one: 600}
