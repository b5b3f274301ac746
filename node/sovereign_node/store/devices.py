"""device_registry: every device that this node knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_node.store.database import Database
from sovereign_node.store.rows import bytes_or_none, find_by_prefix, from_json, hex_or_none, to_json


@dataclass(frozen=True)
class Device:
    """One row of device_registry.

    Args:
        device_id: the device's public key, 32 bytes.
        device_name: what people call it.
        device_type: server, mobile, provider or unknown: the role that describes it best.
        peer_id: its libp2p name, the same key as base58 text.
        roles: all its roles.
        identity: the owner, 32 bytes; None while no certificate was seen.
        addresses: multiaddrs, best first.
        capabilities: bitmap of its certificate.
        certificate: the signed certificate as received.
        is_online: whether a connection is open or a probe succeeded lately.
        last_seen: Unix seconds UTC, None for never.
        added_at: Unix seconds UTC.
        revoked_at: Unix seconds UTC, None while it is in force.
    """

    device_id: bytes
    device_name: str
    device_type: str
    peer_id: str
    added_at: int
    roles: tuple[str, ...] = ()
    identity: bytes | None = None
    addresses: tuple[str, ...] = ()
    capabilities: int = 0
    certificate: bytes | None = None
    is_online: bool = False
    last_seen: int | None = None
    revoked_at: int | None = None


def _device(row: sqlite3.Row) -> Device:
    return Device(
        device_id=bytes.fromhex(row["device_id"]),
        device_name=row["device_name"],
        device_type=row["device_type"],
        peer_id=row["peer_id"],
        added_at=row["added_at"],
        roles=from_json(row["roles"]),
        identity=bytes_or_none(row["identity"]),
        addresses=from_json(row["addresses"]),
        capabilities=row["capabilities"],
        certificate=row["certificate"],
        is_online=bool(row["is_online"]),
        last_seen=row["last_seen"],
        revoked_at=row["revoked_at"],
    )


class Devices:
    """Reads and writes of device_registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, device: Device) -> None:
        """Add a device or replace what is known of it; its time of adding stays, a revocation is never undone."""
        self._database.execute(
            "INSERT INTO device_registry (device_id, device_name, device_type, roles, identity, peer_id,"
            " addresses, capabilities, certificate, is_online, last_seen, added_at, revoked_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (device_id) DO UPDATE SET device_name = excluded.device_name,"
            " device_type = excluded.device_type, roles = excluded.roles, identity = excluded.identity,"
            " peer_id = excluded.peer_id, addresses = excluded.addresses,"
            " capabilities = excluded.capabilities, certificate = excluded.certificate,"
            " is_online = excluded.is_online, last_seen = excluded.last_seen,"
            " revoked_at = coalesce(revoked_at, excluded.revoked_at)",
            (
                device.device_id.hex(),
                device.device_name,
                device.device_type,
                to_json(device.roles),
                hex_or_none(device.identity),
                device.peer_id,
                to_json(device.addresses),
                device.capabilities,
                device.certificate,
                int(device.is_online),
                device.last_seen,
                device.added_at,
                device.revoked_at,
            ),
        )

    def get(self, device_id: bytes) -> Device | None:
        """Read one device by its 32-byte id."""
        row = self._database.query_one("SELECT * FROM device_registry WHERE device_id = ?", (device_id.hex(),))
        return None if row is None else _device(row)

    def get_by_peer_id(self, peer_id: str) -> Device | None:
        """Read one device by its libp2p name."""
        row = self._database.query_one("SELECT * FROM device_registry WHERE peer_id = ?", (peer_id,))
        return None if row is None else _device(row)

    def all(self, *, identity: bytes | None = None, include_revoked: bool = True) -> list[Device]:
        """Read all devices, or those of one identity, in the order in which they were added."""
        rows = self._database.query(
            "SELECT * FROM device_registry WHERE (:identity IS NULL OR identity = :identity)"
            " AND (:all OR revoked_at IS NULL) ORDER BY added_at, device_id",
            {"identity": hex_or_none(identity), "all": int(include_revoked)},
        )
        return [_device(row) for row in rows]

    def find(self, text: str) -> Sequence[Device]:
        """Find devices by exact name, exact or leading peer id, or the start of their id."""
        rows = self._database.query(
            "SELECT * FROM device_registry WHERE device_name = ? ORDER BY device_id", (text,)
        )
        if rows:
            return [_device(row) for row in rows]
        found = find_by_prefix(self._database, "device_registry", "device_id", text, _device)
        if found or not text:
            return found
        rows = self._database.query(
            "SELECT * FROM device_registry WHERE substr(peer_id, 1, length(:text)) = :text ORDER BY peer_id",
            {"text": text},
        )
        return [_device(row) for row in rows]

    def set_online(self, device_id: bytes, *, online: bool, at: int) -> bool:
        """Record that a device came or went.

        Args:
            device_id: 32 bytes.
            online: the new state.
            at: when it was last seen, Unix seconds UTC; never moved back.

        Returns:
            Whether the device is known.
        """
        changed = self._database.execute(
            "UPDATE device_registry SET is_online = ?, last_seen = max(coalesce(last_seen, 0), ?)"
            " WHERE device_id = ?",
            (int(online), at, device_id.hex()),
        )
        return changed == 1

    def set_all_offline(self) -> None:
        """Start with nobody online: connections do not outlive the process."""
        self._database.execute("UPDATE device_registry SET is_online = 0 WHERE is_online = 1")

    def set_addresses(self, device_id: bytes, addresses: Sequence[str]) -> bool:
        """Replace a device's multiaddrs; returns whether the device is known."""
        changed = self._database.execute(
            "UPDATE device_registry SET addresses = ? WHERE device_id = ?",
            (to_json(addresses), device_id.hex()),
        )
        return changed == 1

    def revoke(self, device_id: bytes, at: int) -> bool:
        """Mark a device as revoked, at the first time that was reported; returns whether it is known."""
        changed = self._database.execute(
            "UPDATE device_registry SET revoked_at = coalesce(revoked_at, ?), is_online = 0 WHERE device_id = ?",
            (at, device_id.hex()),
        )
        return changed == 1
