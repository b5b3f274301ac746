"""A DHT of many nodes in one process, on simulated connections and a simulated clock.

Values are ``SEQUENCE|KEY|EXPIRY`` and valid under their own key until they expire: every rule of real records
without their signatures, so that days of a network can be played through in seconds.
"""

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from sovereign_devnet.memory_network import Health, MemoryHub, MemoryNetwork, open_hub
from sovereign_node.net.kad import Kademlia, KademliaSettings
from sovereign_protocols.kad.errors import InvalidRecordError

# The simulation begins at this wall time, seconds since 1970.
START = 1_800_000_000
_DAY_S = 86400


class NumberValidator:
    """Judges the values of the simulation."""

    def validate(self, key: bytes, value: bytes, now: int) -> None:
        """Raise unless the value names the key and has not expired."""
        parts = value.split(b"|")
        if len(parts) != 3 or parts[1] != key:
            raise InvalidRecordError("key")
        if int(parts[2]) <= now:
            raise InvalidRecordError("expired")

    def select(self, key: bytes, values: list[bytes]) -> int:
        """Return the index of the highest sequence number."""
        return max(range(len(values)), key=lambda index: int(values[index].split(b"|")[0]))


def key_of(name: str) -> bytes:
    """Make a key of 32 bytes, none of which is the separator of values.

    Args:
        name: any text.
    """
    return hashlib.sha256(name.encode()).digest().replace(b"|", b"!")


def value_of(key: bytes, sequence: int, expires_at: int = START + _DAY_S) -> bytes:
    """Make a value.

    Args:
        key: 32 bytes.
        sequence: the higher, the better.
        expires_at: seconds since 1970.
    """
    return b"%d|%s|%d" % (sequence, key, expires_at)


class DhtSimulation:
    """Nodes that join one after the other through the first. Made by ``simulate_dht``.

    Args:
        hub: their connections.
        nursery: runs them.

    Attributes:
        nodes: network and DHT of each node, in the order of joining.
    """

    def __init__(self, hub: MemoryHub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.nodes: list[tuple[MemoryNetwork, Kademlia]] = []
        self._nursery = nursery
        self._origin = trio.current_time()

    def wall(self) -> int:
        """Return the simulated wall time, seconds since 1970."""
        return START + int(trio.current_time() - self._origin)

    async def start(
        self, network: MemoryNetwork, settings: KademliaSettings | None = None, *, server: bool = True
    ) -> Kademlia:
        """Run a DHT on a network that has not joined anything.

        Args:
            network: of this simulation.
            settings: of the node.
            server: whether it answers others.
        """
        kademlia = Kademlia(
            network,
            validator=NumberValidator(),
            server=server,
            clock=self.wall,
            settings=settings,
            random_bytes=lambda count: hashlib.shake_128(network.peer_id.encode()).digest(count),
        )
        await self._nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        return kademlia

    async def add(self, settings: KademliaSettings | None = None, *, server: bool = True) -> Kademlia:
        """Let one more node join.

        Args:
            settings: of the node.
            server: whether it answers others.
        """
        network = self.hub.add_node()
        kademlia = await self.start(network, settings, server=server)
        if self.nodes:
            await kademlia.bootstrap(self.nodes[0][0].addresses())
        self.nodes.append((network, kademlia))
        return kademlia

    async def grow(self, count: int, settings: KademliaSettings | None = None) -> None:
        """Let nodes join.

        Args:
            count: how many.
            settings: of each.
        """
        for _ in range(count):
            await self.add(settings)

    def spoil(self, health: Health, share: float, spare: int = 1) -> None:
        """Let some nodes fail.

        Args:
            health: how.
            share: what part of all nodes.
            spare: how many of the first nodes stay as they are.
        """
        # The same choice in every run.
        chosen = random.Random(len(self.nodes)).sample(self.nodes[spare:], int(len(self.nodes) * share))  # noqa: S311
        for network, _ in chosen:
            network.health = health

    def living(self) -> list[Kademlia]:
        """Return the nodes that have not failed."""
        return [kademlia for network, kademlia in self.nodes if network.health is Health.ALIVE]


@asynccontextmanager
async def simulate_dht() -> AsyncIterator[DhtSimulation]:
    """Run a simulation for the length of the block."""
    async with open_hub() as hub, trio.open_nursery() as nursery:
        yield DhtSimulation(hub, nursery)
        nursery.cancel_scope.cancel()
