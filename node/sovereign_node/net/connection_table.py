"""The open connections of a node, and which of several to one peer is the one to use."""

from sovereign_node.net.connection import Connection
from sovereign_node.net.paths import rank_of_path


class ConnectionTable:
    """Connections by peer.

    Args:
        peer_id: of this node.
    """

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self._groups: dict[str, list[Connection]] = {}

    def add(self, connection: Connection) -> bool:
        """Add a connection; True if it is the first to its peer."""
        group = self._groups.setdefault(connection.peer_id, [])
        group.append(connection)
        return len(group) == 1

    def remove(self, connection: Connection) -> bool:
        """Remove a connection that has ended; True if it was the last to its peer."""
        group = self._groups[connection.peer_id]
        group.remove(connection)
        if not group:
            del self._groups[connection.peer_id]
        return not group

    def all(self) -> list[Connection]:
        """List every connection."""
        return [connection for group in self._groups.values() for connection in group]

    def of(self, peer_id: str) -> list[Connection]:
        """List the connections to one peer, oldest first."""
        return list(self._groups.get(peer_id, ()))

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def is_connected(self, peer_id: str) -> bool:
        """Say whether a connection to the peer is open and takes new streams."""
        return any(connection.is_usable for connection in self._groups.get(peer_id, ()))

    def best_rank(self, peer_id: str) -> int:
        """Return how good the best path to a peer is, 0 without one."""
        return max((rank_of_path(item.pipe.path) for item in self._groups.get(peer_id, ())), default=0)

    def preferred(self, peer_id: str) -> Connection | None:
        """Choose the connection on which both sides agree, after a simultaneous dial or an improvement.

        One on the best path before any other; then one started by the peer with the smaller id; then the newest.
        """
        theirs = peer_id < self._peer_id

        def rank(item: tuple[int, Connection]) -> tuple[bool, int, bool, int]:
            age, connection = item
            return connection.is_usable, rank_of_path(connection.pipe.path), connection.inbound == theirs, age

        found = max(enumerate(self._groups.get(peer_id, ())), key=rank, default=None)
        return found[1] if found else None
