"""A quick count of what a first backup will meet, so that its progress can say how long it takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from sovereign_node.vault.config import Source
from sovereign_node.vault.report import Counters


def estimate(sources: Sequence[Source], counters: Counters, stop: threading.Event, turn: threading.Lock) -> None:
    """Add up files and bytes below the sources; what is excluded later is counted all the same.

    Args:
        sources: what is protected.
        counters: gets the sums when all is counted.
        stop: set to give up.
        turn: held while a folder is looked at.
    """
    files = size_bytes = 0
    folders: list[str] = []
    for source in sources:
        if source.path.is_dir():
            folders.append(os.fspath(source.path))
        elif source.path.is_file():
            files += 1
            size_bytes += source.path.stat().st_size
    while folders:
        if stop.is_set():
            return
        try:
            with turn, os.scandir(folders.pop()) as scan:
                for entry in scan:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    files += 1
                    if entry.is_file(follow_symlinks=False):
                        size_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError:
            # The scan itself reports what can't be read.
            continue
    counters.files_expected = files
    counters.bytes_expected = size_bytes
