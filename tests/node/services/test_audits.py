"""Audits and repair between real nodes in one process; the plan over a database."""

import random
import time
from dataclasses import replace

import keyring
import keyring.backends.null
import pytest
import trio
from node_world import open_world

from sovereign_devnet.stored_chunks import stored_chunks
from sovereign_node.errors import NodeError
from sovereign_node.services.audit_plan import (
    DAY_S,
    MIN_FETCH_BYTES,
    RETRY_S,
    SAMPLES_PER_DAY,
    AuditPlan,
    has_failed_by_silence,
)
from sovereign_node.store import open_state
from sovereign_node.store.audits import AuditRecord
from sovereign_node.store.contracts import Contract
from sovereign_protocols.settle.bodies import CreditNote


def ident(number: int) -> bytes:
    return number.to_bytes(32, "big")


NOW = 1_800_000_000
CONTRACT = Contract(
    ident(1), "customer", "active", *map(ident, (2, 3, 4, 5)), 10**9, 2, 1, NOW, NOW * 2, 50, 10, NOW
)
RECORD = AuditRecord(ident(1), ident(3), ident(30), "hash", "no_answer", False, 4096, 0, NOW, NOW)


class Time:
    """A clock that tests move."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        opened.contracts.save(CONTRACT)
        yield opened


def place(state, count: int, size_bytes: int = 4096, *, with_root: bool = True) -> None:
    state.placed_chunks.add(ident(1), ident(7), [(ident(100 + n), size_bytes) for n in range(count)], at=NOW)
    with state.transaction():
        for number in range(count if with_root else 0):
            state.placed_chunks.note_pass(ident(1), ident(100 + number), at=NOW, leaf_root=ident(9))


def draws(plan: AuditPlan, clock: Time, days: int) -> int:
    found = 0
    for _ in range(days * 24):
        clock.now += 3600
        found += len(plan.due(CONTRACT))
    return found


def test_about_48_samples_a_day(state) -> None:
    place(state, 5000)
    clock = Time()
    found = draws(AuditPlan(state, clock, random.Random(1)), clock, 20)
    assert found == pytest.approx(20 * SAMPLES_PER_DAY, rel=0.1)


def test_a_failure_asks_for_459_samples_in_about_a_day(state) -> None:
    place(state, 5000)
    clock = Time()
    plan = AuditPlan(state, clock, random.Random(1))
    plan.escalate(ident(1))
    found = draws(plan, clock, 2)
    assert 430 <= found <= 600


def test_a_small_contract_is_swept_in_a_month(state) -> None:
    place(state, 60)
    clock = Time(NOW + 31 * DAY_S)
    plan = AuditPlan(state, clock, random.Random(1))
    seen: set[bytes] = set()
    for _ in range(30 * 24):
        clock.now += 3600
        for chunk, _ in plan.due(CONTRACT):
            seen.add(chunk.chunk_id)
            state.placed_chunks.note_pass(ident(1), chunk.chunk_id, at=clock.now)
    assert len(seen) == 60


def test_a_night_off_line_is_not_made_up_for_at_once(state) -> None:
    place(state, 5000)
    clock = Time()
    plan = AuditPlan(state, clock, random.Random(1))
    assert plan.due(CONTRACT) == []
    clock.now += 30 * DAY_S
    assert len(plan.due(CONTRACT)) <= SAMPLES_PER_DAY
    assert len(plan.due(CONTRACT)) <= 1


def test_fetching_keeps_within_its_budget(state) -> None:
    place(state, 50, MIN_FETCH_BYTES // 4, with_root=False)
    plan = AuditPlan(state, Time(), random.Random(1))
    chunk, is_sample = plan.draw(CONTRACT)
    assert is_sample
    for number in range(4):
        state.audits.add(replace(RECORD, method="fetch", moved_bytes=chunk.size_bytes, audited_at=NOW - number))
    assert plan.draw(CONTRACT) == (None, False)
    state.placed_chunks.note_pass(ident(1), ident(103), at=NOW, leaf_root=ident(9))
    found, is_sample = plan.draw(CONTRACT)
    assert (found.chunk_id, is_sample or found.leaf_root == ident(9)) == (ident(103), True)
    free = replace(CONTRACT, price_micro_vibe_per_gb_transfer=0)
    assert plan.draw(free)[1]
    assert AuditPlan(state, Time(), random.Random(1)).draw(replace(CONTRACT, contract_id=ident(8))) == (None, False)


def test_a_chunk_without_answer_is_asked_for_again(state) -> None:
    place(state, 5)
    clock = Time()
    plan = AuditPlan(state, clock, random.Random(1))
    chunk = state.placed_chunks.at(ident(1), 2)
    for _ in range(3):
        plan.ask_again(chunk)
    assert (chunk, False) not in plan.due(CONTRACT)
    clock.now += RETRY_S
    assert [item for item, is_sample in plan.due(CONTRACT) if not is_sample].count(chunk) <= 1
    assert plan._retries[ident(1)] == []


def test_silence_fails_the_third_time_six_hours_apart() -> None:
    def at(*hours: int, outcome: str = "no_answer") -> list[AuditRecord]:
        return [replace(RECORD, audited_at=NOW - hour * 3600, outcome=outcome) for hour in hours]

    assert not has_failed_by_silence([], NOW)
    assert not has_failed_by_silence(at(6), NOW)
    assert not has_failed_by_silence(at(1, 2, 3, 4, 5, 6), NOW)
    assert has_failed_by_silence(at(6, 12), NOW)
    assert has_failed_by_silence(at(1, 7, 13, 14), NOW)
    assert not has_failed_by_silence([*at(6), *at(7, outcome="passed"), *at(12)], NOW)


@pytest.fixture
def _no_keyring():
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


def rot(folder, wanted: set[bytes]) -> bytes:
    """Flip bytes of one of the wanted chunks on a provider's disk."""
    chunk = next(item for item in stored_chunks(folder / "chunks") if item.chunk_id in wanted)
    with chunk.path.open("r+b") as file:
        file.seek(chunk.offset + 100)
        file.write(b"rotten")
    return chunk.chunk_id


