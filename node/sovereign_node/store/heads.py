"""seen_heads: the highest head of each writer, so that a rolled-back provider is noticed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import Enum

from sovereign_node.store.database import Database
from sovereign_node.store.evidence import Evidence, EvidenceLog


class HeadVerdict(Enum):
    """What a head means, compared with the highest one seen before."""

    NEW = "new"
    SAME = "same"
    ROLLBACK = "rollback"
    FORK = "fork"


@dataclass(frozen=True)
class SeenHead:
    """The head of one chain: one writer instance of one device in one project.

    Args:
        locator: the project's pseudonym, 32 bytes.
        device_id: the writer, 32 bytes.
        instance: the writer's instance, 8 bytes.
        sequence: grows by one with every head.
        hash: hash of the signed head, 32 bytes.
        raw: the signed head as received.
        seen_at: Unix seconds UTC.
    """

    locator: bytes
    device_id: bytes
    instance: bytes
    sequence: int
    hash: bytes
    raw: bytes
    seen_at: int


def _head(row: sqlite3.Row) -> SeenHead:
    return SeenHead(
        locator=bytes.fromhex(row["locator"]),
        device_id=bytes.fromhex(row["device_id"]),
        instance=bytes.fromhex(row["instance"]),
        sequence=row["sequence"],
        hash=bytes.fromhex(row["hash"]),
        raw=row["raw"],
        seen_at=row["seen_at"],
    )


class SeenHeads:
    """Reads and writes of seen_heads."""

    def __init__(self, database: Database, evidence: EvidenceLog) -> None:
        self._database = database
        self._evidence = evidence

    def observe(self, head: SeenHead) -> HeadVerdict:
        """Compare a head, whose signature was checked, with the highest one seen, and remember it if it is newer.

        Args:
            head: what a provider or a device showed.

        Returns:
            NEW was remembered; SAME and ROLLBACK change nothing; FORK keeps both heads as evidence.
        """
        with self._database.transaction():
            known = self.get(head.locator, head.device_id, head.instance)
            if known is None or head.sequence > known.sequence:
                self._write(head)
                return HeadVerdict.NEW
            if head.sequence < known.sequence:
                return HeadVerdict.ROLLBACK
            if head.hash == known.hash:
                return HeadVerdict.SAME
            subject = head.locator.hex()
            self._evidence.add(Evidence("head_fork", subject, known.raw, head.raw, head.seen_at))
            return HeadVerdict.FORK

    def _write(self, head: SeenHead) -> None:
        self._database.execute(
            "INSERT INTO seen_heads (locator, device_id, instance, sequence, hash, raw, seen_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (locator, device_id, instance) DO UPDATE SET"
            " sequence = excluded.sequence, hash = excluded.hash, raw = excluded.raw,"
            " seen_at = excluded.seen_at",
            (
                head.locator.hex(),
                head.device_id.hex(),
                head.instance.hex(),
                head.sequence,
                head.hash.hex(),
                head.raw,
                head.seen_at,
            ),
        )

    def get(self, locator: bytes, device_id: bytes, instance: bytes) -> SeenHead | None:
        """Read the highest head of one chain."""
        row = self._database.query_one(
            "SELECT * FROM seen_heads WHERE locator = ? AND device_id = ? AND instance = ?",
            (locator.hex(), device_id.hex(), instance.hex()),
        )
        return None if row is None else _head(row)

    def all(self, locator: bytes) -> list[SeenHead]:
        """Read the highest head of every chain of a project."""
        rows = self._database.query(
            "SELECT * FROM seen_heads WHERE locator = ? ORDER BY device_id, instance", (locator.hex(),)
        )
        return [_head(row) for row in rows]

    def forget(self, locator: bytes) -> None:
        """Forget every chain of a project: a person accepted an older state."""
        self._database.execute("DELETE FROM seen_heads WHERE locator = ?", (locator.hex(),))
