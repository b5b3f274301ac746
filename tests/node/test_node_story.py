import filecmp
import os
import shutil
import sqlite3
from pathlib import Path

import keyring
import keyring.backends.null
import pytest
import trio
from node_world import Device, World, open_world

from sovereign_node.clock import wall_clock
from sovereign_node.errors import ExitCode, NodeError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_keyring() -> object:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


def fill(folder: Path) -> None:
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(3_000_000))
    (folder / "sub" / "small").write_text("PLANTED-MARKER in a small file")
    (folder / "link").symlink_to("sub/small")
    (folder / "large").chmod(0o640)
    os.utime(folder / "large", (978_307_200, 978_307_200))
    with sqlite3.connect(folder / "app.db") as database:
        database.execute("CREATE TABLE notes (body TEXT)")
        database.executemany("INSERT INTO notes VALUES (?)", [(f"PLANTED-MARKER {n}",) for n in range(500)])
    database.close()


def assert_same_tree(one: Path, other: Path) -> None:
    found = filecmp.dircmp(one, other)
    assert not found.left_only
    assert not found.right_only
    assert not found.funny_files
    for name in found.common_files:
        if name != "app.db":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
        before, after = (one / name).lstat(), (other / name).lstat()
        assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns), name
    for name in found.common_dirs:
        assert_same_tree(one / name, other / name)


async def start_pair(world: World) -> tuple[Device, Device]:
    world.make("disk", "provider")
    world.make("laptop", "mobile")
    provider = await world.start("disk")
    laptop = await world.start("laptop", provider.address)
    await laptop.node.discovery.joined.wait()
    return provider, laptop


async def contract_with(laptop: Device, provider: Device, capacity_bytes: int = 500_000_000) -> str:
    answer = await laptop.ask(
        "contract_open", provider=provider.node.network.peer_id, capacity_bytes=capacity_bytes
    )
    return str(answer["id"])