async def audit_all(node, contract) -> dict[str, int]:
    found: dict[str, int] = {}
    for position in range(node.state.placed_chunks.count(contract.contract_id)):
        chunk = node.state.placed_chunks.at(contract.contract_id, position)
        record = await node.audits.audit(contract, chunk, is_sample=True)
        found[record.method, record.outcome] = found.get((record.method, record.outcome), 0) + 1
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("_no_keyring")
async def test_a_lost_chunk_is_found_credited_and_put_back(tmp_path) -> None:
    clock = Time(int(time.time()))
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(1).randbytes(9_000_000))
    async with open_world(tmp_path, clock) as world:
        world.make("attic", "provider")
        world.make("cellar", "provider")
        world.make("laptop", "mobile")
        attic = await world.start("attic")
        cellar = await world.start("cellar", attic.address)
        laptop = await world.start("laptop", attic.address, cellar.address)
        await laptop.node.discovery.joined.wait()
        for provider in (attic, cellar):
            await laptop.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=10**9)
        await laptop.ask("protect", path=str(source), copies=2)
        await laptop.ask("backup")
        node = laptop.node
        await node.audits._placements.learn()
        contracts = {item.provider_device: item for item in node.audits.contracts()}
        contract = contracts[attic.node.keys.public]
        placed = node.state.placed_chunks
        count = placed.count(contract.contract_id)
        assert count >= 3

        clock.now += DAY_S
        assert await audit_all(node, contract) == {("fetch", "passed"): count}
        clock.now += 60
        assert await audit_all(node, contract) == {("leaf", "passed"): count}
        assert node.state.audits.count(contract.contract_id).samples == 2 * count

        clock.now += 10 * DAY_S
        lost = rot(tmp_path / "attic", {placed.at(contract.contract_id, n).chunk_id for n in range(count)})
        chunk = placed.get(contract.contract_id, lost)
        record = await node.audits.audit(contract, chunk, is_sample=True)
        assert (record.outcome, record.passed_before_at) == ("failed", chunk.passed_at)
        assert record.verdict
        assert node.state.audits.count(contract.contract_id).samples == 0
        alert = node.state.audit.last()
        assert (alert.action, alert.outcome[:8]) == ("audit_failed", "critical")
        kept = attic.node.state.audits.records(contract.contract_id, outcome="failed")
        assert [item.verdict for item in kept] == [record.verdict]
        notes = attic.node.state.settlement.all(contract.contract_id, CreditNote, node.identity.network_id)
        assert len(notes) == 1
        expected = chunk.size_bytes * 10 * DAY_S * 2_000_000 / (10**9 * 2_592_000)
        assert notes[0].body.amount == pytest.approx(expected, rel=0.01)
        # The customer fetches what the provider admitted to owe, and both have it in their books.
        await laptop.ask("settle")
        for device in (attic, laptop):
            (row,) = [row for row in device.node.state.contracts.all() if row.contract_id == contract.contract_id]
            assert device.node.money.book_of(row).credits(contract.contract_id) == notes[0].body.amount

        outcomes = [*await node.repair.run_once()]
        if not outcomes:
            # The service itself was quicker.
            outcomes = [entry for entry in node.state.audit.entries() if entry.action == "repaired"]
        assert outcomes
        assert node.repair.waiting == 0
        assert node.state.audit.last().outcome.startswith("1 copied, 0 stored again, 0 lost")
        assert (await node.audits.audit(contract, chunk, is_sample=True)).outcome == "passed"
        assert (await laptop.ask("verify", read_data_percent=100.0))["errors"] == []

        asked = await laptop.ask("audit_now", provider="attic", samples=5)
        assert [(item["audited"], item["passed"], item["failed"]) for item in asked] == [(5, 5, 0)]
        assert asked[0]["statistics"].startswith("99 % sure")
        assert len(await laptop.ask("audit_now", samples=1)) == 2
        shown = await laptop.ask("uptime", provider=attic.node.network.peer_id[:20])
        assert [item["contract"] for item in shown] == [contract.contract_id.hex()]
        for operation, wrong in (
            ("audit_now", {"samples": 0}),
            ("uptime", {"days": 0}),
            ("uptime", {"provider": "x"}),
        ):
            with pytest.raises(NodeError):
                await laptop.ask(operation, **wrong)

        await world.stop("attic")
        clock.now += 60
        silent = await node.audits.audit(contract, chunk, is_sample=True)
        assert silent.outcome == "no_answer"
        for _ in range(2):
            clock.now += RETRY_S
            silent = await node.audits.audit(contract, chunk, is_sample=False)
        assert silent.outcome == "failed"


