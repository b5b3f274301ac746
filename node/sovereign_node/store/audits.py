"""placed_chunks and audits: what providers should hold, and what they proved of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from sovereign_node.store.database import Database

PASSED = "passed"
FAILED = "failed"
NO_ANSWER = "no_answer"


@dataclass(frozen=True)
class PlacedChunk:
    """A chunk that a provider acknowledged under a contract.

    Args:
        contract_id, chunk_id, project_id: 32 bytes each.
        size_bytes: sealed size.
        placed_at: when this node learned it, Unix seconds UTC.
        passed_at: last audit that it passed, 0 for none.
        leaf_root: of its Merkle tree, empty as long as nobody here has seen its bytes.
    """

    contract_id: bytes
    chunk_id: bytes
    project_id: bytes
    size_bytes: int
    placed_at: int
    passed_at: int = 0
    leaf_root: bytes = b""


@dataclass(frozen=True)
class AuditRecord:
    """One audit of one chunk.

    Args:
        contract_id, provider_device, chunk_id: 32 bytes each.
        method: fetch, hash or leaf.
        outcome: passed, failed or no_answer.
        is_sample: drawn at random from all chunks of the contract.
        size_bytes: of the chunk.
        moved_bytes: what the audit cost in transfer.
        passed_before_at: the last pass before it, or when the chunk was placed; a failure reaches back to there.
        audited_at: Unix seconds UTC.
        challenge, answer, verdict: as signed; empty where there is none.
    """

    contract_id: bytes
    provider_device: bytes
    chunk_id: bytes
    method: str
    outcome: str
    is_sample: bool
    size_bytes: int
    moved_bytes: int
    passed_before_at: int
    audited_at: int
    challenge: bytes = b""
    answer: bytes = b""
    verdict: bytes = b""


@dataclass(frozen=True)
class AuditCount:
    """Sums over the audits of a contract.

    Args:
        passed, failed, unanswered: audits.
        samples: random ones that passed since the last failure.
        newest_at: the last audit, 0 for none.
        moved_bytes: transferred for audits.
    """

    passed: int
    failed: int
    unanswered: int
    samples: int
    newest_at: int
    moved_bytes: int


def _chunk(row: sqlite3.Row) -> PlacedChunk:
    return PlacedChunk(
        bytes.fromhex(row["contract_id"]),
        bytes.fromhex(row["chunk_id"]),
        bytes.fromhex(row["project_id"]),
        row["size_bytes"],
        row["placed_at"],
        row["passed_at"],
        row["leaf_root"] or b"",
    )


def _record(row: sqlite3.Row) -> AuditRecord:
    return AuditRecord(
        contract_id=bytes.fromhex(row["contract_id"]),
        provider_device=bytes.fromhex(row["provider_device"]),
        chunk_id=bytes.fromhex(row["chunk_id"]),
        method=row["method"],
        outcome=row["outcome"],
        is_sample=bool(row["is_sample"]),
        size_bytes=row["size_bytes"],
        moved_bytes=row["moved_bytes"],
        passed_before_at=row["passed_before_at"],
        audited_at=row["audited_at"],
        challenge=row["challenge"],
        answer=row["answer"],
        verdict=row["verdict"],
    )


class PlacedChunks:
    """Reads and writes of placed_chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, contract_id: bytes, project_id: bytes, chunks: Iterable[tuple[bytes, int]], *, at: int) -> None:
        """Note chunks, as pairs of id and size, that the provider acknowledged; known ones stay as they are."""
        with self._database.transaction():
            for chunk_id, size_bytes in chunks:
                self._database.execute(
                    "INSERT INTO placed_chunks (contract_id, chunk_id, project_id, size_bytes, placed_at)"
                    " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (contract_id.hex(), chunk_id.hex(), project_id.hex(), size_bytes, at),
                )

    def drop(self, contract_id: bytes, chunk_ids: Iterable[bytes]) -> None:
        """Forget chunks that the owner gave up."""
        with self._database.transaction():
            for chunk_id in chunk_ids:
                self._database.execute(
                    "DELETE FROM placed_chunks WHERE contract_id = ? AND chunk_id = ?",
                    (contract_id.hex(), chunk_id.hex()),
                )

    def ids(self, contract_id: bytes, project_id: bytes) -> set[bytes]:
        """Read the chunks of one project under one contract."""
        rows = self._database.query(
            "SELECT chunk_id FROM placed_chunks WHERE contract_id = ? AND project_id = ?",
            (contract_id.hex(), project_id.hex()),
        )
        return {bytes.fromhex(row["chunk_id"]) for row in rows}

    def count(self, contract_id: bytes, *, with_root: bool = False) -> int:
        """Count the chunks under a contract; on request only those whose root is known."""
        row = self._database.query_one(
            "SELECT count(*) AS total FROM placed_chunks WHERE contract_id = ?"
            " AND (NOT ? OR leaf_root IS NOT NULL)",
            (contract_id.hex(), with_root),
        )
        assert row is not None
        return int(row["total"])

    def at(self, contract_id: bytes, position: int, *, with_root: bool = False) -> PlacedChunk | None:
        """Read the chunk at a position in the order of ids, so that a random position is a fair draw."""
        row = self._database.query_one(
            "SELECT * FROM placed_chunks WHERE contract_id = ? AND (NOT ? OR leaf_root IS NOT NULL)"
            " ORDER BY chunk_id LIMIT 1 OFFSET ?",
            (contract_id.hex(), with_root, position),
        )
        return None if row is None else _chunk(row)

    def get(self, contract_id: bytes, chunk_id: bytes) -> PlacedChunk | None:
        """Read one chunk."""
        row = self._database.query_one(
            "SELECT * FROM placed_chunks WHERE contract_id = ? AND chunk_id = ?",
            (contract_id.hex(), chunk_id.hex()),
        )
        return None if row is None else _chunk(row)

    def longest_unproven(self, contract_id: bytes, limit: int, *, before_at: int) -> list[PlacedChunk]:
        """Read chunks whose last pass is before a time, the oldest first."""
        rows = self._database.query(
            "SELECT * FROM placed_chunks WHERE contract_id = ? AND passed_at < ? ORDER BY passed_at LIMIT ?",
            (contract_id.hex(), before_at, limit),
        )
        return [_chunk(row) for row in rows]

    def note_pass(self, contract_id: bytes, chunk_id: bytes, *, at: int, leaf_root: bytes = b"") -> None:
        """Write that a chunk passed, and its root if its bytes were seen."""
        self._database.execute(
            "UPDATE placed_chunks SET passed_at = max(passed_at, ?), leaf_root = coalesce(?, leaf_root)"
            " WHERE contract_id = ? AND chunk_id = ?",
            (at, leaf_root or None, contract_id.hex(), chunk_id.hex()),
        )


