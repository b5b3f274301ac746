"""uptime_windows and maintenance_notices: what observers measured, and what providers announced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sovereign_node.store.database import Database


@dataclass(frozen=True)
class MaintenanceNotice:
    """A maintenance of one contract's provider, announced before it began.

    Args:
        notice_hash: of the signed notice, 32 bytes.
        provider_device: 32 bytes.
        contract_id: 32 bytes.
        from_at, until_at: first second and first second after, Unix seconds UTC.
        raw: the notice as signed.
    """

    notice_hash: bytes
    provider_device: bytes
    contract_id: bytes
    from_at: int
    until_at: int
    raw: bytes


@dataclass(frozen=True)
class Appointment:
    """A contract of others that names this device as an observer.

    Args:
        contract_id, customer_identity, provider_identity, provider_device: 32 bytes each.
        revision: of the terms below.
        ends_at: of the contract, Unix seconds UTC.
        customer_raw, provider_raw: the terms as each party signed them.
    """

    contract_id: bytes
    revision: int
    customer_identity: bytes
    provider_identity: bytes
    provider_device: bytes
    ends_at: int
    customer_raw: bytes
    provider_raw: bytes


class Uptime:
    """Reads and writes what was observed; a window that was good once stays good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def observe(
        self, provider: bytes, observer: bytes, number: int, *, is_good: bool, receipt: bytes = b""
    ) -> None:
        """Note that an observer asked a provider in a window.

        Args:
            provider: device key, 32 bytes.
            observer: device key, 32 bytes.
            number: of the window, Unix seconds div 600.
            is_good: whether an authenticated answer came.
            receipt: signed by the other side, empty without an answer or for a window learned from a report.
        """
        self._database.execute(
            "INSERT INTO uptime_windows (provider_device, observer_device, number, is_good, receipt)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (provider_device, observer_device, number) DO UPDATE SET"
            " is_good = max(is_good, excluded.is_good), receipt = coalesce(receipt, excluded.receipt)",
            (provider.hex(), observer.hex(), number, int(is_good), receipt or None),
        )

    def observe_many(self, provider: bytes, observer: bytes, windows: Mapping[int, bool]) -> None:
        """Take over what a report of an observer says, in one transaction."""
        with self._database.transaction():
            for number, is_good in windows.items():
                self.observe(provider, observer, number, is_good=is_good)

    def windows(
        self, provider: bytes, first: int, end: int, *, observers: frozenset[bytes] | None = None
    ) -> dict[int, bool]:
        """Read which windows were observed, and whether any observer had an answer.

        Args:
            provider: device key, 32 bytes.
            first: number of the first window.
            end: number after the last.
            observers: whose observations count; None for all.
        """
        rows = self._database.query(
            "SELECT observer_device, number, is_good FROM uptime_windows"
            " WHERE provider_device = ? AND number >= ? AND number < ?",
            (provider.hex(), first, end),
        )
        found: dict[int, bool] = {}
        for row in rows:
            if observers is None or bytes.fromhex(row["observer_device"]) in observers:
                found[row["number"]] = found.get(row["number"], False) or bool(row["is_good"])
        return dict(sorted(found.items()))

    def receipts(self, provider: bytes, first: int, end: int) -> list[bytes]:
        """Read the signed receipts of good windows, for an evidence bundle."""
        rows = self._database.query(
            "SELECT receipt FROM uptime_windows WHERE provider_device = ? AND number >= ? AND number < ?"
            " AND receipt IS NOT NULL ORDER BY number, observer_device",
            (provider.hex(), first, end),
        )
        return [row["receipt"] for row in rows]

    def thin(self, before: int) -> int:
        """Drop windows with a number below ``before``; returns how many went."""
        return self._database.execute("DELETE FROM uptime_windows WHERE number < ?", (before,))

    def add_notice(self, notice: MaintenanceNotice, *, at: int) -> bool:
        """Keep a notice; returns False if it was known already."""
        changed = self._database.execute(
            "INSERT INTO maintenance_notices (notice_hash, provider_device, contract_id, from_at, until_at, raw,"
            " received_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (notice_hash) DO NOTHING",
            (
                notice.notice_hash.hex(),
                notice.provider_device.hex(),
                notice.contract_id.hex(),
                notice.from_at,
                notice.until_at,
                notice.raw,
                at,
            ),
        )
        return changed == 1

    def notices(self, contract_id: bytes, *, after_at: int = 0) -> list[MaintenanceNotice]:
        """Read the notices of a contract that end after a time, in the order in which they begin."""
        rows = self._database.query(
            "SELECT * FROM maintenance_notices WHERE contract_id = ? AND until_at > ?"
            " ORDER BY from_at, notice_hash",
            (contract_id.hex(), after_at),
        )
        return [
            MaintenanceNotice(
                bytes.fromhex(row["notice_hash"]),
                bytes.fromhex(row["provider_device"]),
                bytes.fromhex(row["contract_id"]),
                row["from_at"],
                row["until_at"],
                row["raw"],
            )
            for row in rows
        ]

    def appoint(self, appointment: Appointment, *, at: int) -> None:
        """Keep a contract that this device observes; an older revision replaces nothing."""
        self._database.execute(
            "INSERT INTO appointments (contract_id, revision, customer_identity, provider_identity,"
            " provider_device, ends_at, customer_raw, provider_raw, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (contract_id) DO UPDATE SET revision = excluded.revision, ends_at = excluded.ends_at,"
            " customer_raw = excluded.customer_raw, provider_raw = excluded.provider_raw"
            " WHERE excluded.revision > appointments.revision",
            (
                appointment.contract_id.hex(),
                appointment.revision,
                appointment.customer_identity.hex(),
                appointment.provider_identity.hex(),
                appointment.provider_device.hex(),
                appointment.ends_at,
                appointment.customer_raw,
                appointment.provider_raw,
                at,
            ),
        )

    def appointments(self, *, after_at: int) -> list[Appointment]:
        """Read the contracts that end after a time, Unix seconds UTC."""
        rows = self._database.query(
            "SELECT * FROM appointments WHERE ends_at > ? ORDER BY contract_id", (after_at,)
        )
        return [
            Appointment(
                bytes.fromhex(row["contract_id"]),
                row["revision"],
                bytes.fromhex(row["customer_identity"]),
                bytes.fromhex(row["provider_identity"]),
                bytes.fromhex(row["provider_device"]),
                row["ends_at"],
                row["customer_raw"],
                row["provider_raw"],
            )
            for row in rows
        ]
