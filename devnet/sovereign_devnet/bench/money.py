"""How long money takes: the daily round of many contracts, the ledger, metering, and what probes send.

Both sides run on this machine, each over a database of its own on the disk of the working folder. Beside each
figure stands the floor: the signatures and commits that the work cannot do without.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from sovereign_devnet.bench.money_sides import GB, open_sides
from sovereign_devnet.bench.results import Bar, Part, Settings, Table
from sovereign_devnet.market.world import ScaledClock, open_world, without_keyring
from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.services.money.provider_meter import ProviderMeter
from sovereign_node.store import State, open_state
from sovereign_protocols.probe.windows import WINDOW_S
from sovereign_protocols.settle.ledger import Posting

DAY_S: Final = 86_400
#: Customers that come at the same moment; a node's own limit of worker threads is higher.
AT_ONCE: Final = 32
CHUNK_BYTES: Final = 1024**2
BATCH: Final = 16
PROBES: Final = 20
OBSERVED: Final = 100

Item = TypeVar("Item")
Result = TypeVar("Result")


def measure(settings: Settings) -> Part:
    """Measure all."""
    contracts = settings.pick(100, 1000)
    rounds = daily_round(settings.folder / "round", contracts)
    verified = verify_ledger(settings.folder / "ledger", settings.pick(10_000, 100_000))
    metered = metering(settings.folder / "metering", settings.pick(16, 48))
    with without_keyring():
        probed = trio.run(probing, settings.folder / "probing")
    rows: list[list[Any]] = [
        ["meter report and voucher for all contracts, s", rounds["round_s"], rounds["floor_s"]],
        ["CPU of one voucher round trip, ms", rounds["voucher_cpu_ms"], rounds["voucher_floor_ms"]],
        [f"verify a ledger of {verified['postings']:,} postings, s", verified["verify_s"], None],
        ["CPU that metering adds to storing chunks, %", metered["percent"], None],
        [f"probing {OBSERVED} providers, kbit/s", probed["kbit_per_s"], None],
    ]
    bars = [
        Bar(f"report and voucher for {contracts:,} contracts", rounds["round_s"], "<=", 5 * contracts / 1000, "s"),
        Bar("voucher round trip, CPU", rounds["voucher_cpu_ms"], "<=", 5, "ms"),
        Bar(f"ledger of {verified['postings']:,} postings", verified["verify_s"], "<=", 5, "s"),
        Bar("metering", metered["percent"], "<=", 2, "%"),
        Bar(f"probing {OBSERVED} providers", probed["kbit_per_s"], "<=", 20, "kbit/s"),
    ]
    table = Table(
        f"Money: {contracts:,} contracts at one provider, both sides on this machine",
        ("work", "measured", "floor"),
        rows,
        "Floor: the signatures of both sides, made and checked, and one commit for each group.",
    )
    data = {"round": rounds, "ledger": verified, "metering": metered, "probing": probed}
    return Part([table], bars, data)


def daily_round(folder: Path, contracts: int) -> dict[str, float]:
    """Let a day pass under many contracts: the provider meters, the customers take reports and hand in vouchers."""
    with open_sides(folder) as sides, ThreadPoolExecutor(AT_ONCE) as pool:
        ids = [sides.open() for _ in range(contracts)]
        for contract_id in ids:
            sides.put(contract_id, 5 * GB)
        sides.meter.run_once()
        each(pool, sides.take_receipts, ids)
        sides.now += DAY_S
        began, cpu = time.perf_counter(), time.process_time()
        sides.meter.run_once()
        reports = each(pool, sides.ask_report, ids)
        report_s = time.perf_counter() - began
        voucher_cpu = time.process_time()
        kept = each(pool, sides.pay, list(zip(ids, reports, strict=True)))
        now = time.process_time()
        round_s = time.perf_counter() - began
        assert all(answer.exposed == 0 for answer in kept)
    floor_s, floor_cpu_s = _floor(folder, contracts)
    return {
        "contracts": contracts,
        "round_s": round_s,
        "report_s": report_s,
        "cpu_s": now - cpu,
        "floor_s": floor_s,
        "voucher_cpu_ms": (now - voucher_cpu) / contracts * 1000,
        "voucher_floor_ms": floor_cpu_s / contracts * 1000,
    }


def each(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do something for all items, so many at once as the pool has threads."""
    return list(pool.map(work, items))


