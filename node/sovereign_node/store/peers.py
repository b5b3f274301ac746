"""peers and peer_addresses: how to reach libp2p peers again after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sovereign_node.store.database import Database

# A peer that announces hundreds of addresses must not fill the table.
MAX_ADDRESSES_PER_PEER = 32


@dataclass(frozen=True)
class PeerAddress:
    """One known address of a peer and how well it worked; times are Unix seconds UTC."""

    peer_id: str
    address: str
    source: str
    learned_at: int
    last_success_at: int | None
    last_failure_at: int | None
    failures: int


class Peers:
    """Reads and writes of peers and peer_addresses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def learn(self, peer_id: str, addresses: Sequence[str], *, source: str, at: int, name: str = "") -> None:
        """Remember addresses of a peer.

        Args:
            peer_id: base58 text.
            addresses: multiaddrs; the least useful ones go when there are more than the table keeps.
            source: who said so: bootstrap, mdns, dht, identify, user.
            at: Unix seconds UTC.
            name: the peer's name, empty to keep what is known.
        """
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO peers (peer_id, peer_name) VALUES (?, ?) ON CONFLICT (peer_id) DO UPDATE SET"
                " peer_name = CASE WHEN excluded.peer_name = '' THEN peer_name ELSE excluded.peer_name END",
                (peer_id, name),
            )
            self._database.execute_many(
                "INSERT INTO peer_addresses (peer_id, address, source, learned_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (peer_id, address) DO UPDATE SET learned_at = excluded.learned_at",
                [(peer_id, address, source, at) for address in addresses],
            )
            self._database.execute(
                "DELETE FROM peer_addresses WHERE peer_id = :peer AND address NOT IN (SELECT address"
                " FROM peer_addresses WHERE peer_id = :peer ORDER BY last_success_at IS NULL,"
                " last_success_at DESC, failures, learned_at DESC LIMIT :limit)",
                {"peer": peer_id, "limit": MAX_ADDRESSES_PER_PEER},
            )

    def mark_dial(self, peer_id: str, address: str, *, succeeded: bool, at: int) -> None:
        """Record how a dial of an address ended; unknown addresses are not added."""
        with self._database.transaction():
            if succeeded:
                self._database.execute(
                    "UPDATE peer_addresses SET last_success_at = ?, failures = 0 WHERE peer_id = ? AND address = ?",
                    (at, peer_id, address),
                )
                self._database.execute("UPDATE peers SET last_seen = ? WHERE peer_id = ?", (at, peer_id))
                return
            self._database.execute(
                "UPDATE peer_addresses SET last_failure_at = ?, failures = failures + 1"
                " WHERE peer_id = ? AND address = ?",
                (at, peer_id, address),
            )

    def addresses(self, peer_id: str) -> list[str]:
        """Read the addresses of a peer, the most promising first."""
        return [known.address for known in self.known_addresses(peer_id)]

    def known_addresses(self, peer_id: str) -> list[PeerAddress]:
        """Read the addresses of a peer with their history, the most promising first."""
        rows = self._database.query(
            "SELECT * FROM peer_addresses WHERE peer_id = ?"
            " ORDER BY last_success_at IS NULL, last_success_at DESC, failures, learned_at DESC, address",
            (peer_id,),
        )
        return [PeerAddress(**dict(row)) for row in rows]

    def recent(self, limit: int = 100) -> list[tuple[str, list[str]]]:
        """Read the peers that were reached last, with their addresses: where to start after a restart."""
        rows = self._database.query(
            "SELECT peer_id FROM peers ORDER BY last_seen IS NULL, last_seen DESC, peer_id LIMIT ?", (limit,)
        )
        return [(row["peer_id"], self.addresses(row["peer_id"])) for row in rows]

    def forget(self, peer_id: str) -> None:
        """Drop a peer and its addresses."""
        self._database.execute("DELETE FROM peers WHERE peer_id = ?", (peer_id,))

    def prune(self, not_seen_since: int) -> int:
        """Drop peers that were neither reached nor announced since a time; returns how many."""
        return self._database.execute(
            "DELETE FROM peers WHERE coalesce(last_seen, 0) < :since AND NOT EXISTS (SELECT 1"
            " FROM peer_addresses WHERE peer_addresses.peer_id = peers.peer_id AND learned_at >= :since)",
            {"since": not_seen_since},
        )
