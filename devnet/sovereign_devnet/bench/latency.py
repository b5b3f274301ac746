"""How small requests fare while a backup runs, and how long the event loops are held up.

A 64-byte ping goes to and fro on the connection that carries the backup, measured inside the laptop's node.
"""

from __future__ import annotations

import threading
from typing import Any

from sovereign_devnet.bench import corpora
from sovereign_devnet.bench.ours import Sovereign, open_sovereign
from sovereign_devnet.bench.results import Bar, Part, Settings, Table, percentile

MIB = 1024 * 1024
_PINGS_AT_REST = 50


def measure(settings: Settings) -> Part:
    """Ping the provider at rest, during a first backup and during a restore."""
    noise = corpora.make_incompressible(settings.folder / "noise", size_bytes=settings.pick(256, 1024) * MIB)
    trips: dict[str, list[float]] = {}
    with open_sovereign(settings.folder / "nodes") as ours:
        peer_id = str(ours.provider.call("status")["peer_id"])
        ours.protect("noise", noise.root)
        trips["at rest"] = [_ping(ours, peer_id) for _ in range(_PINGS_AT_REST)]
        trips["during a backup"] = _ping_during(ours, peer_id, "backup", project="noise")
        target = str(settings.folder / "restored")
        trips["during a restore"] = _ping_during(ours, peer_id, "restore", project="noise", to=target)
    rows: list[list[Any]] = [
        [name, len(times), percentile(times, 0.5), percentile(times, 0.99), max(times)]
        for name, times in trips.items()
    ]
    bars = [
        Bar(f"round trip {name}, p99", percentile(trips[name], 0.99), "<=", 20.0, "ms")
        for name in ("during a backup", "during a restore")
    ]
    columns = ("64 B round trip", "samples", "median ms", "p99 ms", "slowest ms")
    return Part([Table("Small requests beside bulk, on one connection", columns, rows)], bars, trips)


def _ping(ours: Sovereign, peer_id: str) -> float:
    return float(ours.laptop.call("ping", peer=peer_id, count=1)["rtt_ms"][0])


def _ping_during(ours: Sovereign, peer_id: str, operation: str, **parameters: str) -> list[float]:
    """Run an operation in a thread, and ping until it ends."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            ours.laptop.stream(operation, **parameters)
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            failures.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    trips: list[float] = []
    while worker.is_alive():
        trips.append(_ping(ours, peer_id))
    worker.join()
    if failures:
        raise failures[0]
    return trips
