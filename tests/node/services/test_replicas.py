"""Copies stay at target by themselves: a provider missed something, or leaves and takes nothing with it."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import keyring
import keyring.backends.null
import pytest
import trio
from node_world import Device, World, open_world

from sovereign_node.errors import NodeError
from sovereign_node.services.repair import CHECK_S
from sovereign_node.services.replicas import UNREACHABLE_S

pytestmark = pytest.mark.slow

MB = 1_000_000


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = int(time.time())

    def __call__(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def _no_keyring():
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(tmp_path: Path, clock: Clock) -> AsyncIterator[World]:
    async with open_world(tmp_path / "devices", clock) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "large").write_bytes(random.Random(1).randbytes(5 * MB))
    return folder


async def begin(world: World, source: Path, providers: tuple[str, ...], copies: int) -> dict[str, Device]:
    """Start everybody, open a contract with each provider, and back up."""
    (world.root).mkdir(exist_ok=True)
    devices: dict[str, Device] = {}
    for name in providers:
        world.make(name, "provider")
        devices[name] = await world.start(name, *(item.address for item in devices.values()))
    world.make("laptop", "mobile")
    laptop = devices["laptop"] = await world.start("laptop", *(item.address for item in devices.values()))
    await laptop.node.discovery.joined.wait()
    for name in providers:
        await open_contract(laptop, devices[name])
    await laptop.ask("protect", path=str(source), copies=copies)
    await laptop.ask("backup")
    return devices


async def open_contract(customer: Device, provider: Device) -> str:
    opened = await customer.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=100 * MB)
    return str(opened["id"])


async def wait_until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not holds():
            await trio.sleep(0.05)


def chunks_at(provider: Device, contract: str) -> set[bytes]:
    return set(provider.node.chunk_store.iter_ids(bytes.fromhex(contract)))


def contract_with(customer: Device, provider: Device) -> str:
    rows = customer.node.state.contracts.all(role="customer")
    return next(row.contract_id.hex() for row in rows if row.provider_device == provider.node.keys.public)


async def look(customer: Device) -> None:
    """Let the customer look after its copies before the hour is over."""
    customer.node.repair.note_connected()
    await customer.node.repair.run_once()


async def test_what_a_provider_missed_comes_when_it_is_back(world: World, source: Path) -> None:
    devices = await begin(world, source, ("attic", "cellar"), copies=2)
    laptop, attic, cellar = devices["laptop"], devices["attic"], devices["cellar"]
    first, second = contract_with(laptop, attic), contract_with(laptop, cellar)
    assert chunks_at(attic, first) == chunks_at(cellar, second)

    await world.stop("cellar")
    await wait_until(lambda: not laptop.node.network.is_connected(cellar.node.network.peer_id))
    (source / "new").write_bytes(random.Random(2).randbytes(MB))
    done = await laptop.ask("backup")
    assert done["missing"] == ["cellar"]
    cellar = await world.start("cellar", attic.address)
    assert chunks_at(cellar, second) < chunks_at(attic, first)
    laptop.node.presence.dial_soon()
    # Nobody asks for it: the provider is back, that is all.
    await wait_until(lambda: chunks_at(cellar, second) == chunks_at(attic, first))
    await wait_until(lambda: any(entry.action == "repaired" for entry in laptop.node.state.audit.entries()))
    noted = [entry.outcome for entry in laptop.node.state.audit.entries() if entry.action == "repaired"]
    assert noted[0].endswith(" micro-VIBE")
    assert int(noted[0].split(", ")[-1].split()[0]) > 0
    assert await laptop.node.repair.run_once() == []


async def test_a_provider_that_drains_loses_nothing(
    world: World, source: Path, tmp_path: Path, clock: Clock
) -> None:
    devices = await begin(world, source, ("attic",), copies=1)
    laptop, attic = devices["laptop"], devices["attic"]
    leaving = contract_with(laptop, attic)
    drained = await attic.ask("drain")
    assert (drained["contracts_left"], drained["safe_to_stop"]) == (1, False)
    await laptop.ask("settle")
    (row,) = await laptop.ask("contract_list")
    assert row["state"] == "ending"

    # Nowhere to go yet: the owner is told, backups wait here, the provider keeps everything.
    await look(laptop)
    told = [entry.outcome for entry in laptop.node.state.audit.entries() if entry.action == "copies_missing"]
    assert "photos needs another provider" in told[0]
    assert len(told) == 1
    (source / "new").write_bytes(random.Random(2).randbytes(MB))
    waiting = await laptop.ask("backup")
    assert waiting["queued"]
    held = chunks_at(attic, leaving)

    world.make("cellar", "provider")
    cellar = await world.start("cellar", attic.address)
    await laptop.node.finder.learn(cellar.node.network.peer_id, [cellar.address], source="test")
    taken_by = await open_contract(laptop, cellar)
    await look(laptop)
    assert held <= chunks_at(cellar, taken_by)
    states = {row["id"]: row["state"] for row in await laptop.ask("contract_list")}
    assert states == {leaving: "closed", taken_by: "active"}
    (owed,) = [row for row in await attic.ask("provider_contracts") if row["contract"] == leaving]
    assert (owed["state"], owed["exposed_micro_vibe"]) == ("closed", 0)
    drained = await attic.ask("drain")
    assert (drained["contracts_left"], drained["safe_to_stop"]) == (0, True)
    await world.stop("attic")

    assert (await laptop.ask("verify", read_data_percent=100.0))["errors"] == []
    assert await laptop.node.recovery.synchronise()
    await world.stop("laptop")
    await world.join("new", "laptop", cellar.address)
    fresh = await world.start("new", cellar.address)
    restored = await fresh.ask("restore", project="photos", to=str(tmp_path / "out"))
    assert restored["errors"] == []
    for name in ("large", "new"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


async def test_a_second_copy_is_made_elsewhere_while_the_leaving_one_still_serves(
    world: World, source: Path, clock: Clock
) -> None:
    devices = await begin(world, source, ("attic", "cellar", "barn"), copies=2)
    laptop = devices["laptop"]
    before = {
        name: chunks_at(devices[name], contract_with(laptop, devices[name])) for name in devices if name != "laptop"
    }
    everything = set().union(*before.values())
    leaving = next(name for name, held in before.items() if held)
    await devices[leaving].ask("drain")
    await laptop.ask("settle")
    clock.now += CHECK_S
    await laptop.node.repair.run_once()
    for name in before:
        if name != leaving:
            assert chunks_at(devices[name], contract_with(laptop, devices[name])) == everything
    assert (await devices[leaving].ask("drain"))["safe_to_stop"]
    clock.now += UNREACHABLE_S
    assert await laptop.node.repair.run_once() == []


async def test_rules_say_where_copies_go_and_move_them(world: World, source: Path) -> None:
    devices = await begin(world, source, ("attic", "cellar"), copies=2)
    laptop, attic, cellar = devices["laptop"], devices["attic"], devices["cellar"]
    first, second = contract_with(laptop, attic), contract_with(laptop, cellar)
    shown = await laptop.ask("placement", project="photos")
    assert (shown["copies"], shown["prefer"], shown["avoid"]) == (2, [], [])

    await laptop.ask("placement", project="photos", copies=1, prefer=["cellar"])
    (source / "new").write_bytes(random.Random(2).randbytes(MB))
    done = await laptop.ask("backup")
    assert done["targets"] == ["cellar"]
    assert chunks_at(attic, first) < chunks_at(cellar, second)

    await laptop.ask("placement", project="photos", prefer=[], avoid=["cellar"])
    await look(laptop)
    (source / "newer").write_bytes(random.Random(3).randbytes(MB))
    done = await laptop.ask("backup")
    assert done["targets"] == ["attic"]
    await world.stop("cellar")
    assert (await laptop.ask("verify", read_data_percent=100.0))["errors"] == []
    for wrong in ({"copies": 0}, {"prefer": ["nobody"]}, {"prefer": ["attic"], "avoid": ["attic"]}):
        with pytest.raises(NodeError):
            await laptop.ask("placement", project="photos", **wrong)
