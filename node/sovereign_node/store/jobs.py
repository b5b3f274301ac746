"""jobs: work that outlives a restart and waits for peers that are away."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sovereign_node.store.database import Database


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Args:
        job_id: number in the order of adding.
        queue: the kind of work.
        dedup_key: the same work is queued once.
        payload: JSON text that the worker understands.
        peer_id: the peer it waits for, None for any.
        attempts: how often it was started.
        not_before_at: earliest next start, Unix seconds UTC.
        added_at: Unix seconds UTC.
        last_error: why the last attempt failed.
    """

    job_id: int
    queue: str
    dedup_key: str
    payload: str
    peer_id: str | None
    attempts: int
    not_before_at: int
    added_at: int
    last_error: str | None


def _job(row: sqlite3.Row) -> Job:
    return Job(
        job_id=row["job_id"],
        queue=row["queue"],
        dedup_key=row["dedup_key"],
        payload=row["payload"],
        peer_id=row["peer_id"],
        attempts=row["attempts"],
        not_before_at=row["not_before_at"],
        added_at=row["added_at"],
        last_error=row["last_error"],
    )


class Jobs:
    """Reads and writes of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, queue: str, dedup_key: str, payload: str, *, at: int, peer_id: str | None = None) -> bool:
        """Queue work, due at once.

        Returns:
            False if the same work waits already; then nothing changed.
        """
        changed = self._database.execute(
            "INSERT INTO jobs (queue, dedup_key, payload, peer_id, not_before_at, added_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (queue, dedup_key) DO NOTHING",
            (queue, dedup_key, payload, peer_id, at, at),
        )
        return changed == 1

    def take(self, queue: str, *, at: int, limit: int = 16, peer_id: str | None = None) -> list[Job]:
        """Start due work, oldest first; it stays taken until `finish`, `retry` or a restart.

        Args:
            queue: the kind of work.
            at: now, Unix seconds UTC.
            limit: most jobs.
            peer_id: only work that waits for this peer.
        """
        with self._database.transaction():
            rows = self._database.query(
                "SELECT job_id FROM jobs WHERE queue = :queue AND state = 'waiting' AND not_before_at <= :at"
                " AND (:peer IS NULL OR peer_id = :peer) ORDER BY job_id LIMIT :limit",
                {"queue": queue, "at": at, "peer": peer_id, "limit": limit},
            )
            taken = []
            for row in rows:
                self._database.execute(
                    "UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE job_id = ?",
                    (row["job_id"],),
                )
                taken += self._database.query("SELECT * FROM jobs WHERE job_id = ?", (row["job_id"],))
            return [_job(row) for row in taken]

    def finish(self, job_id: int) -> None:
        """Remove work that is done."""
        self._database.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))

    def retry(self, job_id: int, *, not_before_at: int, error: str) -> None:
        """Put work back after a failure."""
        self._database.execute(
            "UPDATE jobs SET state = 'waiting', not_before_at = ?, last_error = ? WHERE job_id = ?",
            (not_before_at, error, job_id),
        )

    def begin(self, job_id: int) -> None:
        """Start one piece of work, chosen from `all`; it stays taken until `finish`, `retry` or a restart."""
        self._database.execute(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE job_id = ?", (job_id,)
        )

    def hasten(self, job_id: int, at: int) -> None:
        """Make one piece of waiting work due, since what it waited for has changed."""
        self._database.execute(
            "UPDATE jobs SET not_before_at = ? WHERE job_id = ? AND state = 'waiting' AND not_before_at > ?",
            (at, job_id, at),
        )

    def wake_peer(self, peer_id: str, at: int) -> int:
        """Make the work that waits for a peer due now, since the peer is back; returns how many jobs."""
        return self._database.execute(
            "UPDATE jobs SET not_before_at = ? WHERE peer_id = ? AND state = 'waiting' AND not_before_at > ?",
            (at, peer_id, at),
        )

    def release_all(self) -> int:
        """Put back what a killed process had taken; for the start of a node."""
        return self._database.execute("UPDATE jobs SET state = 'waiting' WHERE state = 'running'")

    def all(self, queue: str | None = None, limit: int = 1000) -> list[Job]:
        """Read queued work, oldest first."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE (:queue IS NULL OR queue = :queue) ORDER BY job_id LIMIT :limit",
            {"queue": queue, "limit": limit},
        )
        return [_job(row) for row in rows]

    def next_due_at(self, queue: str) -> int | None:
        """Tell when the next work of a queue is due, None if none waits."""
        row = self._database.query_one(
            "SELECT min(not_before_at) AS due FROM jobs WHERE queue = ? AND state = 'waiting'", (queue,)
        )
        return None if row is None else row["due"]
