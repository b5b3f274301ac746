"""Turns samples of backups into tables, ratios and bars."""

from __future__ import annotations

import os
from typing import Any

from sovereign_devnet.bench.results import Bar, Cell, Part, Table, median
from sovereign_devnet.bench.watch import Sample

OURS = "sovereign"
STOCK = "sovereign, stock stack"
_GB = 1e9
_MB = 1e6

Samples = dict[tuple[str, str, str], list[Sample]]
Corpora = dict[str, tuple[int, int, str]]
Floors = dict[str, dict[str, float]]


def build_report(
    samples: Samples, corpora: Corpora, floors: Floors, names: dict[str, str], skipped: list[str]
) -> Part:
    """Make tables and bars.

    Args:
        samples: by tool, corpus and phase.
        corpora: size, files and name of the change of each.
        floors: of :func:`sovereign_devnet.bench.floors.backup_floor`.
        names: of the tools, for people.
        skipped: what did not take part.
    """
    tables = [_corpus_table(samples, corpus, corpora[corpus], floors[corpus], names) for corpus in corpora]
    tables.append(_process_table(samples, corpora, names))
    tables.append(_floor_table(floors))
    data = {
        "samples": [
            {"tool": tool, "corpus": corpus, "phase": phase, "rounds": [sample.as_json() for sample in taken]}
            for (tool, corpus, phase), taken in samples.items()
        ],
        "corpora": {name: {"bytes": size, "files": files} for name, (size, files, _) in corpora.items()},
        "floors": floors,
        "names": names,
        "plot": plot_data(samples, corpora, names),
    }
    return Part(tables, _bars(samples, corpora, floors), data, skipped)


def plot_data(samples: Samples, corpora: Corpora, names: dict[str, str]) -> dict[str, Any]:
    """Return MB/s of first backup and restore by corpus and tool."""
    return {
        phase: {
            corpus: {
                names[tool]: round(
                    size / _MB / median(sample.seconds for sample in samples[tool, corpus, phase]), 1
                )
                for tool in names
                if (tool, corpus, phase) in samples
            }
            for corpus, (size, _, _) in corpora.items()
        }
        for phase in ("first", "restore")
    }


def _corpus_table(
    samples: Samples, corpus: str, facts: tuple[int, int, str], floor: dict[str, float], names: dict[str, str]
) -> Table:
    size, files, change = facts
    rows: list[list[Cell]] = []
    for tool, name in names.items():
        if (tool, corpus, "first") not in samples:
            continue
        taken = {
            phase: samples.get((tool, corpus, phase), []) for phase in ("first", "unchanged", change, "restore")
        }
        first, restore = taken["first"], taken["restore"]
        rows.append(
            [
                name,
                size / _MB / _seconds(first),
                _cpu(first) / size * _GB,
                _seconds(taken["unchanged"]),
                _seconds(taken[change]),
                median(sample.sent_bytes for sample in taken[change]) / _MB,
                size / _MB / _seconds(restore) if restore else None,
                _cpu(restore) / size * _GB if restore else None,
                max(sum(sample.peak_rss_mb.values()) for group in taken.values() for sample in group),
            ]
        )
    cores = os.cpu_count() or 1
    rows.append(
        [
            f"floor: primitives on {cores} cores",
            cores / floor["backup"] * _GB / _MB,
            floor["backup"],
            *(None,) * 3,
            cores / floor["restore"] * _GB / _MB,
            floor["restore"],
            None,
        ]
    )
    columns = (
        corpus,
        "first, MB/s",
        "CPU s/GB",
        "unchanged, s",
        f"{change}, s",
        "sent, MB",
        "restore, MB/s",
        "CPU s/GB ",
        "peak RSS, MB",
    )
    note = "CPU and peak RSS are sums over all processes of a way."
    if any(tool == "syncthing" for tool, name, _ in samples if name == corpus):
        note += " Syncthing keeps a second copy of the present, without snapshots; it has no restore to compare."
    return Table(f"{corpus}: {size / _MB:,.0f} MB in {files:,} files", columns, rows, note)


