"""The chunk service and the chunk client together, over memory streams."""

import hashlib
import random
from collections.abc import Iterator

import pytest
import trio
from chunk_service_rig import Person, Rig

from sovereign_crypto.chunks import padme
from sovereign_node.chunkstore import MemoryChunkStore

CONTRACT = b"\x01" * 32
LOCATOR = b"\x03" * 32


def chunk(seed: int, plain_bytes: int = 5_000) -> tuple[bytes, bytes]:
    data = random.Random(seed).randbytes(padme(plain_bytes) + 88)
    return hashlib.sha256(data).digest(), data


@pytest.fixture
def rig() -> Iterator[Rig]:
    store = MemoryChunkStore()
    yield Rig(store)
    store.close()


@pytest.fixture
def alice() -> Person:
    return Person(1)


async def test_put_have_get(rig: Rig, alice: Person) -> None:
    device = alice.add_device()
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed) for seed in range(50))
    async with rig.connect(device) as client:
        async with trio.open_nursery() as nursery:
            for key, data in items.items():
                nursery.start_soon(client.put, CONTRACT, key, data)
        assert await client.have(CONTRACT, [*items, b"\xff" * 32]) == [True] * 50 + [False]
        download = client.get(CONTRACT, [*items, b"\xff" * 32])
        assert {key: data async for key, data in download} == items
        assert download.missing == [b"\xff" * 32]
        assert await client.list_ids(CONTRACT) == sorted(items)
        usage = await client.usage(CONTRACT)
        assert (usage.chunks, usage.size_bytes) == (50, sum(map(len, items.values())))
        assert usage.sent_bytes == usage.received_bytes == usage.size_bytes
        await client.ping()
    assert rig.store.get(CONTRACT, next(iter(items))) == next(iter(items.values()))
