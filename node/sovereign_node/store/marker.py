"""A random marker, kept in the database and in a file beside it, that tells a restored old database.

Both are rewritten at every start and every clean stop. A database that comes from a backup carries an older marker
than the file; then sequence numbers in it may have been used already, and nothing may be signed with them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sovereign_node.store.meta import Meta

_KEY = "restore_marker"
_KEY_BEFORE = "restore_marker_before"
_MARKER_BYTES = 16


def marker_path(database_path: Path) -> Path:
    """Name the marker file of a database."""
    return database_path.with_name(f"{database_path.name}.marker")


def was_restored(meta: Meta, path: Path) -> bool:
    """Compare the two markers.

    Args:
        meta: the open database.
        path: the marker file.

    Returns:
        True if the database is not the one that wrote the file; False for a new database without a file.
    """
    try:
        outside = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return meta.get(_KEY) is not None
    # A crash between the two writes leaves the file one marker behind.
    return outside not in (meta.get(_KEY), meta.get(_KEY_BEFORE))


def rewrite(meta: Meta, path: Path) -> None:
    """Put a new marker in both places, the database first."""
    marker = secrets.token_hex(_MARKER_BYTES)
    meta.set(_KEY_BEFORE, meta.get(_KEY) or marker)
    meta.set(_KEY, marker)
    _write_private(path, marker + "\n")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