async def test_a_laptops_data_survives_the_laptop(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        offers = await laptop.ask("offers")
        assert [(item["name"], item["own"]) for item in offers] == [("disk", False)]
        assert offers[0]["price_micro_vibe_per_gb_month"] == 2_000_000
        await contract_with(laptop, provider)
        project = await laptop.ask("protect", path=str(source))
        first = await laptop.ask("backup")
        assert (first["files"], first["partial"], first["queued"]) == (4, False, False)
        again = await laptop.ask("backup", project="source")
        assert again["chunks_sent"] == 0
        assert again["bytes_sent"] < 10_000
        assert await laptop.node.recovery.synchronise()

        assert b"PLANTED-MARKER" not in b"".join(
            path.read_bytes() for path in (tmp_path / "disk").rglob("*") if path.is_file()
        )
        await world.stop("laptop")
        shutil.rmtree(tmp_path / "laptop")

        joined = await world.join("new", "laptop", provider.address)
        assert [item["name"] for item in joined.projects] == ["source"]
        assert joined.contracts == 1
        new = await world.start("new", provider.address)
        done = await new.ask("restore", project=project["id"][:8], to=str(tmp_path / "restored"))
        assert done["errors"] == []
        assert_same_tree(source, tmp_path / "restored")
        with sqlite3.connect(tmp_path / "restored" / "app.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM notes").fetchone() == (500,)
        database.close()
        checked = await new.ask("verify", read_data_percent=100.0)
        assert checked["errors"] == []
        assert len(await new.ask("snapshots")) == 2
        names = {item["name"]: item["this_device"] for item in await new.ask("devices")}
        assert names == {"laptop": False, "new": True}


async def test_own_always_on_device_stores_free_of_charge_and_as_a_second_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await contract_with(laptop, provider)
        await laptop.ask("protect", path=str(source), copies=2)
        await laptop.ask("backup")
        assert await laptop.node.recovery.synchronise()
        await world.join("studio", "laptop", provider.address, "server")
        studio = await world.start("studio", provider.address)
        await studio.node.discovery.joined.wait()
        with trio.fail_after(20):
            while not [item for item in await laptop.ask("offers") if item["own"]]:
                await trio.sleep(0.2)
        opened = await laptop.ask("contract_open", provider="studio", capacity_bytes=500_000_000)
        assert opened["price_micro_vibe_per_gb_month"] == 0
        (source / "later").write_bytes(os.urandom(100_000))
        done = await laptop.ask("backup")
        assert sorted(done["targets"]) == ["disk", "studio"]
        # What the first backup had sent to the provider alone came to the studio as well.
        await world.stop("disk")
        restored = await laptop.ask("restore", project="source", to=str(tmp_path / "restored"))
        assert restored["errors"] == []
        assert_same_tree(source, tmp_path / "restored")


async def test_backup_without_a_provider_waits_on_the_device_and_goes_out_later(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await contract_with(laptop, provider)
        await laptop.ask("protect", path=str(source))
        address = provider.address
        await world.stop("disk")
        done = await laptop.ask("backup")
        assert done["queued"]
        assert done["missing"] == ["disk"]
        local = await laptop.ask("restore", project="source", to=str(tmp_path / "local"))
        assert local["errors"] == []
        pending = (await laptop.ask("status"))["projects"][0]["pending"]
        assert pending > 0
        config = (tmp_path / "disk" / "config.toml").read_text()
        port = address.split("/tcp/")[1].split("/")[0]
        (tmp_path / "disk" / "config.toml").write_text(config.replace("/tcp/0", f"/tcp/{port}"))
        await world.start("disk")
        with trio.fail_after(60):
            while (await laptop.ask("status"))["projects"][0]["pending"]:
                await trio.sleep(0.3)
        await world.stop("laptop")
        laptop = await world.start("laptop", address)
        restored = await laptop.ask("restore", project="source", to=str(tmp_path / "remote"))
        assert restored["errors"] == []
        assert_same_tree(source, tmp_path / "remote")


async def test_revoked_device_is_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await contract_with(laptop, provider)
        assert await laptop.node.recovery.synchronise()
        await world.join("phone", "laptop", provider.address)
        phone = await world.start("phone", provider.address)
        with trio.fail_after(20):
            while len(await laptop.ask("devices")) < 2:
                await laptop.node.recovery.synchronise()
        with pytest.raises(NodeError, match=r"^cannot unlock$"):
            await laptop.ask("device_revoke", device="phone", passphrase="wrong")
        await laptop.ask("device_revoke", device="phone", passphrase="correct horse")
        assert await laptop.node.recovery.synchronise()
        with pytest.raises(NodeError) as caught:
            async with phone.node.recovery._places()[0]._sessions.open(provider.node.network.peer_id):
                pass
        assert caught.value.code == "device_refused"
        row = next(item for item in await laptop.ask("devices") if item["name"] == "phone")
        assert row["revoked_at"] is not None


async def test_quota_is_enforced_before_bytes_are_sent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(6_000_000))
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        await contract_with(laptop, provider, 2_000_000)
        await laptop.ask("protect", path=str(source))
        with pytest.raises(NodeError) as caught:
            await laptop.ask("backup")
        assert caught.value.exit_code == ExitCode.STORAGE_FULL
        with pytest.raises(NodeError) as caught:
            await contract_with(laptop, provider, 10_000_000_000)
        assert caught.value.exit_code == ExitCode.STORAGE_FULL
        assert "not enough room" in caught.value.message


async def test_every_listing_answers(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    async with open_world(tmp_path) as world:
        provider, laptop = await start_pair(world)
        contract = await contract_with(laptop, provider)
        await laptop.ask("protect", path=str(source))
        await laptop.ask("backup")
        (source / "sub" / "small").write_text("changed")
        await laptop.ask("backup")
        entries = await laptop.ask("ls", project="source", recursive=True)
        paths = ["app.db", "large", "link", "sub", "sub/empty", "sub/small"]
        assert [item["path"] for item in entries] == paths
        assert (await laptop.ask("contract_show", contract=contract[:6]))["state"] == "active"
        assert (await provider.ask("provider_status"))["replicas"] == 1
        exported = await provider.ask("provider_export", to=str(tmp_path / "export"))
        assert exported["chunks"] > 0
        assert (await provider.ask("provider_scrub"))["damaged"] == []
        assert (await laptop.ask("peers"))[0]["rtt_ms"] is not None
        assert len((await laptop.ask("ping", peer="disk", count=2))["rtt_ms"]) == 2
        levels = {item["check"]: item["level"] for item in (await laptop.ask("doctor"))["findings"]}
        assert levels["contracts"] == "ok"
        assert levels["kit"] == "error"
        await laptop.ask("kit_confirm", kit=world.kit_texts["laptop"])
        with pytest.raises(NodeError, match="another identity"):
            await laptop.ask("kit_confirm", kit=world.kit_texts["disk"])
        assert (await laptop.ask("status"))["kit_confirmed"]
        assert (await laptop.ask("audit_log", verify=True))["ok"]
        plan = await laptop.ask("forget", project="source", keep_last=1, dry_run=True)
        assert (len(plan["keep"]), len(plan["remove"])) == (1, 1)
        await laptop.ask("forget", project="source", keep_last=1)
        assert len(await laptop.ask("snapshots")) == 1
        assert (await laptop.ask("gc"))["failed_targets"] == []
        assert (await laptop.ask("repair_index"))["unreadable"] == []
        offer = await provider.ask("provider_offer_set", price_micro_vibe_per_gb_month=1_000_000)
        assert offer["price_micro_vibe_per_gb_month"] == 1_000_000
        await laptop.ask("unprotect", project="source")
        with pytest.raises(NodeError, match="no project"):
            await laptop.ask("backup", project="source")


async def test_wrong_clock_is_named(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.make("disk", "provider")
        world.make("laptop", "mobile")
        provider = await world.start("disk", clock=lambda: wall_clock() + 1000)
        laptop = await world.start("laptop", provider.address)
        with pytest.raises(NodeError, match=r"clocks of this device and of the provider differ by (999|100\d) s"):
            await contract_with(laptop, provider)