def _floor(folder: Path, contracts: int) -> tuple[float, float]:
    """Time two signatures and two checks for each contract, and a commit for each group on both sides."""
    from sovereign_crypto.signing import SigningKey, verify

    key, message = SigningKey.generate(), bytes(400)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(2 * contracts):
        verify(key.public, message, key.sign(message))
    cpu_s = time.process_time() - cpu
    groups = -(-contracts // AT_ONCE)
    with (folder / "floor").open("wb") as file:
        for _ in range(4 * groups):
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - began, cpu_s


def verify_ledger(folder: Path, postings: int) -> dict[str, float]:
    """Verify a ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_state(folder / "state.sqlite") as state:
        _fill_ledger(state, postings)
        began = time.perf_counter()
        fault = state.ledger.verify()
        verify_s = time.perf_counter() - began
    assert fault is None
    return {"postings": postings, "verify_s": verify_s}


def _fill_ledger(state: State, postings: int) -> None:
    with state.transaction():
        for number in range(1, postings // 2 + 1):
            lines = (Posting(f"receivable:{number % 100}", number), Posting(f"income:{number % 100}", -number))
            state.ledger.post(at=number, kind="charge", cause=number.to_bytes(32, "big"), postings=lines)


def metering(folder: Path, batches: int) -> dict[str, float]:
    """Compare the CPU time of storing chunks with what metering them adds."""
    with open_sides(folder) as sides:
        store = LogChunkStore(folder / "chunks", reserve_bytes=0)
        contract_id = sides.open(credit_limit=10**12)
        store.set_quota(contract_id, 10**12)
        meter = sides.meter_over(store)
        stored_s = spent_s = 0.0
        for _ in range(batches):
            chunks = [os.urandom(CHUNK_BYTES) for _ in range(BATCH)]
            stored, spent = _store_metered(store, meter, contract_id, chunks)
            stored_s += stored
            spent_s += spent
        began = time.thread_time()
        meter.run_once()
        spent_s += time.thread_time() - began
        store.close()
    return {"bytes": batches * BATCH * CHUNK_BYTES, "store_cpu_s": stored_s, "percent": spent_s / stored_s * 100}


def _store_metered(
    store: LogChunkStore, meter: ProviderMeter, contract_id: bytes, chunks: list[bytes]
) -> tuple[float, float]:
    """Store a batch as the chunk service does; returns CPU seconds of hashing and storing, and of metering."""
    began = time.thread_time()
    meter.admit(contract_id, CHUNK_BYTES * len(chunks))
    with meter.change(contract_id) as change:
        spent = time.thread_time() - began
        cpu = time.process_time()
        items = [(hashlib.sha256(data).digest(), data) for data in chunks]
        store.put_many(contract_id, items, verified=True)
        stored = time.process_time() - cpu
        began = time.thread_time()
        change.came = [(chunk_id, len(data)) for chunk_id, data in items]
    return stored, spent + time.thread_time() - began


async def probing(folder: Path) -> dict[str, float]:
    """Count the bytes that an observer and a provider exchange for one probe in every window."""
    async with open_world(folder, ScaledClock(int(time.time()), 0)) as world:
        provider = await world.create("provider", "provider")
        observer = await world.create("observer", "server")
        await observer.discovery.joined.wait()
        capacity = 10_000_000
        await world.ask("observer", "contract_open", provider=provider.keys.peer_id, capacity_bytes=capacity)
        await observer.uptime.probe(provider.keys.public)

        def moved() -> int:
            found = [info for info in observer.network.connections() if info.peer_id == provider.keys.peer_id]
            return sum(info.bytes_sent + info.bytes_received for info in found)

        before = moved()
        for _ in range(PROBES):
            await world.clock.advance(WINDOW_S)
            assert await observer.uptime.probe(provider.keys.public)
        each_bytes = (moved() - before) / PROBES
    return {"bytes_each": each_bytes, "kbit_per_s": each_bytes * OBSERVED * 8 / WINDOW_S / 1000}
