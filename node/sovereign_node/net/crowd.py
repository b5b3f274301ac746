"""Who has to go when there are more connections than a node wants to hold.

libp2p 0.8.1 turns newcomers away when it is full. Identities cost nothing, so one machine could take every place
and keep it; here a newcomer is let in, and the connection goes that matters least.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import trio

from sovereign_node.net.connection import Connection
from sovereign_node.net.listener import neighbourhood

_JUDGED_S = 10.0


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
        self.is_friend: Callable[[str], bool] = lambda _peer_id: False

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
        """Choose a stranger that came by itself, of the most crowded network, without streams, the oldest such.

        The newcomer, which has had no time for streams yet, goes only when all others matter.
        """
        self._judge({item.peer_id for item in everyone})
        facts = [
            (item, item.inbound and not self._judged[item.peer_id][0], neighbourhood(_host_of(item)))
            for item in everyone
        ]
        sizes = Counter(home for _, is_stranger, home in facts if is_stranger)

        def rank(fact: tuple[Connection, bool, str]) -> tuple[bool, bool, int, bool, int]:
            item, is_stranger, home = fact
            return not is_stranger, item is newcomer, -sizes[home], not item.is_idle, item.opened_at

        return min(facts, key=rank)[0]

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
