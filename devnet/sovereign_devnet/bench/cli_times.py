"""Times of short commands, memory of an idle node, and a backup of many unchanged files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from sovereign_devnet.bench import corpora
from sovereign_devnet.bench.ours import Sovereign, open_sovereign
from sovereign_devnet.bench.results import Bar, Part, Settings, Table, median
from sovereign_devnet.bench.watch import rss_mb, run_measured
from sovereign_devnet.program import PROGRAM, environment

_TAKES = 5
_IDLE_S = 3.0
_MUCH_BYTES = 10_000_000_000


def measure(settings: Settings) -> Part:
    """Measure commands, idle memory and the unchanged tree."""
    files = settings.pick(10_000, 100_000)
    tree = corpora.make_source_tree(settings.folder / "tree", files=files, median_bytes=300)
    with open_sovereign(settings.folder / "nodes") as ours:
        # What start-up left behind settles within seconds.
        time.sleep(_IDLE_S)
        idle = {name: rss_mb(pid) for name, pid in ours.processes().items()}
        times = {name: median(_take(act) for _ in range(_TAKES)) for name, act in _commands(ours).items()}
        ours.backup("tree", tree.root)
        runs = [ours.laptop.run("backup", "tree")["seconds"] for _ in range(_TAKES)]
        busy = _back_up_much(ours, settings) if settings.full else {}
    floor = median(
        _take(lambda: run_measured([sys.executable, "-c", "pass"], environment())) for _ in range(_TAKES)
    )
    rows: list[list[Any]] = [[name, value] for name, value in times.items()]
    rows += [["python -c pass (the floor)", floor], [f"backup of {files:,} unchanged files", median(runs)]]
    memory: list[list[Any]] = [[f"{name}, idle", value] for name, value in idle.items()]
    memory += [[f"{name}, peak while backing up 10 GB", value] for name, value in busy.items()]
    tables = [Table("Commands, from start to end", ("command", "s"), rows)]
    tables.append(Table("Memory", ("node", "RSS, MB"), memory))
    bars = [Bar(name, value, "<=", 0.3, "s") for name, value in times.items()]
    bars += [Bar(f"idle {name}", value, "<=", 120, "MB") for name, value in idle.items()]
    bars.append(Bar(f"backup of {files:,} unchanged files", median(runs), "<=", 2.0, "s"))
    if busy:
        bars.append(Bar("laptop while backing up 10 GB", busy["laptop"], "<=", 400, "MB"))
    data = {"commands_s": times, "idle_rss_mb": idle, "busy_rss_mb": busy, "unchanged_s": runs, "python_s": floor}
    return Part(tables, bars, data)


def _back_up_much(ours: Sovereign, settings: Settings) -> dict[str, float]:
    """Return the peak memory of each process while ten gigabytes are backed up."""
    large = corpora.make_incompressible(settings.folder / "large", size_bytes=_MUCH_BYTES)
    return ours.backup("large", large.root).peak_rss_mb


def _commands(ours: Sovereign) -> dict[str, Callable[[], object]]:
    program, folder = list(PROGRAM), str(ours.laptop.data_dir.root)
    return {
        "sovereign --help": lambda: run_measured([*program, "--help"], environment()),
        "sovereign status": lambda: run_measured([*program, "--data-dir", folder, "status"], environment()),
    }


def _take(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
