"""How the cost of a chunk grows with the number of contracts at one provider, and with that of customers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sovereign_devnet.bench.chunkstore import BATCH, make_chunk
from sovereign_devnet.bench.results import Bar, Part, Settings, Table, median
from sovereign_node.chunkstore import LogChunkStore

_SAMPLES = 200
_CHUNKS_EACH = BATCH


def measure(settings: Settings) -> Part:
    """Fill a store with contracts, and put and get under contracts all over it."""
    counts = (10, 100) if settings.quick else (10, 100, 1_000)
    rows = [_measure_count(settings.folder / str(count), count) for count in counts]
    table_rows: list[list[Any]] = [[row["contracts"], row["put_us"], row["get_us"], row["open_s"]] for row in rows]
    columns = ("contracts", "put, µs per chunk", "get, µs", "open, s")
    first, last = rows[0], rows[-1]
    bars = [
        Bar(
            f"{what} cost with {last['contracts']:,} / {first['contracts']:,} contracts",
            last[key] / first[key],
            "<=",
            1.5,
        )
        for what, key in (("put", "put_us"), ("get", "get_us"))
    ]
    title = "Contracts on one provider: cost of a chunk as their number grows"
    return Part([Table(title, columns, table_rows)], bars, rows)


def _measure_count(folder: Path, count: int) -> dict[str, Any]:
    contracts = [number.to_bytes(32, "big") for number in range(1, count + 1)]
    chunks = [make_chunk(number) for number in range(_CHUNKS_EACH)]
    with_contracts = LogChunkStore(folder, reserve_bytes=0)
    for contract in contracts:
        with_contracts.set_quota(contract, 2**40)
        with_contracts.put_many(contract, chunks, verified=True)
    with_contracts.close()
    began = time.perf_counter()
    store = LogChunkStore(folder, reserve_bytes=0)
    open_s = time.perf_counter() - began
    puts, gets = [], []
    for sample in range(_SAMPLES):
        contract = contracts[sample * 7919 % count]
        batch = [make_chunk(10**9 + sample * BATCH + number) for number in range(BATCH)]
        began = time.perf_counter()
        store.put_many(contract, batch, verified=True)
        puts.append((time.perf_counter() - began) / BATCH * 1e6)
        began = time.perf_counter()
        store.get(contract, chunks[sample % _CHUNKS_EACH][0])
        gets.append((time.perf_counter() - began) * 1e6)
    store.close()
    return {"contracts": count, "put_us": median(puts), "get_us": median(gets), "open_s": open_s}
