"""Parts that other modules measure by themselves, brought into tables and bars."""

from __future__ import annotations

import resource
from typing import Any

import trio

from sovereign_devnet.bench.results import Bar, Part, Settings, Table


def measure_transport(settings: Settings) -> Part:
    """Raw stream and latencies; see :mod:`sovereign_devnet.bench.transport`."""
    from sovereign_devnet.bench import transport

    found = transport.measure(quick=settings.quick, rounds=settings.rounds)
    names = {"floor": "ChaCha20 over a bare trio socket", "fast": "ours", "stock": "stock py-libp2p"}
    rows: list[list[Any]] = []
    for mode, figures in found["medians"].items():
        bulk = figures["bulk"]
        latencies = [figures.get(name, {}).get("median_ms") for name in ("connect", "new_stream", "round_trip")]
        rows.append(
            [
                names[mode],
                bulk["mb_per_s"],
                bulk["send_cpu_s_per_gb"],
                bulk["receive_cpu_s_per_gb"],
                bulk["send_peak_rss_mb"],
                bulk["receive_peak_rss_mb"],
                *latencies,
                figures.get("round_trip_under_bulk", {}).get("p99_ms"),
            ]
        )
    columns = (
        "stream between two processes",
        "MB/s",
        "send CPU s/GB",
        "receive CPU s/GB",
        "send RSS MB",
        "receive RSS MB",
        "connect ms",
        "new stream ms",
        "64 B round trip ms",
        "p99 under bulk ms",
    )
    bars = [_bar(name, bar) for name, bar in found["bars"].items()]
    return Part([Table("One stream, 1 MiB writes (stock: its best write size)", columns, rows)], bars, found)


def measure_store(settings: Settings) -> Part:
    """Chunks in a store; see :mod:`sovereign_devnet.bench.chunkstore`."""
    from sovereign_devnet.bench import chunkstore

    counts = (5_000, 20_000) if settings.quick else chunkstore.DEFAULT_COUNTS
    most_compared = None if settings.full else chunkstore.MOST_COMPARED
    found = chunkstore.measure(settings.folder, counts=counts, most_compared=most_compared)
    bars = found.pop("bars", {})
    rows = [
        [name, *(row[key] for key in ("chunks", "put_us", "get_us", "open_s")), row["disk_bytes"] / row["chunks"]]
        for name, design in found.items()
        for row in design
    ]
    columns = ("design", "chunks", "put, µs per chunk", "get, µs", "open, s", "disk bytes per chunk")
    title = "Chunks of 4 KiB in a store: cost as their number grows"
    note = "Puts are durable and come in batches of 16; gets are of random chunks, one by one."
    return Part([Table(title, columns, rows, note)], [_parsed(name, value) for name, value in bars.items()], found)


def measure_dht(settings: Settings) -> Part:
    """Lookups while nodes are dead; see :mod:`sovereign_devnet.bench.dht`."""
    from sovereign_devnet.bench import dht
    from sovereign_node.log import configure_logging

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    configure_logging("error")
    runs = []
    for count in (16,) if settings.quick else (16, 32, 64):
        settings.say(f"dht with {count} nodes")
        lookups = 30 if settings.quick else 100
        runs.append(trio.run(lambda count=count, lookups=lookups: dht.measure_dht(count, lookups=lookups)))
    rows: list[list[Any]] = [
        [
            run["nodes"],
            run["failed"],
            run["join_all_s"],
            *(run[kind][key] for kind in ("get", "find_providers") for key in ("success", "p50_s", "p99_s")),
        ]
        for run in runs
    ]
    columns = (
        "nodes",
        "killed",
        "all joined, s",
        "get: success",
        "p50 s",
        "p99 s",
        "find providers: success",
        "p50 s ",
        "p99 s ",
    )
    bars = [
        bar
        for run in runs
        for kind in ("get", "find_providers")
        for bar in (
            Bar(f"{run['nodes']} nodes: {kind} succeeds", run[kind]["success"], ">=", 1.0),
            Bar(f"{run['nodes']} nodes: {kind} p99", run[kind]["p99_s"], "<=", dht.BAR_P99_S, "s"),
        )
    ]
    return Part([Table("Lookups in a DHT on one machine, 30 % of the nodes killed", columns, rows)], bars, runs)


def measure_nats(settings: Settings) -> Part:
    """Tunnels through a NATS server; see :mod:`sovereign_devnet.bench.nats`."""
    from sovereign_devnet.bench import nats

    found = trio.run(nats.run, settings.pick(16, 128) << 20)
    names = {"plain": "plain publishing", "tunnel": "our tunnel", "peer_stream": "a peer's stream in the tunnel"}
    rows: list[list[Any]] = [[names.get(name, name), *figures.values()] for name, figures in found.items()]
    plain, stream = found["plain"], found["peer_stream"]
    bars = [
        Bar("throughput / plain publishing", stream["megabytes_per_s"] / plain["megabytes_per_s"], ">=", 0.5),
        Bar("round trip / plain publishing", stream["round_trip_ms"] / plain["round_trip_ms"], "<=", 3.0),
    ]
    columns = ("through a NATS server", "MB/s", "sender CPU s/GB", "64 B round trip ms")
    return Part([Table("A relayed peer against plain publishing, 64 KiB messages", columns, rows)], bars, found)


def _bar(name: str, bar: dict[str, Any]) -> Bar:
    sign, limit = bar["bar"].split()
    return Bar(name, bar["value"], sign, float(limit), possible=bar["possible"])


def _parsed(text: str, value: float) -> Bar:
    name, _, rest = text.partition(" <= ")
    limit, _, unit = rest.partition(" ")
    return Bar(name, value, "<=", float(limit), unit)
