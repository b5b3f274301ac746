"""Chunks over the chunk protocol between two processes, checked by SHA-256: on our stack and on the stock one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sovereign_devnet.bench.floors import measure_primitives
from sovereign_devnet.bench.results import Bar, Part, Settings, Table, median
from sovereign_devnet.bench.transport import run_pair

MIB = 1024 * 1024
MODES = ("fast", "stock")
SIZES = (64 * 1024, MIB, 4 * MIB)
_PEER = [sys.executable, "-m", "sovereign_devnet.bench.chunks_peer"]
_NAMES = {"fast": "ours", "stock": "ours on stock py-libp2p"}
_STREAM_SAMPLES = {"connects": 1, "streams": 2, "round_trips": 2}


def measure(settings: Settings) -> Part:
    """Put and fetch chunks of each size, in turns of the two stacks; the stream beside them in the same run."""
    total = settings.pick(64, 256) * MIB
    rounds: dict[str, list[dict[str, dict[str, float]]]] = {mode: [] for mode in MODES}
    streams, hashes = [], []
    for number in range(settings.rounds):
        for mode in MODES:
            folder = settings.folder / f"{mode}-{number}"
            rounds[mode].append(run_round(mode, folder, total if mode == "fast" else total // 4))
        streams.append(run_pair("fast", {**_STREAM_SAMPLES, "bytes": total})["bulk"])
        hashes.append(measure_primitives(bytes(16 * MIB))["SHA-256"])
    medians = {
        mode: {act: {key: median(item[act][key] for item in taken) for key in taken[0][act]} for act in taken[0]}
        for mode, taken in rounds.items()
    }
    stream = {name: median(item[name] for item in streams) for name in streams[0]}
    data = {"medians": medians, "rounds": rounds, "stream": stream, "sha256_cpu_s_per_gb": median(hashes)}
    return Part([_table(medians)], _bars(medians, stream, median(hashes)), data)


def run_round(mode: str, folder: Path, total_bytes: int, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Run provider and customer in two fresh processes.

    Args:
        mode: ``fast`` or ``stock``.
        folder: new, for the provider's store.
        total_bytes: of each size.
        sizes: of chunks, without envelope.

    Returns:
        Figures of putting and getting each size.
    """
    figures: dict[str, Any] = {}
    with subprocess.Popen([*_PEER, "serve", mode, str(folder)], stdin=-1, stdout=-1, text=True) as server:
        plan = {"server": _line(server), "sizes": sizes, "bytes": total_bytes}
        with subprocess.Popen([*_PEER, "drive", mode], stdin=-1, stdout=-1, text=True) as client:
            _tell(client, json.dumps(plan))
            _tell(server, "go")
            before = _line(server)["cpu_s"]
            for size in sizes:
                for act in ("put", "get"):
                    here = _line(client)
                    _tell(server, "go")
                    there = _line(server)["cpu_s"]
                    gb = here["bytes"] / 1e9
                    figures[f"{act} {size // 1024} KiB"] = {
                        "mb_per_s": here["mb_per_s"],
                        "client_cpu_s_per_gb": here["cpu_s"] / gb,
                        "provider_cpu_s_per_gb": (there - before) / gb,
                    }
                    before = there
                    _tell(client, "next")
    return figures


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        raise RuntimeError("a process of the chunk benchmark ended")
    document: dict[str, Any] = json.loads(text)
    return document


def _tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def _table(medians: dict[str, dict[str, dict[str, float]]]) -> Table:
    rows: list[list[Any]] = [
        [_NAMES[mode], act, *figures.values()] for mode, acts in medians.items() for act, figures in acts.items()
    ]
    columns = ("stack", "chunks", "MB/s", "client CPU s/GB", "provider CPU s/GB")
    return Table("Chunks between two processes, every chunk hashed and stored durably", columns, rows)


def _bars(medians: dict[str, dict[str, dict[str, float]]], stream: dict[str, float], hash_cpu: float) -> list[Bar]:
    bars = []
    reference = min(stream["mb_per_s"], 1000 / hash_cpu)
    sides = stream["send_cpu_s_per_gb"], stream["receive_cpu_s_per_gb"]
    # Every byte passes both ends of a stream, each of one thread, and the check; all share the cores.
    possible = min(1000 * (os.cpu_count() or 1) / (sum(sides) + hash_cpu), 1000 / max(sides))
    for size in ("1024 KiB", "4096 KiB"):
        ours, stock = (medians[mode][f"get {size}"]["mb_per_s"] for mode in MODES)
        bars += [
            Bar(f"fetch {size} / stock", ours / stock, ">=", 4.0, possible=possible / stock),
            Bar(f"fetch {size} / min(stream, SHA-256)", ours / reference, ">=", 0.8, possible=possible / reference),
        ]
    return bars
