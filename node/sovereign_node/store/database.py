"""Connections to the state database: one writer behind a lock, one reader that cannot write."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sovereign_node.store.errors import StateCorruptError, StateUnsupportedError, translate

# "SVST" in the file header tells `file` and us that the database is ours.
APPLICATION_ID = 0x53565354
# STRICT tables; every Python 3.11 from python.org and current distributions has it.
_OLDEST_SQLITE = (3, 37, 0)
# Long enough for a person's own sqlite3 shell to finish a query.
_BUSY_TIMEOUT_MS = 5000

Parameters = Sequence[object] | Mapping[str, object]


def create_private_file(path: Path) -> None:
    """Create an empty file that only its owner can read, or tighten the mode of an existing one.

    SQLite would create it with the umask's mode; the -wal and -shm files follow the main file's mode.

    Args:
        path: the file; its folder must exist.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open one connection with the settings that every connection of the node has.

    Args:
        path: the database file.
        read_only: refuse writes and leave the journal mode alone.

    Returns:
        A connection in autocommit mode, usable from any thread under a lock.

    Raises:
        StateUnsupportedError: SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StateUnsupportedError(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 or newer is needed")
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_TIMEOUT_MS / 1000,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA temp_store = MEMORY")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return connection
    connection.execute("PRAGMA journal_mode = WAL")
    # 16 MiB keep the indexes of a large content_index in memory while a first backup fills them.
    connection.execute("PRAGMA cache_size = -16384")
    # Anti-rollback values and money must survive a power cut once they are acknowledged.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


class Database:
    """Both connections, safe to use from any thread.

    Writes wait for one lock and happen in transactions; reads outside a transaction go through the second
    connection, so a long write does not hold them up. Inside a transaction a thread reads its own writes.

    Args:
        path: an existing database of the newest schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        self._depth = 0
        self._owner: int | None = None
        try:
            self._writer = connect(path)
            self._reader = connect(path, read_only=True)
        except sqlite3.Error as error:
            raise translate(error, path) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction; an inner block is a savepoint of the outer one.

        Raises:
            StateError: the block's writes did not happen.
        """
        with self._write_lock:
            begin, commit, undo = self._boundaries()
            self._run(begin)
            self._depth += 1
            self._owner = threading.get_ident()
            try:
                yield
                self._run(commit)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._owner = None

    @property
    def is_in_transaction(self) -> bool:
        """Whether the calling thread is inside a transaction of its own."""
        return self._owner == threading.get_ident()

    @property
    def is_undone(self) -> bool:
        """Whether SQLite gave up the transaction of the calling thread, as it does on a full disk."""
        return self.is_in_transaction and not self._writer.in_transaction

    def _boundaries(self) -> tuple[str, str, tuple[str, ...]]:
        if self._depth == 0:
            return "BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",)
        name = f"depth_{self._depth}"
        return f"SAVEPOINT {name}", f"RELEASE {name}", (f"ROLLBACK TO {name}", f"RELEASE {name}")

    def _undo(self, statements: tuple[str, ...]) -> None:
        # SQLite rolls back by itself on some errors (disk full); then there is nothing to undo.
        if self._writer.in_transaction:
            for statement in statements:
                self._run(statement)

    def _run(self, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        try:
            return self._writer.execute(sql, parameters)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one writing statement.

        Returns:
            The number of rows it changed.
        """
        with self._write_lock:
            return self._run(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one INSERT.

        Returns:
            The row id that it got.
        """
        with self._write_lock:
            row_id = self._run(sql, parameters).lastrowid
            assert row_id is not None
            return row_id

    def execute_many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one writing statement for many rows, in one transaction."""
        with self.transaction():
            try:
                self._writer.executemany(sql, rows)
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def query(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Run one reading statement and return all its rows."""
        if self.is_in_transaction:
            return self._run(sql, parameters).fetchall()
        with self._read_lock:
            try:
                return self._reader.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise translate(error, self.path) from error

    def query_one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """Run one reading statement and return its first row, or None."""
        rows = self.query(sql, parameters)
        return rows[0] if rows else None

    def close(self) -> None:
        """Fold the write-ahead log into the file and close both connections."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            try:
                self._writer.execute("PRAGMA optimize")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
            finally:
                self._writer.close()


def quick_check(path: Path) -> None:
    """Look for damage that would make answers wrong.

    Args:
        path: the database file.

    Raises:
        StateCorruptError: SQLite found some.
    """
    try:
        connection = connect(path, read_only=True)
        try:
            rows = connection.execute("PRAGMA quick_check(3)").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    findings = [str(row[0]) for row in rows]
    if findings != ["ok"]:
        raise StateCorruptError(path, "; ".join(findings))
