"""ledger_entries and ledger_postings: the node's books."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from sovereign_node.store.database import Database
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.settle.ledger import LedgerEntry, Posting, first_fault, make_entry

_PAGE = 2000


class Ledger:
    """Appends entries that add up to zero, and checks the whole chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def post(self, *, at: int, kind: str, cause: bytes, postings: Iterable[Posting]) -> LedgerEntry:
        """Append one entry durably; the same kind and cause again changes nothing.

        Args:
            at: Unix seconds UTC.
            kind: charge, voucher, credit, settlement or transfer.
            cause: hash of the signed message behind it, 32 bytes.
            postings: add up to zero.

        Returns:
            The entry, or the one that the same cause made before.

        Raises:
            LocalProtocolError: the postings do not add up, or the cause is missing.
            RefusedError: the same cause was booked with other amounts.
        """
        lines = tuple(postings)
        with self._database.transaction():
            known = self._by_cause(kind, cause)
            if known is None:
                entry = make_entry(self.last(), at=at, kind=kind, cause=cause, postings=lines)
                self._insert(entry)
                return entry
        if known.postings != lines:
            raise RefusedError(Reason.FIGURES, {"seq": known.seq})
        return known

    def _insert(self, entry: LedgerEntry) -> None:
        self._database.execute(
            "INSERT INTO ledger_entries (seq, prev_hash, time, kind, cause, hash) VALUES (?, ?, ?, ?, ?, ?)",
            (entry.seq, entry.previous.hex(), entry.at, entry.kind, entry.cause.hex(), entry.hash.hex()),
        )
        self._database.execute_many(
            "INSERT INTO ledger_postings (seq, line, account, amount_micro_vibe) VALUES (?, ?, ?, ?)",
            [(entry.seq, line, posting.account, posting.amount) for line, posting in enumerate(entry.postings)],
        )

    def _by_cause(self, kind: str, cause: bytes) -> LedgerEntry | None:
        rows = self._database.query(
            "SELECT * FROM ledger_entries WHERE kind = ? AND cause = ?", (kind, cause.hex())
        )
        return next(self._with_postings(rows), None)

    def last(self) -> LedgerEntry | None:
        """Read the newest entry."""
        rows = self._database.query("SELECT * FROM ledger_entries ORDER BY seq DESC LIMIT 1")
        return next(self._with_postings(rows), None)

    def entries(self, *, after_seq: int = 0, limit: int = _PAGE) -> list[LedgerEntry]:
        """Read entries in order, a page at a time."""
        rows = self._database.query(
            "SELECT * FROM ledger_entries WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
        )
        return list(self._with_postings(rows))

    def _with_postings(self, rows: list[sqlite3.Row]) -> Iterator[LedgerEntry]:
        if not rows:
            return
        lines: dict[int, list[Posting]] = {}
        for posting in self._database.query(
            "SELECT * FROM ledger_postings WHERE seq BETWEEN ? AND ? ORDER BY seq, line",
            (rows[0]["seq"], rows[-1]["seq"]),
        ):
            line = Posting(posting["account"], posting["amount_micro_vibe"])
            lines.setdefault(posting["seq"], []).append(line)
        for row in rows:
            yield LedgerEntry(
                seq=row["seq"],
                previous=bytes.fromhex(row["prev_hash"]),
                at=row["time"],
                kind=row["kind"],
                cause=bytes.fromhex(row["cause"]),
                postings=tuple(lines.get(row["seq"], ())),
                hash=bytes.fromhex(row["hash"]),
            )

    def balance(self, account: str) -> int:
        """Read the balance of an account, micro-VIBE."""
        row = self._database.query_one(
            "SELECT balance_micro_vibe FROM ledger_balances WHERE account = ?", (account,)
        )
        return 0 if row is None else int(row["balance_micro_vibe"])

    def balances(self, prefix: str = "") -> dict[str, int]:
        """Read the balances of all accounts whose name starts with a text."""
        rows = self._database.query(
            "SELECT * FROM ledger_balances WHERE substr(account, 1, length(:prefix)) = :prefix ORDER BY account",
            {"prefix": prefix},
        )
        return {row["account"]: row["balance_micro_vibe"] for row in rows}

    def verify(self) -> int | None:
        """Recompute chain and balances.

        Returns:
            The number of the first entry that does not hold; 0 if only the balances are wrong; None if all is well.
        """
        fault = first_fault(self._all())
        if fault is not None:
            return fault
        rows = self._database.query(
            "SELECT 1 FROM ledger_balances WHERE balance_micro_vibe != (SELECT sum(amount_micro_vibe)"
            " FROM ledger_postings WHERE ledger_postings.account = ledger_balances.account) LIMIT 1"
        )
        return 0 if rows else None

    def _all(self) -> Iterator[LedgerEntry]:
        after = 0
        while page := self.entries(after_seq=after):
            yield from page
            after = page[-1].seq
