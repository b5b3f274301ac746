"""Rows of content_index: what the newest snapshot of this device holds, for search and for sqlite3 queries."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sovereign_node.store import State
from sovereign_node.store.content import ContentEntry
from sovereign_node.store.projects import Project

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}


def index_content(state: State, project: Project, device_id: bytes, snapshot_id: bytes, excluded: Path) -> None:
    """Bring content_index in line with the sources that were just backed up. Blocks.

    The sources are walked once more rather than the tree being fetched: what changed since the snapshot is in the
    index a backup early, which a search does not mind.

    Args:
        state: open state database.
        project: with its sources.
        device_id: this device, 32 bytes.
        snapshot_id: the snapshot just taken, 32 bytes.
        excluded: the node's data directory, which no backup holds.
    """
    rows = (
        ContentEntry(project.project_id, device_id, path, kind, size_bytes, modified_at, snapshot_id)
        for path, kind, size_bytes, modified_at in _walk_sources(project.sources, excluded)
    )
    state.content.replace(project.project_id, device_id, rows)


def _walk_sources(sources: tuple[str, ...], excluded: Path) -> Iterator[tuple[str, str, int, int]]:
    for source in sources:
        path = Path(source)
        if path.is_dir() and len(sources) == 1:
            yield from _walk(source, "", excluded)
        elif path.is_dir():
            yield from _walk(source, f"{path.name}/", excluded)
        elif path.exists():
            yield _row(path.name, path.lstat())


def _walk(folder: str, prefix: str, excluded: Path) -> Iterator[tuple[str, str, int, int]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        # The backup has reported it.
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_IFMT(status.st_mode) not in _KINDS or entry.path == str(excluded):
            continue
        name = prefix + entry.name.encode("utf-8", "replace").decode()
        yield _row(name, status)
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(entry.path, f"{name}/", excluded)


def _row(name: str, status: os.stat_result) -> tuple[str, str, int, int]:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    return name, kind, status.st_size if kind == "file" else 0, int(status.st_mtime)
