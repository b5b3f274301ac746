"""The DHT on simulated networks: all times are simulated, so nothing here waits."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from sovereign_devnet.memory_network import Health, MemoryHub, MemoryNetwork, open_hub
from sovereign_node.net.kademlia import Kademlia, KademliaSettings
from sovereign_protocols.kad.errors import InvalidRecordError

START = 1_800_000_000


class NumberValidator:
    """Values are ``<sequence>|<key>|<expires_at>``; enough to play every rule without signatures."""

    def validate(self, key: bytes, value: bytes, now: int) -> None:
        parts = value.split(b"|")
        if len(parts) != 3 or parts[1].hex() != key.hex():
            raise InvalidRecordError("key")
        if int(parts[2]) <= now:
            raise InvalidRecordError("expired")

    def select(self, key: bytes, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index].split(b"|")[0]))


def key_of(name: str) -> bytes:
    # No "|" may occur inside a key of the toy format.
    return hashlib.sha256(name.encode()).digest().replace(b"|", b"!")


def value_of(key: bytes, sequence: int, expires_at: int = START + 86400) -> bytes:
    return b"%d|%s|%d" % (sequence, key, expires_at)


def wall() -> int:
    return START + int(trio.current_time() - _origin[0])


_origin = [0.0]


class Net:
    def __init__(self, hub: MemoryHub, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.nursery = nursery
        self.nodes: list[tuple[MemoryNetwork, Kademlia]] = []

    async def add(self, settings: KademliaSettings | None = None, *, server: bool = True) -> Kademlia:
        network = self.hub.add_node()
        kademlia = Kademlia(
            network,
            validator=NumberValidator(),
            server=server,
            clock=wall,
            settings=settings,
            random_bytes=lambda count: hashlib.shake_128(network.peer_id.encode()).digest(count),
        )
        await self.nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        if self.nodes:
            await kademlia.bootstrap(self.nodes[0][0].addresses())
        self.nodes.append((network, kademlia))
        return kademlia

    async def grow(self, count: int, settings: KademliaSettings | None = None) -> None:
        for _ in range(count):
            await self.add(settings)

    def spoil(self, health: Health, share: float, spare: int = 1) -> None:
        """Let every n-th node fail, but not the first ``spare``."""
        doomed = self.nodes[spare:]
        for index in range(int(len(self.nodes) * share)):
            doomed[(index * 7) % len(doomed)][0].health = health

    def living(self) -> list[Kademlia]:
        return [kademlia for network, kademlia in self.nodes if network.health is Health.ALIVE]


@asynccontextmanager
async def simulation() -> AsyncIterator[Net]:
    _origin[0] = trio.current_time()
    async with open_hub() as hub, trio.open_nursery() as nursery:
        yield Net(hub, nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("count", [2, 16, 32])
async def test_every_node_finds_what_one_stored(autojump_clock, count):
    key = key_of("x")
    async with simulation() as net:
        await net.grow(count)
        assert await net.nodes[0][1].put(key, value_of(key, 1)) == min(20, count - 1)
        for _, kademlia in net.nodes:
            assert await kademlia.get(key) == value_of(key, 1)


async def test_every_node_finds_all_providers_once(autojump_clock):
    key = key_of("offers")
    async with simulation() as net:
        await net.grow(24)
        providers = net.nodes[3:6]
        for _, kademlia in providers:
            assert await kademlia.provide(key) >= 20
        for network, kademlia in net.nodes:
            found = await kademlia.find_providers(key)
            expected = {other.peer_id for other, _ in providers} - {network.peer_id}
            assert {peer.peer_id for peer in found} == expected
            assert len(found) == len(expected)
            assert all(list(peer.addresses) == net.hub.nodes[peer.peer_id].addresses() for peer in found)


@pytest.mark.parametrize("health", [Health.DEAD, Health.HUNG])
@pytest.mark.parametrize("count", [16, 32])
async def test_survives_when_a_third_fails(autojump_clock, health, count):
    async with simulation() as net:
        await net.grow(count)
        keys = [key_of(f"k{index}") for index in range(6)]
        for index, key in enumerate(keys):
            kademlia = net.nodes[index][1]
            await kademlia.put(key, value_of(key, 1))
            await kademlia.provide(key)
        net.spoil(health, 0.3, spare=len(keys))
        durations = []
        for kademlia in net.living():
            for key in keys:
                started = trio.current_time()
                assert await kademlia.get(key) == value_of(key, 1)
                middle = trio.current_time()
                await kademlia.find_providers(key)
                durations += [middle - started, trio.current_time() - middle]
        assert max(durations) <= 2.0
