"""Backups between nodes that can't dial each other: through relays, over their restarts, and on to better paths."""

from __future__ import annotations

import filecmp
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keyring
import keyring.backends.null
import pytest
import trio
from node_world import PASSPHRASE, Device, World, open_world

from sovereign_devnet.nats_server import run_nats_server
from sovereign_node.config import load_config, save_config
from sovereign_node.datadir import DataDir
from sovereign_node.errors import NodeError
from sovereign_node.net.paths import NATS, RELAYED, is_immediate
from sovereign_node.services import lasting_session
from sovereign_node.services.join import join_identity
from sovereign_node.services.setup import DeviceOptions
from sovereign_node.translate import translated

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
FILES = 6
FILE_BYTES = 4_000_000
# Slow enough that whatever happens to a backup happens in its middle.
UPLOAD_BYTES_PER_S = 12_000_000


@pytest.fixture(autouse=True)
def _no_keyring() -> object:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


def configure(world: World, name: str, **sections: dict[str, Any]) -> None:
    path = DataDir(world.root / name).config
    config = load_config(path)
    changed = {section: replace(getattr(config, section), **values) for section, values in sections.items()}
    save_config(replace(config, **changed), path)


async def until(condition: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(TIMEOUT_S):
        while not condition():
            await trio.sleep(0.02)
        return
    raise AssertionError(f"not in time: {what}")


def path_between(one: Device, other: Device) -> str:
    """Return the path that new streams take; empty if the two are not connected."""
    info = one.node.network.preferred(other.node.network.peer_id)
    return info.path if info is not None else ""


class Cast:
    """A public node, a provider, and a laptop with files; the last two reach each other as the test says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = world.root / "source"
        self.source.mkdir()
        self.write_files("first")
        for name, role in (("public", "server"), ("disk", "provider"), ("laptop", "mobile")):
            world.make(name, role)
            configure(world, name, net={"mdns": False})
        for name in ("disk", "laptop"):
            # Who listens nowhere can't be dialled.
            configure(world, name, net={"mdns": False, "listen": ()})
        configure(world, "laptop", net={"upload_limit_bytes_per_s": UPLOAD_BYTES_PER_S})

    def write_files(self, name: str) -> None:
        for number in range(FILES):
            (self.source / f"{name}-{number}").write_bytes(os.urandom(FILE_BYTES))

    async def start(self, path: str) -> None:
        """Start everybody and open a contract; the two can reach each other on `path` only."""
        self.public = await self.world.start("public")
        self.bootstrap = self.public.address
        self.disk = await self.world.start("disk", self.bootstrap)
        if path == RELAYED:
            await until(lambda: bool(self.disk.node.connectivity.circuits.relays()), "a reservation")
        self.laptop = await self.world.start("laptop", self.bootstrap)
        await self.laptop.node.discovery.joined.wait()
        peer_id = self.disk.node.network.peer_id
        await self.laptop.ask("contract_open", provider=peer_id, capacity_bytes=500_000_000)
        await self.laptop.ask("protect", path=str(self.source))
        # What connects first is improved a moment later.
        await until(lambda: path_between(self.laptop, self.disk) == path, f"the path {path}")

    @property
    def stored_chunks(self) -> int:
        store = self.disk.node.chunk_store
        return sum(store.usage(contract).chunks for contract in store.contracts())

    async def back_up_during(self, event: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        """Run a backup, let something happen in its middle, and return what came of it."""
        before = self.stored_chunks
        outcome: dict[str, Any] = {}

        async def back_up() -> None:
            try:
                with translated():
                    outcome.update(await self.laptop.ask("backup"))
            except NodeError as error:
                outcome["failure"] = str(error)

        with trio.fail_after(2 * TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(back_up)
                await until(lambda: self.stored_chunks >= before + 2, "the first chunks")
                assert not outcome
                await event()
        return outcome

    async def back_up_through(self, event: Callable[[], Awaitable[None]]) -> None:
        """Expect a backup to end as if nothing had been in its middle."""
        before = self.stored_chunks
        outcome = await self.back_up_during(event)
        assert outcome.get("failure") is None
        assert outcome["errors"] == []
        assert not outcome["queued"]
        assert self.stored_chunks - before >= FILES

    async def assert_restored(self, target: Path) -> None:
        verified = await self.laptop.ask("verify", read_data_percent=100)
        assert verified["errors"] == []
        assert verified["chunks_checked"] >= FILES
        await self.laptop.ask("restore", project="source", to=str(target))
        names = sorted(path.name for path in self.source.iterdir())
        assert filecmp.cmpfiles(self.source, target, names, shallow=False) == (names, [], [])


@asynccontextmanager
async def cast_in(tmp_path: Path) -> AsyncIterator[Cast]:
    async with open_world(tmp_path) as world:
        yield Cast(world)


async def test_a_relay_carries_a_backup_and_its_restart_costs_a_pause(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast:
        await cast.start(RELAYED)

        async def restart_relay() -> None:
            await cast.world.stop("public")
            await until(lambda: not path_between(cast.laptop, cast.disk), "the loss of the path")
            cast.public = await cast.world.start("public")

        await cast.back_up_through(restart_relay)
        assert path_between(cast.laptop, cast.disk) == RELAYED
        assert cast.public.node.connectivity.relay.statistics()["carried_bytes"] > FILE_BYTES
        await cast.assert_restored(tmp_path / "restored")


async def test_nats_carries_a_backup_and_a_restart_of_its_server_costs_a_pause(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast, trio.open_nursery() as nursery:

        async def serve(port: int, task_status: Any) -> None:
            async with run_nats_server(tmp_path, port=port) as server:
                task_status.started(server)
                await trio.sleep_forever()

        server = await nursery.start(serve, -1)
        configure(cast.world, "public", net={"relay": False})
        for name in ("disk", "laptop"):
            configure(cast.world, name, relay={"nats": (server.url,)})
        await cast.start(NATS)

        async def restart_server() -> None:
            await server.kill()
            await until(lambda: not path_between(cast.laptop, cast.disk), "the loss of the path")
            await nursery.start(serve, server.port)

        await cast.back_up_through(restart_server)
        assert path_between(cast.laptop, cast.disk) == NATS
        await cast.assert_restored(tmp_path / "restored")
        nursery.cancel_scope.cancel()


async def test_a_backup_moves_to_a_direct_path_that_is_found_in_its_middle(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast:
        # It listens, but what it publishes leads nowhere.
        hidden = {"listen": ("/ip4/127.0.0.1/tcp/0",), "announce": ("/ip4/127.0.0.1/tcp/1",)}
        configure(cast.world, "laptop", net=hidden)
        cast.write_files("second")
        await cast.start(RELAYED)
        laptop, disk = cast.laptop.node.network, cast.disk.node.network
        carried = 0

        async def find_direct_path() -> None:
            nonlocal carried
            carried = cast.public.node.connectivity.relay.carried_bytes
            await disk.improve(laptop.peer_id, laptop.addresses())

        await cast.back_up_through(find_direct_path)
        direct = [info for info in laptop.connections() if info.peer_id == disk.peer_id and is_immediate(info.path)]
        assert sum(info.bytes_sent for info in direct) > FILES * FILE_BYTES // 2
        # What was under way is all that still went through the relay.
        assert cast.public.node.connectivity.relay.carried_bytes - carried < FILES * FILE_BYTES
        await cast.assert_restored(tmp_path / "restored")


async def test_when_a_relay_has_carried_enough_nats_takes_the_rest(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast, run_nats_server(tmp_path) as server:
        configure(cast.world, "public", net={"relay_bytes_per_peer_per_h": FILES * FILE_BYTES // 2})
        for name in ("disk", "laptop"):
            configure(cast.world, name, relay={"nats": (server.url,)})
        await cast.start(RELAYED)
        await cast.back_up_through(partial(until, lambda: path_between(cast.laptop, cast.disk) == NATS, "NATS"))
        assert cast.public.node.connectivity.relay.carried_bytes >= FILES * FILE_BYTES // 2
        await cast.assert_restored(tmp_path / "restored")


async def test_a_lost_laptop_comes_back_through_a_relay(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast:
        await cast.start(RELAYED)
        assert (await cast.laptop.ask("backup"))["errors"] == []
        assert await cast.laptop.node.recovery.synchronise()
        await cast.world.stop("laptop")
        joined = await cast.world.join("laptop-2", "laptop", cast.bootstrap)
        assert [item["name"] for item in joined.projects] == ["source"]
        configure(cast.world, "laptop-2", net={"mdns": False, "listen": ()})
        cast.laptop = await cast.world.start("laptop-2", cast.bootstrap)
        await cast.laptop.node.discovery.joined.wait()
        await cast.assert_restored(tmp_path / "restored")
        assert path_between(cast.laptop, cast.disk) == RELAYED


async def test_a_lost_laptop_comes_back_with_nothing_but_nats(tmp_path: Path) -> None:
    async with cast_in(tmp_path) as cast, run_nats_server(tmp_path) as server:
        configure(cast.world, "public", net={"relay": False})
        for name in ("disk", "laptop"):
            configure(cast.world, name, relay={"nats": (server.url,)})
        await cast.start(NATS)
        assert (await cast.laptop.ask("backup"))["errors"] == []
        assert await cast.laptop.node.recovery.synchronise()
        await cast.world.stop("laptop")
        await cast.world.stop("public")
        (address,) = cast.disk.node.network.addresses()
        assert address.startswith("/nats/")
        options = DeviceOptions("laptop-2", bootstrap=(address,), nats=(server.url,))
        kit = cast.world.kits["laptop"]
        joined = await join_identity(tmp_path / "laptop-2", kit, options, PASSPHRASE, lambda _text: None)
        assert [item["name"] for item in joined.projects] == ["source"]
        configure(cast.world, "laptop-2", net={"mdns": False, "listen": ()})
        cast.laptop = await cast.world.start("laptop-2")
        await cast.assert_restored(tmp_path / "restored")
        assert path_between(cast.laptop, cast.disk) == NATS


async def test_a_relay_that_stays_away_ends_the_backup_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting_session, "RELAYED_PATIENCE_S", 1.0)
    async with cast_in(tmp_path) as cast:
        await cast.start(RELAYED)
        outcome = await cast.back_up_during(partial(cast.world.stop, "public"))
        assert "the connection was lost" in outcome["failure"]
        # Nothing of it is lost: the next one sends the rest.
        cast.public = await cast.world.start("public")
        await until(lambda: bool(cast.disk.node.connectivity.circuits.relays()), "the reservation")
        await until(lambda: path_between(cast.laptop, cast.disk) == RELAYED, "the path")
        assert (await cast.laptop.ask("backup"))["errors"] == []
        await cast.assert_restored(tmp_path / "restored")
