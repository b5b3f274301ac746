"""Numbered, forward-only migrations: `NNNN-verb-noun.sql`, one transaction each.

A file is never edited once a release carried it. An existing database is copied with VACUUM INTO before the first
migration touches it; a database of a newer program is refused before anything is written.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sovereign_node.store.database import APPLICATION_ID, connect, create_private_file
from sovereign_node.store.errors import (
    StateCorruptError,
    StateError,
    StateForeignError,
    StateTooNewError,
    translate,
)

# The file header, https://www.sqlite.org/fileformat2.html section 1.3.
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_USER_VERSION_OFFSET = 60
_APPLICATION_ID_OFFSET = 68

_NAME = re.compile(r"(?P<number>\d{4})-[a-z]+(-[a-z0-9]+)+\.sql")


@dataclass(frozen=True)
class Migration:
    """One step of the schema: its number, its file's name and its text."""

    number: int
    name: str
    sql: str


def load_migrations() -> tuple[Migration, ...]:
    """Read the migrations that this program carries.

    Returns:
        All of them, ordered, numbered from 1 without a gap.

    Raises:
        StateError: a file name breaks the rule or a number is missing.
    """
    found = []
    for entry in resources.files("sovereign_node.store").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is None:
            raise StateError(f"{entry.name} is not named NNNN-verb-noun.sql")
        found.append(Migration(int(match["number"]), entry.name, entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise StateError("migration numbers must run from 1 without a gap")
    return tuple(found)


def split_statements(script: str) -> Iterator[str]:
    """Cut a script into statements; a trigger's body stays whole.

    Args:
        script: SQL in which each statement ends at the end of a line.

    Raises:
        StateError: the last statement is not complete.
    """
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in pending.splitlines()):
        raise StateError("a migration ends inside a statement")


def read_version(path: Path) -> int:
    """Tell which migration a database is at, without writing to it.

    Args:
        path: an existing file; an empty one is a new database.

    Returns:
        The number of the newest migration, 0 for an empty file.

    Raises:
        StateForeignError: another program's database.
        StateCorruptError: not a database.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        application_id, version = _read_header_through_log(path)
    elif path.stat().st_size == 0:
        return 0
    else:
        application_id, version = _read_header(path)
    if application_id != APPLICATION_ID:
        raise StateForeignError(path, application_id)
    return version


def _read_header(path: Path) -> tuple[int, int]:
    # Opening even a read-only connection leaves files beside the database, and a refused one must stay alone.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StateCorruptError(path, "file is not a database")
    application_id = int.from_bytes(header[_APPLICATION_ID_OFFSET : _APPLICATION_ID_OFFSET + 4], "big")
    return application_id, int.from_bytes(header[_USER_VERSION_OFFSET : _USER_VERSION_OFFSET + 4], "big")


def _read_header_through_log(path: Path) -> tuple[int, int]:
    # After a crash the newest header is in the write-ahead log.
    try:
        connection = connect(path, read_only=True)
        try:
            application_id = int(connection.execute("PRAGMA application_id").fetchone()[0])
            return application_id, int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error


def migrate(path: Path, migrations: Sequence[Migration] | None = None) -> list[Path]:
    """Bring a database to the newest schema.

    Args:
        path: an existing file; empty means new.
        migrations: another list, for tests.

    Returns:
        The copies that were made before changing an existing database: none or one.

    Raises:
        StateTooNewError: a newer program wrote it; nothing was touched.
        StateError: a migration failed; the database is as it was before that migration.
    """
    migrations = load_migrations() if migrations is None else tuple(migrations)
    version = read_version(path)
    newest = migrations[-1].number
    if version > newest:
        raise StateTooNewError(path, version, newest)
    pending = [migration for migration in migrations if migration.number > version]
    if not pending:
        return []
    try:
        connection = connect(path)
    except sqlite3.Error as error:
        raise translate(error, path) from error
    try:
        copies = [_copy(connection, path, version)] if version else []
        for migration in pending:
            _apply(connection, path, migration)
    except sqlite3.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()
    return copies


def _copy(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    # A database restored from an older copy passes the same version again: never overwrite the first copy.
    number = 0
    copy = path.with_name(f"{path.name}.v{version:04d}")
    while copy.exists() and copy.stat().st_size:
        number += 1
        copy = path.with_name(f"{path.name}.v{version:04d}-{number}")
    create_private_file(copy)
    connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def _apply(connection: sqlite3.Connection, path: Path, migration: Migration) -> None:
    # The pragma has no effect inside a transaction, and rebuilding a table needs it off.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in split_statements(migration.sql):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO schema_migrations (number, name) VALUES (?, ?)", (migration.number, migration.name)
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {migration.number}")
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise StateCorruptError(path, f"{migration.name} leaves {len(broken)} rows without their parent")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA foreign_keys = ON")


def render_schema(path: Path) -> str:
    """Write the schema of a database as text, the content of `schema.sql`.

    Args:
        path: a database.

    Returns:
        Every table, index and trigger, tables first, in the order of their names.
    """
    connection = connect(path, read_only=True)
    try:
        rows = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            " ORDER BY tbl_name, type != 'table', type, name"
        ).fetchall()
    finally:
        connection.close()
    head = "-- Generated from the migrations by `python -m sovereign_node.store.schema`; do not edit.\n\n"
    return head + "\n\n".join(f"{row[0]};" for row in rows) + "\n"
