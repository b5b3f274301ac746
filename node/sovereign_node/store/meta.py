"""Facts about this node: one text per key."""

from __future__ import annotations

from sovereign_node.store.database import Database
from sovereign_node.store.rows import from_json, to_json


class Meta:
    """The node's own name, roles, identity and settings that commands may change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> str | None:
        """Read one text, None where it was never set."""
        row = self._database.query_one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    def set(self, key: str, value: str) -> None:
        """Write one text durably."""
        self._database.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def delete(self, key: str) -> None:
        """Forget one text; nothing happens where there is none."""
        self._database.execute("DELETE FROM meta WHERE key = ?", (key,))

    def next_number(self, key: str) -> int:
        """Count up durably, so that a number is never used twice.

        Args:
            key: the counter's name.

        Returns:
            1 at first, then one more each time.
        """
        with self._database.transaction():
            number = int(self.get(key) or 0) + 1
            self.set(key, str(number))
            return number

    @property
    def node_name(self) -> str:
        """The name that the user gave this device."""
        return self.get("node_name") or ""

    @node_name.setter
    def node_name(self, name: str) -> None:
        self.set("node_name", name)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of this device: server, mobile, provider."""
        return from_json(self.get("roles") or "[]")

    @roles.setter
    def roles(self, roles: tuple[str, ...]) -> None:
        self.set("roles", to_json(roles))

    @property
    def identity_id(self) -> bytes | None:
        """The identity that owns this device: 32 bytes, None before it was created."""
        text = self.get("identity_id")
        return None if text is None else bytes.fromhex(text)

    @identity_id.setter
    def identity_id(self, identity_id: bytes) -> None:
        self.set("identity_id", identity_id.hex())

    @property
    def peer_id(self) -> str:
        """This device's peer id, empty before it was created."""
        return self.get("peer_id") or ""

    @peer_id.setter
    def peer_id(self, peer_id: str) -> None:
        self.set("peer_id", peer_id)

    @property
    def writer_instance(self) -> bytes:
        """The 8 bytes that name this device's chains of heads; new after a restore."""
        return bytes.fromhex(self.get("writer_instance") or "")