@pytest.mark.slow
@pytest.mark.usefixtures("_no_keyring")
async def test_without_another_copy_the_content_is_stored_again_from_the_files(tmp_path) -> None:
    clock = Time(int(time.time()))
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(2).randbytes(5_000_000))
    async with open_world(tmp_path, clock) as world:
        world.make("attic", "provider")
        world.make("laptop", "mobile")
        attic = await world.start("attic")
        laptop = await world.start("laptop", attic.address)
        await laptop.node.discovery.joined.wait()
        await laptop.ask("contract_open", provider=attic.node.network.peer_id, capacity_bytes=10**9)
        await laptop.ask("protect", path=str(source))
        await laptop.ask("backup")
        node = laptop.node
        await node.audits._placements.learn()
        (contract,) = node.audits.contracts()
        placed = node.state.placed_chunks
        chunks = [placed.at(contract.contract_id, n) for n in range(placed.count(contract.contract_id))]
        largest = max(chunks, key=lambda item: item.size_bytes)
        lost = rot(tmp_path / "attic", {largest.chunk_id})
        clock.now += DAY_S
        record = await node.audits.audit(contract, placed.get(contract.contract_id, lost), is_sample=True)
        assert record.outcome == "failed"
        await node.repair.run_once()
        assert node.repair.waiting == 0
        repaired = next(entry for entry in node.state.audit.entries() if entry.action == "repaired")
        assert ", 1 stored again, 0 lost" in repaired.outcome
        restored = await laptop.ask("restore", project="source", to=str(tmp_path / "restored"))
        assert restored["errors"] == []
        assert (tmp_path / "restored" / "large").read_bytes() == (source / "large").read_bytes()
        await node.audits._placements.learn(now=True)
        assert placed.get(contract.contract_id, lost) is None
        assert set(await audit_all(node, contract)) <= {("fetch", "passed"), ("leaf", "passed")}


@pytest.mark.slow
@pytest.mark.usefixtures("_no_keyring")
async def test_copies_are_back_at_target_when_a_provider_stays_away(tmp_path) -> None:
    clock = Time(int(time.time()))
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(random.Random(3).randbytes(12_000_000))
    async with open_world(tmp_path, clock) as world:
        providers = ("attic", "cellar", "barn")
        world.make("laptop", "mobile")
        addresses, peers = [], {}
        for name in providers:
            world.make(name, "provider")
            device = await world.start(name, *addresses[:1])
            addresses.append(device.address)
            peers[name] = device.node.network.peer_id
        laptop = await world.start("laptop", *addresses)
        await laptop.node.discovery.joined.wait()
        for name in providers:
            await laptop.ask("contract_open", provider=peers[name], capacity_bytes=10**9)
        await laptop.ask("protect", path=str(source), copies=2)
        await laptop.ask("backup")
        node = laptop.node
        await node.audits._placements.learn()
        by_contract = {
            item.contract_id: node.state.placed_chunks.count(item.contract_id) for item in node.audits.contracts()
        }
        chunks = sum(by_contract.values()) // 2
        await world.stop("attic")
        with trio.fail_after(10):
            while node.network.is_connected(peers["attic"]):
                await trio.sleep(0.05)
        gone = node.state.devices.get_by_peer_id(peers["attic"])
        with trio.fail_after(10):
            while node.state.devices.get(gone.device_id).is_online:
                await trio.sleep(0.05)
        clock.now += 23 * 3600
        await node.repair.run_once()
        assert [entry.action for entry in node.state.audit.entries()].count("repaired") == 0
        clock.now += 2 * 3600
        await node.repair.run_once()
        await node.audits._placements.learn(now=True)
        left = [item for item in node.audits.contracts() if item.provider_device != gone.device_id]
        assert [node.state.placed_chunks.count(item.contract_id) for item in left] == [chunks, chunks]
        note = node.state.audit.last()
        assert (note.action, note.outcome.split(" copied")[0] != "0") == ("repaired", True)
        clock.now += 2 * 3600
        await node.repair.run_once()
        assert [entry.action for entry in node.state.audit.entries()].count("repaired") == 1
