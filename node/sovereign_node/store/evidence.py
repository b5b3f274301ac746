"""evidence: pairs of signed messages that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass

from sovereign_node.store.database import Database


@dataclass(frozen=True)
class Evidence:
    """Two messages that one signer must not both have signed.

    Args:
        kind: for example head_fork, identity_fork, voucher_fork.
        subject: hexadecimal id of what they are about.
        first_raw, second_raw: the messages as received.
        found_at: Unix seconds UTC.
    """

    kind: str
    subject: str
    first_raw: bytes
    second_raw: bytes
    found_at: int


class EvidenceLog:
    """Reads and writes of evidence; nothing is ever removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, evidence: Evidence) -> None:
        """Keep a pair; the same pair twice is kept once."""
        self._database.execute(
            "INSERT INTO evidence (kind, subject, first_raw, second_raw, found_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (evidence.kind, evidence.subject, evidence.first_raw, evidence.second_raw, evidence.found_at),
        )

    def all(self, kind: str | None = None, subject: str | None = None) -> list[Evidence]:
        """Read the pairs, in the order in which they were found."""
        rows = self._database.query(
            "SELECT * FROM evidence WHERE (:kind IS NULL OR kind = :kind)"
            " AND (:subject IS NULL OR subject = :subject) ORDER BY evidence_id",
            {"kind": kind, "subject": subject},
        )
        return [
            Evidence(row["kind"], row["subject"], row["first_raw"], row["second_raw"], row["found_at"])
            for row in rows
        ]