def _process_table(samples: Samples, corpora: Corpora, names: dict[str, str]) -> Table:
    rows: list[list[Cell]] = []
    for corpus, (size, _, _) in corpora.items():
        for tool, name in names.items():
            groups = [samples.get((tool, corpus, phase), []) for phase in ("first", "restore")]
            for process in groups[0][0].cpu_s if groups[0] else ():
                cpu = [_cpu_of(process, taken) / size * _GB if taken else None for taken in groups]
                peaks = [s.peak_rss_mb[process] for taken in groups for s in taken if process in s.peak_rss_mb]
                rows.append([corpus, name, process, *cpu, max(peaks, default=None)])
    columns = ("corpus", "way", "process", "first, CPU s/GB", "restore, CPU s/GB", "peak RSS, MB")
    return Table("Each process by itself", columns, rows)


def _floor_table(floors: Floors) -> Table:
    kept = [name for name in next(iter(floors.values())) if name != "ratio"]
    rows: list[list[Cell]] = [[name, *(floor[name] for floor in floors.values())] for name in kept]
    rows.append(["stored / read", *(floor["ratio"] for floor in floors.values())])
    return Table("What a byte can't do without, CPU s/GB", ("step", *floors), rows)


def _bars(samples: Samples, corpora: Corpora, floors: Floors) -> list[Bar]:
    bars: list[Bar] = []
    for corpus, (size, _, change) in corpora.items():
        if (OURS, corpus, "first") not in samples:
            continue
        floor = floors[corpus]
        first, restore = samples[OURS, corpus, "first"], samples[OURS, corpus, "restore"]
        rate = size / _GB / _seconds(first)
        best = (os.cpu_count() or 1) / floor["backup"]
        bars += [
            Bar(f"{corpus}: first backup / floor rate", rate / best, ">=", 0.7, possible=1.0),
            Bar(
                f"{corpus}: first backup, CPU of primitives / ours",
                floor["backup"] * size / _GB / _cpu(first),
                ">=",
                0.7,
                possible=1.0,
            ),
            Bar(
                f"{corpus}: restore, CPU of primitives / ours",
                floor["restore"] * size / _GB / _cpu(restore),
                ">=",
                0.7,
                possible=1.0,
            ),
            Bar(f"{corpus}: laptop RSS while backing up", _peak(first, "laptop"), "<=", 400, "MB"),
        ]
        if ("restic", corpus, "first") in samples:
            bars += _against_restic(samples, corpus, change, size, floor)
    return bars


def _against_restic(samples: Samples, corpus: str, change: str, size: int, floor: dict[str, float]) -> list[Bar]:
    def ratio(phase: str) -> float:
        return _seconds(samples["restic", corpus, phase]) / _seconds(samples[OURS, corpus, phase])

    def sent(phase: str) -> float:
        ours, theirs = (median(s.sent_bytes for s in samples[tool, corpus, phase]) for tool in (OURS, "restic"))
        return ours / max(1.0, theirs)

    def possible(phase: str, primitives: str) -> float:
        best_s = floor[primitives] * size / _GB / (os.cpu_count() or 1)
        return _seconds(samples["restic", corpus, phase]) / best_s

    most = 0.1 if corpus == "database" else 1.0
    return [
        Bar(f"{corpus}: first backup / restic", ratio("first"), ">=", 2.0, possible=possible("first", "backup")),
        Bar(f"{corpus}: restore / restic", ratio("restore"), ">=", 2.0, possible=possible("restore", "restore")),
        Bar(f"{corpus}: unchanged, speed / restic", ratio("unchanged"), ">=", 1.0),
        Bar(f"{corpus}: {change}, speed / restic", ratio(change), ">=", 1.0),
        Bar(f"{corpus}: {change}, bytes sent / restic", sent(change), "<=", most),
    ]


def _seconds(taken: list[Sample]) -> float:
    return median(sample.seconds for sample in taken)


def _cpu(taken: list[Sample]) -> float:
    return median(sample.all_cpu_s for sample in taken)


def _cpu_of(process: str, taken: list[Sample]) -> float:
    return median(sample.cpu_s[process] for sample in taken)


def _peak(taken: list[Sample], process: str) -> float:
    return max(sample.peak_rss_mb[process] for sample in taken)
