"""A network of nodes inside one process, without sockets and encryption, that fails on demand.

It has the face of ``sovereign_node.net.network.Network`` as far as discovery uses it, so that large networks,
days of simulated time and every kind of failure can be played through in seconds.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum

import trio
from trio.testing import memory_stream_pair

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_node.net.addresses import split_peer_id
from sovereign_node.net.errors import DialError, ProtocolNotSupportedError, StreamOpenError
from sovereign_node.net.streams import PeerStream

Handler = Callable[[PeerStream], Awaitable[None]]


class Health(Enum):
    """How a node of the simulation behaves."""

    ALIVE = "alive"
    DEAD = "dead"
    HUNG = "hung"


class MemoryStream(PeerStream):
    """One end of a stream in memory; a reset is seen as a broken stream at the other end."""

    def __init__(self, inner: "trio.StapledStream", peer_id: str, protocol_id: str, broken: trio.Event) -> None:
        self._inner = inner
        self._broken = broken
        self.peer_id = peer_id
        self.protocol_id = protocol_id

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; the buffer is without bound."""
        await self._inner.send_all(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once."""
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        await self._inner.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what is there, or an empty string at the end."""
        data = bytes(await self._inner.receive_some(max_bytes))
        if not data and self._broken.is_set():
            raise trio.BrokenResourceError("stream was reset")
        return data

    async def aclose(self) -> None:
        """End both directions."""
        await self._inner.aclose()

    async def reset(self) -> None:
        """Break both directions."""
        self._broken.set()
        await trio.aclose_forcefully(self._inner)


class MemoryNetwork:
    """One node of the simulation.

    Attributes:
        peer_id: base58 text.
        address: multiaddr without the peer id.
        health: change it to let the node die or hang.
        requests: streams that others opened to it.
    """

    def __init__(self, hub: "MemoryHub", key: SigningKey, address: str) -> None:
        self._hub = hub
        self.address = address
        self._handlers: dict[str, Handler] = {}
        self._connected: set[str] = set()
        self._watchers: list[Callable[[str, bool], None]] = []
        self.key = key
        self.peer_id = peer_id_from_public_key(key.public)
        self.health = Health.ALIVE
        self.requests = 0

    def addresses(self) -> list[str]:
        """Return the one address of this node."""
        return [f"{self.address}/p2p/{self.peer_id}"]

    def set_handler(self, protocol_id: str, handler: Handler) -> None:
        """Serve a protocol."""
        self._handlers[protocol_id] = handler

    def remove_handler(self, protocol_id: str) -> None:
        """Stop serving a protocol."""
        self._handlers.pop(protocol_id, None)

    def is_connected(self, peer_id: str) -> bool:
        """Whether a connection is open; a dead node has none."""
        return peer_id in self._connected and self._hub.nodes[peer_id].health is not Health.DEAD

    def watch_connections(self, watcher: Callable[[str, bool], None]) -> Callable[[], None]:
        """Call the watcher with peers that come and go."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def drop_connections(self) -> None:
        """Close every connection, as a restart does."""
        for peer_id in list(self._connected):
            peer = self._hub.nodes[peer_id]
            self._forget(peer_id)
            peer._forget(self.peer_id)

    def _forget(self, peer_id: str) -> None:
        self._connected.discard(peer_id)
        for watcher in list(self._watchers):
            watcher(peer_id, False)

    async def connect(self, peer_id: str, addresses: Sequence[str] = (), *, timeout_s: float = 5.0) -> None:
        """Connect if an address leads to the peer."""
        await trio.sleep(self._hub.delay_s)
        if self.is_connected(peer_id):
            return
        if self.health is not Health.ALIVE:
            raise DialError(peer_id, dict.fromkeys(addresses, "we are not there ourselves"))
        found = [self._hub.by_address.get(split_peer_id(address)[0]) for address in addresses]
        peer = next((node for node in found if node is not None and node.peer_id == peer_id), None)
        if peer is None or peer.health is Health.DEAD:
            raise DialError(peer_id, dict.fromkeys(addresses, "refused"))
        if peer.health is Health.HUNG:
            await trio.sleep(timeout_s)
            raise DialError(peer_id, dict.fromkeys(addresses, "no answer in time"))
        self._connected.add(peer_id)
        peer._connected.add(self.peer_id)

    async def open_stream(self, peer_id: str, protocol_id: str, *, timeout_s: float = 5.0) -> PeerStream:
        """Open a stream to a connected peer."""
        await trio.sleep(self._hub.delay_s)
        if not self.is_connected(peer_id) or self.health is not Health.ALIVE:
            raise StreamOpenError(peer_id, protocol_id, "not connected")
        peer = self._hub.nodes[peer_id]
        if peer.health is Health.HUNG:
            await trio.sleep(timeout_s)
            raise StreamOpenError(peer_id, protocol_id, "no answer in time")
        if protocol_id not in peer._handlers:
            raise ProtocolNotSupportedError(peer_id, protocol_id)
        ours, theirs = memory_stream_pair()
        broken = trio.Event()
        peer.requests += 1
        self._hub.serve(peer._handlers[protocol_id], MemoryStream(theirs, self.peer_id, protocol_id, broken))
        return MemoryStream(ours, peer_id, protocol_id, broken)


class MemoryHub:
    """The nodes of one simulation. Made by ``open_hub``.

    Args:
        nursery: runs the handlers.
        delay_s: how long a dial and a stream take to open, in seconds.
    """

    def __init__(self, nursery: trio.Nursery, delay_s: float) -> None:
        self._nursery = nursery
        self.delay_s = delay_s
        self.nodes: dict[str, MemoryNetwork] = {}
        self.by_address: dict[str, MemoryNetwork] = {}

    def add_node(self, seed: bytes | None = None) -> MemoryNetwork:
        """Create a node.

        Args:
            seed: 32 bytes of its key; by default its number, so that runs are alike.
        """
        number = len(self.nodes) + 1
        key = SigningKey.from_seed(seed or number.to_bytes(32, "big"))
        address = f"/ip4/127.0.{number >> 8}.{number & 255}/tcp/4001"
        node = MemoryNetwork(self, key, address)
        self.nodes[node.peer_id] = self.by_address[address] = node
        return node

    def move(self, node: MemoryNetwork, address: str) -> None:
        """Give a node another address; connections stay.

        Args:
            node: of this simulation.
            address: multiaddr without a peer id.
        """
        del self.by_address[node.address]
        node.address = address
        self.by_address[address] = node

    def serve(self, handler: Handler, stream: MemoryStream) -> None:
        """Run a handler as ``Network`` does: the stream is closed when it returns.

        Args:
            handler: of the node that was asked.
            stream: its end of the stream.
        """

        async def run() -> None:
            await handler(stream)
            await stream.aclose()

        self._nursery.start_soon(run)


@asynccontextmanager
async def open_hub(delay_s: float = 0.01) -> AsyncIterator[MemoryHub]:
    """Run a simulation for the length of the block.

    Args:
        delay_s: how long a dial and a stream take to open, in seconds.
    """
    async with trio.open_nursery() as nursery:
        yield MemoryHub(nursery, delay_s)
        nursery.cancel_scope.cancel()
