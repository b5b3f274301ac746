"""What can go wrong with the state database; each error holds data, the CLI composes the sentence."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class StateError(Exception):
    """Root of all errors of the state database."""


class StateTooNewError(StateError):
    """A newer program wrote this database; nothing was touched.

    Args:
        path: the database file.
        found: the number of its newest migration.
        known: the newest migration that this program has.
    """

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(f"{path} has schema {found}, this program knows up to {known}")
        self.path = path
        self.found = found
        self.known = known


class StateCorruptError(StateError):
    """The file is damaged, or its rows contradict the schema.

    Args:
        path: the database file.
        detail: what SQLite reported.
    """

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path} is damaged: {detail}")
        self.path = path
        self.detail = detail


class StateForeignError(StateError):
    """The file is a database, but not one of ours; nothing was touched."""

    def __init__(self, path: Path, application_id: int) -> None:
        super().__init__(f"{path} is not a Sovereign state database (application id {application_id:#x})")
        self.path = path
        self.application_id = application_id


class StateFullError(StateError):
    """The disk or the file-size limit is reached; the transaction was rolled back."""


class StateBusyError(StateError):
    """Another program held the database locked for longer than the busy timeout."""


class StateAccessError(StateError):
    """The file cannot be read or written: permissions, or a failing disk."""


class StateConflictError(StateError):
    """The write contradicts a rule of the schema, for example a project name that is taken."""


class StateUnsupportedError(StateError):
    """The SQLite library of this Python is older than the schema needs."""


_BY_PRIMARY_CODE: dict[int, type[StateError]] = {
    sqlite3.SQLITE_FULL: StateFullError,
    sqlite3.SQLITE_BUSY: StateBusyError,
    sqlite3.SQLITE_LOCKED: StateBusyError,
    sqlite3.SQLITE_CONSTRAINT: StateConflictError,
    sqlite3.SQLITE_IOERR: StateAccessError,
    sqlite3.SQLITE_CANTOPEN: StateAccessError,
    sqlite3.SQLITE_READONLY: StateAccessError,
    sqlite3.SQLITE_PERM: StateAccessError,
}


def translate(error: sqlite3.Error, path: Path) -> StateError:
    """Map an error of SQLite to ours.

    Args:
        error: what sqlite3 raised.
        path: the database file, for the message.

    Returns:
        The error to raise `from` it.
    """
    # The low byte is the primary result code; the rest refines it.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StateCorruptError(path, str(error))
    return _BY_PRIMARY_CODE.get(code, StateError)(f"{path}: {error}")
