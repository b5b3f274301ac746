"""storage_metrics: what each contract held and moved over time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from sovereign_node.store.database import Database

_GB = 1_000_000_000


@dataclass(frozen=True)
class Metric:
    """One measurement of one contract; counters run from the contract's start.

    Args:
        contract_id: 32 bytes.
        measured_at: Unix seconds UTC.
        byte_seconds: bytes times seconds stored so far; may exceed 64 bits.
        windows_good: ten-minute windows in which the provider answered.
        windows_observed: ten-minute windows in which somebody asked.
    """

    contract_id: bytes
    measured_at: int
    stored_bytes: int
    stored_chunks: int
    bytes_in: int = 0
    bytes_out: int = 0
    byte_seconds: int = 0
    windows_good: int = 0
    windows_observed: int = 0


def _metric(row: sqlite3.Row) -> Metric:
    return Metric(
        contract_id=bytes.fromhex(row["contract_id"]),
        measured_at=row["measured_at"],
        stored_bytes=row["stored_bytes"],
        stored_chunks=row["stored_chunks"],
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
        byte_seconds=row["gb_seconds"] * _GB + row["rest_byte_seconds"],
        windows_good=row["windows_good"],
        windows_observed=row["windows_observed"],
    )


class Metrics:
    """Reads and writes of storage_metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, metric: Metric) -> None:
        """Keep a measurement; a second one of the same second replaces the first."""
        gb_seconds, rest_byte_seconds = divmod(metric.byte_seconds, _GB)
        self._database.execute(
            "INSERT INTO storage_metrics (contract_id, measured_at, stored_bytes, stored_chunks, bytes_in,"
            " bytes_out, gb_seconds, rest_byte_seconds, windows_good, windows_observed)"
            " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
            # Whoever writes the other counters does not know the windows, which never fall.
            " max(?9, coalesce((SELECT max(windows_good) FROM storage_metrics WHERE contract_id = ?1), 0)),"
            " max(?10, coalesce((SELECT max(windows_observed) FROM storage_metrics WHERE contract_id = ?1), 0))"
            " WHERE true ON CONFLICT (contract_id, measured_at) DO UPDATE SET"
            " stored_bytes = excluded.stored_bytes, stored_chunks = excluded.stored_chunks,"
            " bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out,"
            " gb_seconds = excluded.gb_seconds, rest_byte_seconds = excluded.rest_byte_seconds,"
            " windows_good = excluded.windows_good, windows_observed = excluded.windows_observed",
            (
                metric.contract_id.hex(),
                metric.measured_at,
                metric.stored_bytes,
                metric.stored_chunks,
                metric.bytes_in,
                metric.bytes_out,
                gb_seconds,
                rest_byte_seconds,
                metric.windows_good,
                metric.windows_observed,
            ),
        )

    def note_windows(self, contract_id: bytes, *, good: int, observed: int, at: int) -> None:
        """Write the windows of a contract since its start, beside its other counters as they were last.

        Args:
            contract_id: 32 bytes.
            good: ten-minute windows with an answer.
            observed: ten-minute windows in which somebody asked.
            at: Unix seconds UTC.
        """
        with self._database.transaction():
            last = self.newest(contract_id) or Metric(contract_id, at, 0, 0)
            if (good, observed) != (last.windows_good, last.windows_observed):
                measured_at = max(at, last.measured_at)
                self.record(replace(last, measured_at=measured_at, windows_good=good, windows_observed=observed))

    def newest(self, contract_id: bytes) -> Metric | None:
        """Read the last measurement of a contract."""
        row = self._database.query_one(
            "SELECT * FROM storage_metrics WHERE contract_id = ? ORDER BY measured_at DESC LIMIT 1",
            (contract_id.hex(),),
        )
        return None if row is None else _metric(row)

    def history(self, contract_id: bytes, *, since_at: int = 0, limit: int = 1000) -> list[Metric]:
        """Read the measurements of a contract, oldest first."""
        rows = self._database.query(
            "SELECT * FROM storage_metrics WHERE contract_id = ? AND measured_at >= ? ORDER BY measured_at LIMIT ?",
            (contract_id.hex(), since_at, limit),
        )
        return [_metric(row) for row in rows]

    def thin(self, before_at: int, step_s: int) -> int:
        """Keep only the last measurement of each step in the past, so that the table stays small.

        Args:
            before_at: newer measurements stay, Unix seconds UTC.
            step_s: length of a step, for example 86400.

        Returns:
            How many rows went.
        """
        return self._database.execute(
            "DELETE FROM storage_metrics AS old WHERE measured_at < :before AND EXISTS ("
            " SELECT 1 FROM storage_metrics AS newer WHERE newer.contract_id = old.contract_id"
            " AND newer.measured_at > old.measured_at AND newer.measured_at < :before"
            " AND newer.measured_at / :step = old.measured_at / :step)",
            {"before": before_at, "step": step_s},
        )
