"""Who has to go when there are more connections than a node wants to hold.

libp2p 0.8.1 turns newcomers away when it is full. Identities cost nothing, so one machine could take every place
and keep it; here a newcomer is let in, and the connection goes that matters least. Work is not broken off: who
moves bytes stays, unless everybody does and an own device or a partner comes.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from enum import IntEnum

import trio

from sovereign_node.net.connection import Connection
from sovereign_node.net.listener import neighbourhood

_JUDGED_S = 10.0
# Over two checks of life, with a stream open. Chatter of the DHT and held streams stay below.
_BUSY_BYTES = 16 * 1024


class _Worth(IntEnum):
    """What a connection is worth, lowest first."""

    STRANGER = 0
    DIALLED = 1
    # It has had no time for streams yet, so it goes only when the others are better.
    NEW = 2
    BUSY = 3
    FRIEND = 4
    NEW_FRIEND = 5
    BUSY_FRIEND = 6


class Crowd:
    """Keeps the number of connections within its limit.

    Args:
        limit: connections at a time.

    Attributes:
        is_friend: whether a peer matters to this node (own devices, providers, customers); asked with its peer id.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._judged: dict[str, tuple[bool, float]] = {}
        # Bytes that had crossed at the last two checks of life.
        self._counts: dict[Connection, tuple[int, int]] = {}
        self.is_friend: Callable[[str], bool] = lambda _peer_id: False

    def note_check(self, connection: Connection) -> None:
        """Note at each check of life how much has crossed."""
        _, last = self._counts.get(connection, (0, 0))
        self._counts[connection] = last, _crossed(connection)

    def forget(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._counts.pop(connection, None)

    def shed(self, connections: Iterable[Connection], newcomer: Connection, nursery: trio.Nursery) -> None:
        """Close one connection if there are too many.

        Args:
            connections: all of them.
            newcomer: the newest one.
            nursery: where it is closed.
        """
        everyone = [item for item in connections if not item.closed.is_set()]
        if len(everyone) > self._limit:
            nursery.start_soon(self._least(everyone, newcomer).close)

    def _least(self, everyone: list[Connection], newcomer: Connection) -> Connection:
        """Choose what is worth least; among strangers one of the most crowded network, idle ones and old ones."""
        self._judge({item.peer_id for item in everyone})
        worth = {item: self._worth(item, is_new=item is newcomer) for item in everyone}
        homes = {item: neighbourhood(_host_of(item)) for item in everyone}
        sizes = Counter(homes[item] for item in everyone if worth[item] is _Worth.STRANGER)

        def rank(item: Connection) -> tuple[int, int, bool, int]:
            crowd = sizes[homes[item]] if worth[item] is _Worth.STRANGER else 0
            return worth[item], -crowd, not item.is_idle, item.opened_at

        return min(everyone, key=rank)

    def _worth(self, item: Connection, *, is_new: bool) -> _Worth:
        if self._judged[item.peer_id][0]:
            return _Worth.NEW_FRIEND if is_new else _Worth.BUSY_FRIEND if self._is_busy(item) else _Worth.FRIEND
        if is_new:
            return _Worth.NEW
        if self._is_busy(item):
            return _Worth.BUSY
        return _Worth.STRANGER if item.inbound else _Worth.DIALLED

    def _is_busy(self, item: Connection) -> bool:
        before, _ = self._counts.get(item, (0, 0))
        return not item.is_idle and _crossed(item) - before >= _BUSY_BYTES

    def _judge(self, peer_ids: set[str]) -> None:
        """Ask who is a friend, which costs a look into the database, not more than now and then."""
        now = trio.current_time()
        fresh = {
            peer_id: known for peer_id, known in self._judged.items() if peer_id in peer_ids and known[1] > now
        }
        for peer_id in peer_ids - fresh.keys():
            fresh[peer_id] = self.is_friend(peer_id), now + _JUDGED_S
        self._judged = fresh


def _host_of(connection: Connection) -> str | None:
    return connection.pipe.remote[0] if connection.pipe.remote else None


def _crossed(connection: Connection) -> int:
    return connection.pipe.bytes_received + connection.pipe.bytes_sent
