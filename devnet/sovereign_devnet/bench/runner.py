"""Runs the parts of the benchmark one after the other and writes down what they found."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sovereign_devnet.bench.markdown import render_summary, render_tables
from sovereign_devnet.bench.publish import publish
from sovereign_devnet.bench.results import Part, Settings, describe_machine, load_average
from sovereign_devnet.errors import DevnetError

# Name of the part and the module whose ``measure`` runs it, in the order of running.
PARTS: dict[str, str] = {
    "floors": "sovereign_devnet.bench.floors",
    "transport": "sovereign_devnet.bench.parts",
    "chunks": "sovereign_devnet.bench.chunks",
    "backup": "sovereign_devnet.bench.backup",
    "latency": "sovereign_devnet.bench.latency",
    "cli": "sovereign_devnet.bench.cli_times",
    "dht": "sovereign_devnet.bench.parts",
    "store": "sovereign_devnet.bench.parts",
    "idle": "sovereign_devnet.bench.idle",
    "contracts": "sovereign_devnet.bench.contracts",
    "money": "sovereign_devnet.bench.money",
    "nats": "sovereign_devnet.bench.parts",
}
ROUNDS = 3


def run_benchmarks(
    only: Sequence[str],
    *,
    quick: bool,
    full: bool = False,
    rounds: int | None = None,
    folder: Path | None = None,
    write: Path | None = None,
) -> dict[str, Any]:
    """Measure, and print tables on standard output and progress on standard error.

    Args:
        only: names of parts, also several in one word with commas between; all if empty.
        quick: fewer bytes, one round.
        full: also the sizes that take very long.
        rounds: turns of each way; 3, or 1 if quick.
        folder: where to work; a temporary one if None.
        write: folder for README.md, the figures and the plots, kept as they are if None.

    Returns:
        All figures, JSON-able; a part that failed has the reason as ``failed`` and no figures.

    Raises:
        DevnetError: a part is unknown.
    """
    chosen = choose_parts(only)
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "quick": quick,
        "rounds": rounds or (1 if quick else ROUNDS),
        "parts": {},
    }
    for name in chosen:
        document["parts"][name] = _run_part(name, document["rounds"], quick=quick, full=full, folder=folder)
        sys.stdout.write(render_tables(name, document["parts"][name]) + "\n")
        sys.stdout.flush()
        if write is not None:
            # After each part: what was measured stays, whatever comes after it.
            publish(document, write)
    sys.stdout.write(render_summary(document) + "\n")
    return document


def _run_part(name: str, rounds: int, *, quick: bool, full: bool, folder: Path | None) -> dict[str, Any]:
    load_before, started = load_average(), time.monotonic()
    _say(name)
    failed = ""
    try:
        with tempfile.TemporaryDirectory(prefix="sovereign-bench-", dir=folder) as below:
            part = _measure(name)(Settings(Path(below), quick, full, rounds, _say))
    except Exception as error:  # noqa: BLE001 - one part must not cost the figures of the others
        traceback.print_exception(error)
        part, failed = Part(), f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - started, 1)
    _say(f"{name} took {seconds:.0f} s")
    return part.as_json() | {"failed": failed, "load": [load_before, load_average()], "seconds": seconds}


def choose_parts(only: Sequence[str]) -> list[str]:
    """Return the parts to run, in their order.

    Raises:
        DevnetError: one is unknown.
    """
    words = [word for text in only for word in text.split(",") if word]
    unknown = [word for word in words if word not in PARTS]
    if unknown:
        raise DevnetError(f"there is no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    return [name for name in PARTS if not words or name in words]


def save_json(document: dict[str, Any], path: Path) -> None:
    """Write all figures to a file."""
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _measure(name: str) -> Callable[[Settings], Part]:
    module = importlib.import_module(PARTS[name])
    function: Callable[[Settings], Part] = getattr(module, f"measure_{name}", None) or module.measure
    return function


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
