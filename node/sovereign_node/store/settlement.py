"""meters, accruals, vouchers and settlement_messages: what was used, owed, promised and signed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sovereign_node.store.database import Database
from sovereign_protocols.market.prices import GB, Prices
from sovereign_protocols.settle.accrual import Accrual
from sovereign_protocols.settle.bodies import Voucher
from sovereign_protocols.settle.lanes import LaneHead
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import Body, Signed, parse_signed

Kind = TypeVar("Kind", bound=Body)


def _meter(row: sqlite3.Row) -> Meter:
    return Meter(
        at=row["metered_at"],
        stored_bytes=row["stored_bytes"],
        stored_chunks=row["stored_chunks"],
        byte_seconds=row["gb_seconds"] * GB + row["rest_byte_seconds"],
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
    )


class Meters:
    """Reads and moves the counters of contracts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, contract_id: bytes) -> Meter | None:
        """Read the counters of a contract."""
        row = self._database.query_one("SELECT * FROM meters WHERE contract_id = ?", (contract_id.hex(),))
        return None if row is None else _meter(row)

    def all(self) -> dict[bytes, Meter]:
        """Read the counters of all contracts."""
        rows = self._database.query("SELECT * FROM meters ORDER BY contract_id")
        return {bytes.fromhex(row["contract_id"]): _meter(row) for row in rows}

    def update(self, contract_id: bytes, change: Callable[[Meter], Meter], *, at: int) -> Meter:
        """Move the counters of one contract in one transaction.

        Args:
            contract_id: 32 bytes.
            change: makes the new reading from the old.
            at: start of a new meter, Unix seconds UTC.

        Returns:
            The new reading.

        Raises:
            StateConflictError: a counter would fall, or the contract is unknown.
        """
        with self._database.transaction():
            meter = change(self.get(contract_id) or Meter(at))
            gb_seconds, rest_byte_seconds = divmod(meter.byte_seconds, GB)
            self._database.execute(
                "INSERT INTO meters (contract_id, metered_at, stored_bytes, stored_chunks, gb_seconds,"
                " rest_byte_seconds, bytes_in, bytes_out) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (contract_id) DO UPDATE SET metered_at = excluded.metered_at,"
                " stored_bytes = excluded.stored_bytes, stored_chunks = excluded.stored_chunks,"
                " gb_seconds = excluded.gb_seconds, rest_byte_seconds = excluded.rest_byte_seconds,"
                " bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out",
                (
                    contract_id.hex(),
                    meter.at,
                    meter.stored_bytes,
                    meter.stored_chunks,
                    gb_seconds,
                    rest_byte_seconds,
                    meter.bytes_in,
                    meter.bytes_out,
                ),
            )
            return meter


class Accruals:
    """Reads and writes where the open lines of each contract began."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, contract_id: bytes) -> Accrual | None:
        """Read the accrual of a contract, None before its first line was closed."""
        row = self._database.query_one("SELECT * FROM accruals WHERE contract_id = ?", (contract_id.hex(),))
        if row is None:
            return None
        since = Meter(
            at=row["since_at"],
            byte_seconds=row["since_gb_seconds"] * GB + row["since_rest_byte_seconds"],
            bytes_in=row["since_bytes_in"],
            bytes_out=row["since_bytes_out"],
        )
        prices = Prices(
            row["price_micro_vibe_per_gb_month"], row["price_micro_vibe_per_gb_transfer"], row["bonus_permille"]
        )
        return Accrual(prices, since, row["closed_micro_vibe"])

    def put(self, contract_id: bytes, accrual: Accrual) -> None:
        """Write the accrual of a contract after its lines were closed.

        Raises:
            StateConflictError: what accrued would fall, or the contract is unknown.
        """
        since = accrual.since
        self._database.execute(
            "INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (contract_id) DO UPDATE SET"
            " closed_micro_vibe = excluded.closed_micro_vibe,"
            " price_micro_vibe_per_gb_month = excluded.price_micro_vibe_per_gb_month,"
            " price_micro_vibe_per_gb_transfer = excluded.price_micro_vibe_per_gb_transfer,"
            " bonus_permille = excluded.bonus_permille, since_at = excluded.since_at,"
            " since_gb_seconds = excluded.since_gb_seconds,"
            " since_rest_byte_seconds = excluded.since_rest_byte_seconds,"
            " since_bytes_in = excluded.since_bytes_in, since_bytes_out = excluded.since_bytes_out",
            (
                contract_id.hex(),
                accrual.closed,
                accrual.prices.micro_vibe_per_gb_month,
                accrual.prices.micro_vibe_per_gb_transfer,
                accrual.prices.bonus_permille,
                since.at,
                *divmod(since.byte_seconds, GB),
                since.bytes_in,
                since.bytes_out,
            ),
        )


class Vouchers:
    """Keeps every voucher, given or held; a number of a lane is taken once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, voucher: Signed[Voucher], *, at: int) -> None:
        """Keep a voucher durably: the customer before sending, the provider before acknowledging.

        Raises:
            StateConflictError: its number is taken or not the next, or it promises less than the one before.
        """
        body = voucher.body
        self._database.execute(
            "INSERT INTO vouchers (contract_id, device_id, lane, seq, cumulative_micro_vibe, covers_until,"
            " content_hash, raw, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                body.contract.hex(),
                body.device.hex(),
                body.lane,
                body.seq,
                body.cumulative,
                body.covers_until,
                voucher.content_hash.hex(),
                voucher.raw,
                at,
            ),
        )

    def newest(self, contract_id: bytes) -> list[bytes]:
        """Read the newest voucher of each lane, as signed."""
        return [row["raw"] for row in self._newest_rows(contract_id)]

    def raws(self, contract_id: bytes) -> list[bytes]:
        """Read every voucher of a contract as signed, lane by lane in order, for an evidence bundle."""
        rows = self._database.query(
            "SELECT raw FROM vouchers WHERE contract_id = ? ORDER BY device_id, lane, seq", (contract_id.hex(),)
        )
        return [row["raw"] for row in rows]

    def _newest_rows(self, contract_id: bytes) -> list[sqlite3.Row]:
        return self._database.query(
            "SELECT * FROM vouchers AS voucher WHERE contract_id = ? AND seq = (SELECT max(seq) FROM vouchers"
            " WHERE contract_id = voucher.contract_id AND device_id = voucher.device_id"
            " AND lane = voucher.lane) ORDER BY device_id, lane",
            (contract_id.hex(),),
        )

    def head(self, contract_id: bytes, device_id: bytes, lane: int) -> tuple[LaneHead, bytes]:
        """Read the newest voucher of one lane: its head, and itself as signed (empty before the first)."""
        row = self._database.query_one(
            "SELECT * FROM vouchers WHERE contract_id = ? AND device_id = ? AND lane = ? ORDER BY seq DESC LIMIT 1",
            (contract_id.hex(), device_id.hex(), lane),
        )
        if row is None:
            return LaneHead(), b""
        content_hash = bytes.fromhex(row["content_hash"])
        head = LaneHead(row["seq"], row["cumulative_micro_vibe"], content_hash, row["covers_until"])
        return head, row["raw"]

    def total(self, contract_id: bytes) -> int:
        """Sum what all lanes of a contract promised, micro-VIBE."""
        return sum(row["cumulative_micro_vibe"] for row in self._newest_rows(contract_id))


