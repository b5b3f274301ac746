"""audit_log: who did what, append-only and hash-chained."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass

from sovereign_crypto import cbor
from sovereign_crypto.domains import Domain
from sovereign_node.store.database import Database

_FIRST_PREVIOUS = bytes(32)
_PAGE = 1000


@dataclass(frozen=True)
class AuditEntry:
    """One line of the audit log.

    Args:
        seq: position, from 1 without a gap.
        prev_hash: hash of the line before, 32 zero bytes for the first.
        time: Unix seconds UTC.
        actor: who: a device id, a peer id or "user".
        action: what, for example contract_opened.
        object: on what: an id.
        outcome: ok, or the reason of a refusal.
        hash: SHA-256 over all of the above.
    """

    seq: int
    prev_hash: bytes
    time: int
    actor: str
    action: str
    object: str
    outcome: str
    hash: bytes


@dataclass(frozen=True)
class AuditVerdict:
    """Result of checking the chain: how many lines hold, the first that does not, the newest hash."""

    checked: int
    broken_seq: int | None
    head_hash: bytes

    @property
    def ok(self) -> bool:
        """Whether every line holds."""
        return self.broken_seq is None


def entry_hash(seq: int, prev_hash: bytes, time: int, actor: str, action: str, object: str, outcome: str) -> bytes:
    """Compute the hash of one line: SHA-256(domain || canonical CBOR of its fields in this order)."""
    body = cbor.encode([seq, prev_hash, time, actor, action, object, outcome])
    return hashlib.sha256(Domain.AUDIT.prefix + body).digest()


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        seq=row["seq"],
        prev_hash=bytes.fromhex(row["prev_hash"]),
        time=row["time"],
        actor=row["actor"],
        action=row["action"],
        object=row["object"],
        outcome=row["outcome"],
        hash=bytes.fromhex(row["hash"]),
    )


class AuditLog:
    """Appends to audit_log and checks it. Never write secrets or file names here: the log is exported."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, actor: str, action: str, object: str, outcome: str, *, at: int) -> AuditEntry:
        """Append one line durably.

        Args:
            actor: who; see AuditEntry.
            action: what.
            object: on what.
            outcome: ok, or the reason of a refusal.
            at: Unix seconds UTC.

        Returns:
            The line.
        """
        with self._database.transaction():
            last = self.last()
            seq = 1 if last is None else last.seq + 1
            prev_hash = _FIRST_PREVIOUS if last is None else last.hash
            digest = entry_hash(seq, prev_hash, at, actor, action, object, outcome)
            self._database.execute(
                "INSERT INTO audit_log (seq, prev_hash, time, actor, action, object, outcome, hash)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (seq, prev_hash.hex(), at, actor, action, object, outcome, digest.hex()),
            )
        return AuditEntry(seq, prev_hash, at, actor, action, object, outcome, digest)

    def last(self) -> AuditEntry | None:
        """Read the newest line."""
        row = self._database.query_one("SELECT * FROM audit_log ORDER BY seq DESC LIMIT 1")
        return None if row is None else _entry(row)

    def entries(self, *, limit: int = 100, before_seq: int | None = None) -> list[AuditEntry]:
        """Read lines, newest first, a page at a time."""
        rows = self._database.query(
            "SELECT * FROM audit_log WHERE (:before IS NULL OR seq < :before) ORDER BY seq DESC LIMIT :limit",
            {"before": before_seq, "limit": limit},
        )
        return [_entry(row) for row in rows]

    def verify(self, *, expected_seq: int = 0, expected_hash: bytes | None = None) -> AuditVerdict:
        """Recompute the whole chain.

        Args:
            expected_seq: a line that a checkpoint kept elsewhere names; a shorter log is broken there.
            expected_hash: the hash of that line.

        Returns:
            The verdict.
        """
        checked = 0
        previous = _FIRST_PREVIOUS
        while True:
            rows = self._database.query(
                "SELECT * FROM audit_log WHERE seq > ? ORDER BY seq LIMIT ?", (checked, _PAGE)
            )
            if not rows:
                break
            for row in rows:
                if not _holds(row, checked + 1, previous):
                    return AuditVerdict(checked, checked + 1, previous)
                previous = bytes.fromhex(row["hash"])
                if row["seq"] == expected_seq and previous != expected_hash:
                    return AuditVerdict(checked, expected_seq, previous)
                checked += 1
        if checked < expected_seq:
            return AuditVerdict(checked, checked + 1, previous)
        return AuditVerdict(checked, None, previous)


def _holds(row: sqlite3.Row, seq: int, previous: bytes) -> bool:
    if row["seq"] != seq or row["prev_hash"] != previous.hex():
        return False
    fields = (row["time"], row["actor"], row["action"], row["object"], row["outcome"])
    return bool(row["hash"] == entry_hash(seq, previous, *fields).hex())
