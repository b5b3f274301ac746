"""dht_records: what this node publishes in the DHT and must renew."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sovereign_node.store.database import Database


@dataclass(frozen=True)
class DhtRecord:
    """One own record.

    Args:
        record_key: the DHT key.
        kind: device, offer, recovery and so on.
        value: the signed value.
        sequence: the number inside the value; never reused.
        expires_at: Unix seconds UTC.
        published_at: when it was last stored at other nodes, None for never.
    """

    record_key: bytes
    kind: str
    value: bytes
    sequence: int
    expires_at: int
    published_at: int | None = None


def _record(row: sqlite3.Row) -> DhtRecord:
    return DhtRecord(**dict(row))


class DhtRecords:
    """Reads and writes of dht_records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, record: DhtRecord) -> None:
        """Add a record or replace it by one with a higher or equal sequence; a lower one changes nothing."""
        self._database.execute(
            "INSERT INTO dht_records (record_key, kind, value, sequence, expires_at, published_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (record_key) DO UPDATE SET kind = excluded.kind,"
            " value = excluded.value, sequence = excluded.sequence, expires_at = excluded.expires_at,"
            " published_at = excluded.published_at WHERE excluded.sequence >= sequence",
            (
                record.record_key,
                record.kind,
                record.value,
                record.sequence,
                record.expires_at,
                record.published_at,
            ),
        )

    def get(self, record_key: bytes) -> DhtRecord | None:
        """Read one record by its key."""
        row = self._database.query_one("SELECT * FROM dht_records WHERE record_key = ?", (record_key,))
        return None if row is None else _record(row)

    def all(self, kind: str | None = None) -> list[DhtRecord]:
        """Read all own records, or those of one kind."""
        rows = self._database.query(
            "SELECT * FROM dht_records WHERE (:kind IS NULL OR kind = :kind) ORDER BY record_key",
            {"kind": kind},
        )
        return [_record(row) for row in rows]

    def mark_published(self, record_key: bytes, at: int) -> None:
        """Record that other nodes hold the record now."""
        self._database.execute("UPDATE dht_records SET published_at = ? WHERE record_key = ?", (at, record_key))

    def delete(self, record_key: bytes) -> None:
        """Stop publishing a record."""
        self._database.execute("DELETE FROM dht_records WHERE record_key = ?", (record_key,))