class SettlementMessages:
    """Keeps receipts, reports, statements and credit notes as they were signed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, signed: Signed[Kind], contract_id: bytes, number: int, *, at: int) -> bool:
        """Keep a signed message.

        Args:
            signed: verified.
            contract_id: 32 bytes.
            number: its place among its kind: sequence, period, or time.
            at: Unix seconds UTC.

        Returns:
            False if it was known already.
        """
        changed = self._database.execute(
            "INSERT INTO settlement_messages (message_hash, content_hash, contract_id, kind, number, signer, raw,"
            " received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message_hash) DO NOTHING",
            (
                signed.statement_hash.hex(),
                signed.content_hash.hex(),
                contract_id.hex(),
                signed.body.KIND,
                number,
                signed.signer.hex(),
                signed.raw,
                at,
            ),
        )
        return changed == 1

    def newest(self, contract_id: bytes, kind: type[Kind], network_id: bytes) -> list[Signed[Kind]]:
        """Read the messages of one kind with the highest number: two if both parties signed, none at first."""
        rows = self._database.query(
            "SELECT raw FROM settlement_messages WHERE contract_id = :contract AND kind = :kind AND number ="
            " (SELECT max(number) FROM settlement_messages WHERE contract_id = :contract AND kind = :kind)"
            " ORDER BY signer",
            {"contract": contract_id.hex(), "kind": kind.KIND},
        )
        return [parse_signed(row["raw"], kind, network_id) for row in rows]

    def newest_of_each(self, contract_id: bytes, kind: str, *, limit: int) -> list[bytes]:
        """Read, as signed, the message with the highest number of each signer, those received last first."""
        # With one max() the other columns are those of the row that has it.
        rows = self._database.query(
            "SELECT raw, received_at, max(number) FROM settlement_messages WHERE contract_id = ? AND kind = ?"
            " GROUP BY signer ORDER BY received_at DESC, signer LIMIT ?",
            (contract_id.hex(), kind, limit),
        )
        return [row["raw"] for row in rows]

    def all(self, contract_id: bytes, kind: type[Kind], network_id: bytes) -> list[Signed[Kind]]:
        """Read all messages of one kind, in the order of their numbers."""
        rows = self._database.query(
            "SELECT raw FROM settlement_messages WHERE contract_id = ? AND kind = ? ORDER BY number, signer",
            (contract_id.hex(), kind.KIND),
        )
        return [parse_signed(row["raw"], kind, network_id) for row in rows]

    def page(self, contract_id: bytes, kind: str, *, after: int, limit: int) -> list[bytes]:
        """Read messages of one kind with numbers above `after`, in order, as signed."""
        rows = self._database.query(
            "SELECT raw FROM settlement_messages WHERE contract_id = ? AND kind = ? AND number > ?"
            " ORDER BY number, signer LIMIT ?",
            (contract_id.hex(), kind, after, limit),
        )
        return [row["raw"] for row in rows]

    def raws(self, contract_id: bytes) -> list[bytes]:
        """Read every message of a contract, for an evidence bundle."""
        rows = self._database.query(
            "SELECT raw FROM settlement_messages WHERE contract_id = ? ORDER BY received_at, rowid",
            (contract_id.hex(),),
        )
        return [row["raw"] for row in rows]
