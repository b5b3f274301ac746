"""identity_log: every entry of every identity log seen, own and others', never shortened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_node.store.database import Database
from sovereign_node.store.errors import StateConflictError
from sovereign_node.store.evidence import Evidence, EvidenceLog


@dataclass(frozen=True)
class IdentityLogEntry:
    """One entry, whose signature and chain the caller has checked.

    Args:
        identity: 32 bytes.
        sequence: position in the log, from 0.
        hash: hash of the entry, 32 bytes.
        raw: the signed entry as received.
        received_at: Unix seconds UTC.
    """

    identity: bytes
    sequence: int
    hash: bytes
    raw: bytes
    received_at: int


def _pair(kind: str, entry: IdentityLogEntry, known_raw: bytes) -> Evidence:
    return Evidence(kind, entry.identity.hex(), known_raw, entry.raw, entry.received_at)


class IdentityLogs:
    """Reads and writes of identity_log."""

    def __init__(self, database: Database, evidence: EvidenceLog) -> None:
        self._database = database
        self._evidence = evidence

    def append(self, entries: Sequence[IdentityLogEntry]) -> int:
        """Add what is new of a log; a shorter or equal log changes nothing.

        Args:
            entries: of one identity, in order; may start anywhere up to the end of what is known.

        Returns:
            How many entries were new.

        Raises:
            StateConflictError: an entry contradicts a known one; both are kept as evidence.
            ValueError: there is a gap.
        """
        with self._database.transaction():
            fork = self._find_fork(entries)
            if fork is None:
                return sum(self._append_one(entry) for entry in entries)
        # Outside of the transaction that fails, so that the proof stays.
        self._evidence.add(fork)
        raise StateConflictError(f"two identity logs of {fork.subject} contradict each other")

    def supersede(self, entries: Sequence[IdentityLogEntry]) -> None:
        """Replace the end of a log by a branch that takes precedence, signed by the recovery key.

        The caller has checked the precedence. The entries that go are kept as evidence.

        Args:
            entries: of one identity, in order, from the first that differs.
        """
        with self._database.transaction():
            for entry in entries:
                known = self._known(entry)
                if known is not None and known["hash"] != entry.hash.hex():
                    self._evidence.add(_pair("identity_superseded", entry, known["raw"]))
            first = entries[0]
            self._database.execute(
                "DELETE FROM identity_log WHERE identity = ? AND sequence >= ?",
                (first.identity.hex(), first.sequence),
            )
            for entry in entries:
                self._append_one(entry)

    def _known(self, entry: IdentityLogEntry) -> sqlite3.Row | None:
        return self._database.query_one(
            "SELECT hash, raw FROM identity_log WHERE identity = ? AND sequence = ?",
            (entry.identity.hex(), entry.sequence),
        )

    def _find_fork(self, entries: Sequence[IdentityLogEntry]) -> Evidence | None:
        for entry in entries:
            known = self._known(entry)
            if known is not None and known["hash"] != entry.hash.hex():
                return _pair("identity_fork", entry, known["raw"])
        return None

    def _append_one(self, entry: IdentityLogEntry) -> bool:
        length = self.length(entry.identity)
        if entry.sequence < length:
            return False
        if entry.sequence > length:
            raise ValueError(f"entry {length} of the identity log is missing")
        self._database.execute(
            "INSERT INTO identity_log (identity, sequence, hash, raw, received_at) VALUES (?, ?, ?, ?, ?)",
            (entry.identity.hex(), entry.sequence, entry.hash.hex(), entry.raw, entry.received_at),
        )
        return True

    def length(self, identity: bytes) -> int:
        """Count the known entries of an identity."""
        row = self._database.query_one(
            "SELECT coalesce(max(sequence) + 1, 0) AS length FROM identity_log WHERE identity = ?",
            (identity.hex(),),
        )
        assert row is not None
        return int(row["length"])

    def entries(self, identity: bytes) -> list[bytes]:
        """Read the signed entries of an identity, from the first on."""
        rows = self._database.query(
            "SELECT raw FROM identity_log WHERE identity = ? ORDER BY sequence", (identity.hex(),)
        )
        return [row["raw"] for row in rows]

    def identities(self) -> list[bytes]:
        """List the identities of which something is known."""
        rows = self._database.query("SELECT DISTINCT identity FROM identity_log ORDER BY identity")
        return [bytes.fromhex(row["identity"]) for row in rows]