class Audits:
    """Reads and writes of audits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: AuditRecord) -> None:
        """Keep an audit with everything that was signed."""
        self._database.execute(
            "INSERT INTO audits (contract_id, provider_device, chunk_id, method, outcome, is_sample, size_bytes,"
            " moved_bytes, passed_before_at, audited_at, challenge, answer, verdict)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.contract_id.hex(),
                record.provider_device.hex(),
                record.chunk_id.hex(),
                record.method,
                record.outcome,
                int(record.is_sample),
                record.size_bytes,
                record.moved_bytes,
                record.passed_before_at,
                record.audited_at,
                record.challenge,
                record.answer,
                record.verdict,
            ),
        )

    def records(
        self, contract_id: bytes, *, outcome: str | None = None, chunk_id: bytes | None = None, limit: int = 1000
    ) -> list[AuditRecord]:
        """Read audits of a contract, the newest first."""
        rows = self._database.query(
            "SELECT * FROM audits WHERE contract_id = :contract AND (:outcome IS NULL OR outcome = :outcome)"
            " AND (:chunk IS NULL OR chunk_id = :chunk) ORDER BY audit_id DESC LIMIT :limit",
            {
                "contract": contract_id.hex(),
                "outcome": outcome,
                "chunk": None if chunk_id is None else chunk_id.hex(),
                "limit": limit,
            },
        )
        return [_record(row) for row in rows]

    def count(self, contract_id: bytes, *, since_at: int = 0) -> AuditCount:
        """Sum the audits of a contract since a time, Unix seconds UTC."""
        row = self._database.query_one(
            "SELECT count(*) FILTER (WHERE outcome = 'passed') AS passed,"
            " count(*) FILTER (WHERE outcome = 'failed') AS failed,"
            " count(*) FILTER (WHERE outcome = 'no_answer') AS unanswered,"
            " count(*) FILTER (WHERE outcome = 'passed' AND is_sample AND audit_id > (SELECT"
            " coalesce(max(audit_id), 0) FROM audits WHERE contract_id = :contract AND outcome = 'failed'))"
            " AS samples,"
            " coalesce(max(audited_at), 0) AS newest_at, coalesce(sum(moved_bytes), 0) AS moved_bytes"
            " FROM audits WHERE contract_id = :contract AND audited_at >= :since",
            {"contract": contract_id.hex(), "since": since_at},
        )
        assert row is not None
        return AuditCount(**{name: row[name] for name in AuditCount.__dataclass_fields__})

    def thin(self, before_at: int) -> int:
        """Drop audits that passed before a time; failures stay as evidence. Returns how many went."""
        return self._database.execute(
            "DELETE FROM audits WHERE outcome = 'passed' AND audited_at < ?", (before_at,)
        )
