"""Reach a peer by its id: an open connection, known addresses, then the DHT."""

from __future__ import annotations

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.errors import DialError, NetError
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.net.streams import PeerStream
from sovereign_node.store import State

log = structlog.get_logger(__name__)

KNOWN_TIMEOUT_S = 4.0
LOOKUP_TIMEOUT_S = 10.0
STREAM_TIMEOUT_S = 5.0


class PeerFinder:
    """Connects to peers and remembers which of their addresses worked.

    Args:
        network: this node's connections.
        kademlia: the DHT.
        state: remembers addresses over restarts.
        clock: wall time.
    """

    def __init__(self, network: Network, kademlia: Kademlia, state: State, clock: Clock) -> None:
        self._network = network
        self._kademlia = kademlia
        self._state = state
        self._clock = clock

    async def connect(self, peer_id: str) -> None:
        """Make sure that the peer is connected.

        Raises:
            NodeError: no address led to it.
        """
        if self._network.is_connected(peer_id):
            return
        known = await trio.to_thread.run_sync(self._state.peers.addresses, peer_id)
        if await self._dial(peer_id, known, KNOWN_TIMEOUT_S):
            return
        found: list[str] = []
        with trio.move_on_after(LOOKUP_TIMEOUT_S):
            found = await self._kademlia.find_peer(peer_id)
        fresh = [address for address in found if address not in known]
        if fresh and await self._dial(peer_id, fresh, KNOWN_TIMEOUT_S):
            return
        raise unreachable(peer_id)

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

    async def learn(self, peer_id: str, addresses: list[str], *, source: str, name: str = "") -> None:
        """Remember addresses that somebody told us."""
        await trio.to_thread.run_sync(
            lambda: self._state.peers.learn(peer_id, addresses, source=source, at=self._clock(), name=name)
        )

    async def _dial(self, peer_id: str, addresses: list[str], timeout_s: float) -> bool:
        if not addresses and not self._network.known_addresses(peer_id):
            return False
        try:
            await self._network.connect(peer_id, addresses, timeout_s=timeout_s)
        except DialError as error:
            log.info("dial_failed", peer_id=peer_id, reason=str(error))
            return False
        connected = [info.address for info in self._network.connections() if info.peer_id == peer_id]
        await self.learn(peer_id, [f"{address}/p2p/{peer_id}" for address in connected], source="dialled")
        return True


def unreachable(peer_id: str) -> NodeError:
    """The peer can't be reached on any path."""
    return NodeError(
        "unreachable",
        f"peer {peer_id} can't be reached",
        "it may be off line; try again later, or see `sovereign doctor`",
        ExitCode.UNREACHABLE,
    )
