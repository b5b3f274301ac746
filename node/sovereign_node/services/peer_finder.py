"""Reach a peer by its id: an open connection, known addresses, ways through third parties, then the DHT."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.errors import DialError, NetError
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.net.paths import rank_of_path
from sovereign_node.net.streams import PeerStream
from sovereign_node.store import State

log = structlog.get_logger(__name__)

KNOWN_TIMEOUT_S = 4.0
# How long known addresses are tried alone before the DHT is asked as well.
LOOKUP_HEAD_START_S = 0.75
LOOKUP_TIMEOUT_S = 10.0
FRESH_TIMEOUT_S = 5.0
# For all of it together. Whoever could not be reached a moment ago gets less: on a dead network a user does not
# want to wait for every command, and `Presence` goes on trying with patience.
CONNECT_TIMEOUT_S = 10.0
RECENTLY_S = 60.0
SECOND_TIMEOUT_S = 2.0
MAX_REMEMBERED_FAILURES = 1024
STREAM_TIMEOUT_S = 5.0

# Asked with a peer id; gives multiaddrs at which it may be.
Lookup = Callable[[str], Awaitable[Sequence[str]]]


class PeerFinder:
    """Connects to peers and remembers which of their addresses worked.

    Args:
        network: this node's connections.
        kademlia: the DHT.
        state: remembers addresses over restarts.
        clock: wall time.
        shared_ways: lists addresses of relays that this node uses, at which any peer may be.
        find_record: looks for the addresses that a peer published about itself.
    """

    def __init__(
        self,
        network: Network,
        kademlia: Kademlia,
        state: State,
        clock: Clock,
        *,
        shared_ways: Callable[[], Sequence[str]] = tuple,
        find_record: Lookup | None = None,
    ) -> None:
        self._network = network
        self._kademlia = kademlia
        self._state = state
        self._clock = clock
        self._shared_ways = shared_ways
        self._failed_at: dict[str, float] = {}
        self._lookups: list[Lookup] = [kademlia.find_peer, *([find_record] if find_record else [])]

    def forget_failures(self) -> None:
        """Give every peer the full time again: the machine woke up, or is in another network."""
        self._failed_at.clear()

    async def connect(self, peer_id: str, *, is_patient: bool = False, asks_dht: bool = True) -> None:
        """Make sure that the peer is connected.

        What is known is dialled at once; a moment later the DHT is asked, and what it says joins the race. A way
        that leads nowhere holds up no other.

        Args:
            peer_id: whom.
            is_patient: take the full time, also for one that could not be reached a moment ago.
            asks_dht: look for addresses besides the known ones.

        Raises:
            NodeError: no address led to it.
        """
        if self._network.is_connected(peer_id):
            return
        failed_at = self._failed_at.get(peer_id, float("-inf"))
        is_short = not is_patient and trio.current_time() - failed_at < RECENTLY_S
        with trio.move_on_after(SECOND_TIMEOUT_S if is_short else CONNECT_TIMEOUT_S):
            await self._connect(peer_id, asks_dht=asks_dht)
        self._failed_at.pop(peer_id, None)
        if not self._network.is_connected(peer_id):
            self._failed_at[peer_id] = trio.current_time()
            if len(self._failed_at) > MAX_REMEMBERED_FAILURES:
                del self._failed_at[next(iter(self._failed_at))]
            raise unreachable(peer_id)
        await self._remember(peer_id)

    async def _connect(self, peer_id: str, *, asks_dht: bool) -> None:
        known = await self._known(peer_id)
        known_failed = trio.Event()
        async with trio.open_nursery() as nursery:

            async def dial_known() -> None:
                if await self._dial(peer_id, known, KNOWN_TIMEOUT_S):
                    nursery.cancel_scope.cancel()
                known_failed.set()

            async def ask_and_dial(lookup: Lookup) -> None:
                with trio.move_on_after(LOOKUP_HEAD_START_S):
                    await known_failed.wait()
                fresh = [address for address in await _ask(lookup, peer_id) if address not in known]
                if fresh and await self._dial(peer_id, fresh, FRESH_TIMEOUT_S):
                    nursery.cancel_scope.cancel()

            nursery.start_soon(dial_known)
            for lookup in self._lookups if asks_dht else ():
                nursery.start_soon(ask_and_dial, lookup)

    async def improve(self, peer_id: str) -> bool:
        """Look for a better path to a connected peer; True if there is one now."""
        found = await self._known(peer_id)
        for lookup in self._lookups:
            found += await _ask(lookup, peer_id)
        try:
            await self._network.improve(peer_id, list(dict.fromkeys(found)), timeout_s=KNOWN_TIMEOUT_S)
        except NetError as error:
            log.debug("path_not_improved", peer_id=peer_id, reason=str(error))
            return False
        await self._remember(peer_id)
        return True

    async def open_stream(self, peer_id: str, protocol_id: str) -> PeerStream:
        """Open a stream for ``protocol_id``, connecting first if need be.

        Raises:
            NodeError: the peer can't be reached or does not speak the protocol.
        """
        await self.connect(peer_id)
        try:
            return await self._network.open_stream(peer_id, protocol_id, timeout_s=STREAM_TIMEOUT_S)
        except NetError as error:
            raise unreachable(peer_id) from error

    def path_rank(self, peer_id: str) -> int:
        """Return how good the path is that new streams to a peer take, larger is better; 0 without a connection."""
        preferred = self._network.preferred(peer_id)
        return rank_of_path(preferred.path) if preferred is not None else 0

    async def learn(self, peer_id: str, addresses: list[str], *, source: str, name: str = "") -> None:
        """Remember addresses that somebody told us."""
        await trio.to_thread.run_sync(
            lambda: self._state.peers.learn(peer_id, addresses, source=source, at=self._clock(), name=name)
        )

    async def _known(self, peer_id: str) -> list[str]:
        known = await trio.to_thread.run_sync(self._state.peers.addresses, peer_id)
        return [*known, *(f"{way}/p2p/{peer_id}" for way in self._shared_ways())]

    async def _dial(self, peer_id: str, addresses: Sequence[str], timeout_s: float) -> bool:
        if not addresses and not self._network.known_addresses(peer_id):
            return False
        try:
            await self._network.connect(peer_id, addresses, timeout_s=timeout_s)
        except DialError as error:
            log.info("dial_failed", peer_id=peer_id, reason=str(error))
            return False
        return True

    async def _remember(self, peer_id: str) -> None:
        dialled = [
            f"{info.address}/p2p/{peer_id}"
            for info in self._network.connections()
            # An inbound connection shows a port that nobody listens on.
            if info.peer_id == peer_id and not info.inbound
        ]
        if dialled:
            await self.learn(peer_id, dialled, source="dialled")


async def _ask(lookup: Lookup, peer_id: str) -> Sequence[str]:
    found: Sequence[str] = ()
    with trio.move_on_after(LOOKUP_TIMEOUT_S):
        found = await lookup(peer_id)
    return found


def unreachable(peer_id: str) -> NodeError:
    """The peer can't be reached on any path."""
    return NodeError(
        "unreachable",
        f"peer {peer_id} can't be reached",
        "it may be off line; try again later, or see `sovereign doctor`",
        ExitCode.UNREACHABLE,
    )
