"""The chunk service and the chunk client together, over memory streams."""

import hashlib

import pytest
import trio
import trio.testing
from chunk_service_rig import Person, Rig
from chunk_service_world import CONTRACT, LOCATOR, chunk, refused

from sovereign_node.chunkstore import StorageError, StoreFullError
from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client import ChunkClient
from sovereign_protocols.errors import ErrorCode, RemoteError


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


async def test_many_large_chunks_within_the_windows(rig: Rig, alice: Person) -> None:
    device = alice.add_device()
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 3_000_000 + seed * 50_000) for seed in range(12))
    held: list[int] = []
    wait_for_room = rig.service.admission.wait_for_room

    async def note_held(session: object, held_bytes: int) -> bool:
        held.append(held_bytes)
        return await wait_for_room(session, held_bytes)

    rig.service.admission.wait_for_room = note_held  # type: ignore[method-assign]
    async with rig.connect(device, window_bytes=5_000_000) as client:
        async with trio.open_nursery() as nursery:
            for key, data in items.items():
                nursery.start_soon(client.put, CONTRACT, key, data)
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items
    assert 4_000_000 < max(held) <= limits.DEFAULT_WINDOW_BYTES


async def test_more_ids_than_a_message_holds(rig: Rig, alice: Person) -> None:
    device = alice.add_device()
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 4_096) for seed in range(2_300))
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, list(items.items()))
    async with rig.connect(device) as client:
        assert await client.have(CONTRACT, list(items)) == [True] * 2_300
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items
        first = await client.list_ids(CONTRACT)
        assert len(first) == 1_000
        assert (await client.list_ids(CONTRACT, after=first[-1]))[0] == sorted(items)[1_000]
        assert await client.undelete(CONTRACT, list(items)) == 0


async def test_two_contracts_on_one_stream(rig: Rig, alice: Person) -> None:
    device = alice.add_device()
    second = b"\x02" * 32
    rig.sign(alice, CONTRACT)
    rig.sign(alice, second)
    async with rig.connect(device) as client, trio.open_nursery() as nursery:
        for seed in range(6):
            nursery.start_soon(client.put, (CONTRACT, second)[seed % 2], *chunk(seed))
    assert [rig.store.usage(contract).chunks for contract in (CONTRACT, second)] == [3, 3]


async def test_concurrent_puts_race_for_the_last_bytes(rig: Rig, alice: Person) -> None:
    size = len(chunk(0)[1])
    rig.sign(alice, CONTRACT, quota_bytes=3 * size + size - 1)
    codes: list[ErrorCode] = []
    device = alice.add_device()
    async with rig.connect(device) as first, rig.connect(device) as second:

        async def put(client: ChunkClient, seed: int) -> None:
            try:
                await client.put(CONTRACT, *chunk(seed))
            except RemoteError as error:
                codes.append(error.code)

        async with trio.open_nursery() as nursery:
            for seed in range(10):
                nursery.start_soon(put, (first, second)[seed % 2], seed)
        usage = await first.usage(CONTRACT)
    assert codes == [ErrorCode.QUOTA] * 7
    assert (usage.chunks, usage.size_bytes) == (3, 3 * size)


async def test_storage_errors_have_codes(rig: Rig, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        await client.usage(CONTRACT)
        for error, code in ((StoreFullError(), ErrorCode.FULL), (StorageError(), ErrorCode.STORAGE)):

            def fail(*_arguments: object, error: Exception = error, **_options: object) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(rig.store, "put_many", fail)
                patch.setattr(rig.store, "set_head", fail)
                with refused(code):
                    await client.put(CONTRACT, *chunk(1))
                with refused(code):
                    await client.head_set(CONTRACT, LOCATOR, b"head", None)
        await client.put(CONTRACT, *chunk(1))


async def test_wrong_id_is_refused_and_the_rest_goes_on(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        for size in (5_000, 3_000_000):
            with refused(ErrorCode.ID_MISMATCH):
                await client.put(CONTRACT, b"\x00" * 32, chunk(1, size)[1])
        await client.put(CONTRACT, *chunk(1))
    assert rig.store.usage(CONTRACT).chunks == 1


async def test_sizes_that_no_chunk_has(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        for size in (0, 4_183, 4_185, 5_000, 4 * 1024**2 + 89):
            with pytest.raises(ValueError, match="Padmé"):
                await client.put(CONTRACT, b"\x00" * 32, bytes(size))


async def test_rot_reaches_the_reader_as_corrupt(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    good, (key, data) = chunk(1), chunk(2)
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, [good, (key, data[:-1] + b"\x00")], verified=True)
    async with rig.connect(alice.add_device()) as client:
        download = client.get(CONTRACT, [key, good[0]])
        assert [item async for item in download] == [good]
        assert download.corrupt == [key]


async def test_heads(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    laptop, phone = alice.add_device(), alice.add_device()
    async with rig.connect(laptop) as client:
        await client.head_set(CONTRACT, LOCATOR, b"one", None)
        with pytest.raises(RemoteError) as caught:
            await client.head_set(CONTRACT, LOCATOR, b"two", None)
        assert caught.value.code is ErrorCode.CONFLICT
        assert caught.value.data == {"current": hashlib.sha256(b"one").digest()}
        await client.head_set(CONTRACT, LOCATOR, b"two", hashlib.sha256(b"one").digest())
        with refused(ErrorCode.CONFLICT):
            await client.head_set(CONTRACT, b"\x09" * 32, b"x", bytes(32))
    async with rig.connect(phone) as client:
        await client.head_set(CONTRACT, LOCATOR, bytes(65_536), None)
        found = dict(await client.head_get(CONTRACT, LOCATOR))
    assert found == {laptop.key.public: b"two", phone.key.public: bytes(65_536)}
