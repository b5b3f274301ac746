"""How long money takes: python tests/suites/money_bench.py [--contracts N] [--postings N] [--json FILE].

Both sides run in this process over real databases on the disk of the temporary folder. Beside each figure stands
its bar, and the floor: the signatures that the work cannot do without.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from money_world import CUSTOMER, GB, NOW, MoneyWorld, databases

from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.store import open_state
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import MeterReport, Receipt
from sovereign_protocols.settle.ledger import Posting
from sovereign_protocols.settle.signed import parse_signed

CHUNK_BYTES = 1024**2
BATCH = 16


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run something; returns its result, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def daily_round(folder: Path, contracts: int) -> dict[str, float]:
    """Report and voucher for all contracts, and what the signatures alone cost."""
    provider, customer = databases(folder)
    with open_state(provider) as first, open_state(customer) as second:
        world = MoneyWorld(first, second)
        ids = [world.open() for _ in range(contracts)]
        for contract_id in ids:
            world.put(contract_id, 5 * GB, moved=GB)
        world.meter.run_once()
        for contract_id in ids:
            receipts = world.desk.handle(CUSTOMER.caller, m.ReceiptQuery(contract_id, 0)).receipts
            world.customer.take_receipts(contract_id, [parse_signed(raw, Receipt) for raw in receipts])
        world.now += 86_400

        def reports() -> list[m.ReportAnswer]:
            world.meter.run_once()
            return [world.desk.handle(CUSTOMER.caller, m.ReportQuery(contract_id)) for contract_id in ids]

        def vouchers() -> list[m.VoucherKept]:
            pairs = zip(ids, answers, strict=True)
            reports = [(contract_id, parse_signed(answer.report, MeterReport)) for contract_id, answer in pairs]
            signed = [world.customer.settle_report(contract_id, report) for contract_id, report in reports]
            return [world.desk.handle(CUSTOMER.caller, m.VoucherNote(item.raw)) for item in signed]

        answers, report_s, report_cpu_s = timed(reports)
        kept, voucher_s, voucher_cpu_s = timed(vouchers)
        assert all(answer.exposed == 0 for answer in kept)
        message = bytes(400)
        key = CUSTOMER.device_key
        _, floor_s, _ = timed(lambda: [key.sign(message) for _ in range(4 * contracts)])
    return {
        "contracts": contracts,
        "report_and_voucher_s": report_s + voucher_s,
        "report_and_voucher_cpu_s": report_cpu_s + voucher_cpu_s,
        "bar_s": 5.0,
        "four_signatures_each_s": floor_s,
        "voucher_round_trip_cpu_ms": voucher_cpu_s / contracts * 1000,
        "bar_voucher_ms": 5.0,
    }


def ledger(folder: Path, postings: int) -> dict[str, float]:
    """Verify a ledger."""
    with open_state(folder / "ledger.sqlite") as state:
        with state.transaction():
            for number in range(1, postings // 2 + 1):
                lines = (Posting(f"receivable:{number % 100}", number), Posting(f"income:{number % 100}", -number))
                state.ledger.post(at=NOW, kind="charge", cause=number.to_bytes(32, "big"), postings=lines)
        fault, wall_s, _ = timed(state.ledger.verify)
        assert fault is None
    return {"postings": postings, "ledger_verify_s": wall_s, "bar_s": 5.0}


def metering(folder: Path, batches: int) -> dict[str, float]:
    """Compare storing chunks with what metering them adds."""
    provider, customer = databases(folder)
    with open_state(provider) as first, open_state(customer) as second:
        world = MoneyWorld(first, second)
        contract_id = world.open(credit_limit=10**12)
        world.store = LogChunkStore(folder / "chunks", reserve_bytes=0)
        world.meter._store = world.store
        world.store.set_quota(contract_id, 10**12)
        import hashlib
        import os

        groups = [[os.urandom(CHUNK_BYTES) for _ in range(BATCH)] for _ in range(batches)]
        spent = 0.0

        def store() -> None:
            nonlocal spent
            for group in groups:
                items = [(hashlib.sha256(data).digest(), data) for data in group]
                began = time.thread_time()
                world.meter.admit(contract_id, CHUNK_BYTES * BATCH)
                with world.meter.change(contract_id) as change:
                    spent += time.thread_time() - began
                    world.store.put_many(contract_id, items, verified=True)
                    began = time.thread_time()
                    change.came = [(chunk_id, len(data)) for chunk_id, data in items]
                spent += time.thread_time() - began
            began = time.thread_time()
            world.meter.run_once()
            spent += time.thread_time() - began

        _, _, cpu_s = timed(store)
        world.store.close()
    return {
        "bytes": batches * BATCH * CHUNK_BYTES,
        "store_cpu_s": cpu_s,
        "metering_percent": spent / (cpu_s - spent) * 100,
        "bar_percent": 2.0,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contracts", type=int, default=1000)
    parser.add_argument("--postings", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "metering").mkdir()
        results = {
            "daily round": daily_round(folder, options.contracts),
            "ledger": ledger(folder, options.postings),
            "metering": metering(folder / "metering", options.batches),
        }
    for part, figures in results.items():
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        sys.stdout.write(f"{part}: {shown}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
