"""``sovereign-devnet demo`` and ``chaos``: run a story in a folder of its own and show its report."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.report import Check, Report, Step

QUICK_NOISE_BYTES = 8 * 1024 * 1024
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made below it
_MEMORY_BYTES = 2 * 1024**3
Tell = Callable[[Path, Callable[[Step | Check], None]], Report]


def run_demo(folder: Path | None, *, keep: bool, quick: bool, seed: int, as_json: bool) -> bool:
    """Tell the story of the lost laptop.

    Args:
        folder: new; a temporary one if None.
        keep: do not delete the folder at the end.
        quick: with fewer bytes.
        seed: of the files.
        as_json: print the report as JSON on standard output, what happens on standard error.

    Returns:
        True if every check passed.
    """
    from sovereign_devnet.story import StoryOptions, tell_story

    def tell(at: Path, on_event: Callable[[Step | Check], None]) -> Report:
        options = StoryOptions(at, QUICK_NOISE_BYTES, seed) if quick else StoryOptions(at, seed=seed)
        return tell_story(options, on_event)

    return _show(tell, folder, keep=keep, as_json=as_json)


def run_market(folder: Path | None, *, keep: bool, days: int, speed: int, seed: int, as_json: bool) -> bool:
    """Let months of the market pass; see :mod:`sovereign_devnet.market`.

    Args:
        folder: new; a temporary one, in memory if possible, if None.
        keep: do not delete the folder at the end.
        days: simulated ones.
        speed: simulated seconds in a real one at most.
        seed: of files and choices.
        as_json: as in :func:`run_demo`.

    Returns:
        True if every cheat was caught and the books agree.
    """
    import logging

    from sovereign_devnet.market.story import MarketOptions, tell_market
    from sovereign_node.log import configure_logging

    configure_logging("error")
    # The library reports every dial to a provider that the story has switched off.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)

    def tell(at: Path, on_event: Callable[[Step | Check], None]) -> Report:
        return tell_market(MarketOptions(at, days, speed, seed), on_event)

    return _show(tell, folder or _in_memory(), keep=keep, as_json=as_json)


def _in_memory() -> Path | None:
    """Make a folder in memory where there is one: a story about time does not wait for disks."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        return None
    return Path(tempfile.mkdtemp(prefix="sovereign-devnet-", dir=_MEMORY))


def run_chaos_command(folder: Path | None, *, keep: bool, rounds: int, seed: int, as_json: bool) -> bool:
    """Kill nodes in the middle of backups; see :mod:`sovereign_devnet.chaos`.

    Args:
        folder: new; a temporary one if None.
        keep: do not delete the folder at the end.
        rounds: kills.
        seed: of files and moments.
        as_json: as in :func:`run_demo`.

    Returns:
        True if nothing was lost.
    """
    from sovereign_devnet.chaos import ChaosOptions, run_chaos

    def tell(at: Path, on_event: Callable[[Step | Check], None]) -> Report:
        return run_chaos(ChaosOptions(at, rounds, seed), on_event)

    return _show(tell, folder, keep=keep, as_json=as_json)


def _show(tell: Tell, folder: Path | None, *, keep: bool, as_json: bool) -> bool:
    from rich.console import Console

    from sovereign_devnet.report import show_event, show_summary

    console = Console(stderr=as_json, soft_wrap=True, highlight=False)
    at = _new_folder(folder)
    try:
        report = tell(at, lambda event: show_event(console, event))
    except BaseException:
        _remove(at, keep)
        raise
    # What failed is evidence.
    kept = keep or not report.ok
    report.folder = str(at) if kept else ""
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    else:
        show_summary(console, report)
    _remove(at, kept)
    return report.ok


def _new_folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="sovereign-devnet-"))
    if folder.exists() and any(folder.iterdir()):
        raise DevnetError(f"{folder} is not empty; choose a new folder")
    return folder


def _remove(folder: Path, kept: bool) -> None:
    if not kept:
        shutil.rmtree(folder)
