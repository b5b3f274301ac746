"""A customer with a valid contract who wants more than it gives, against a real provider."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from statistics import median

import pytest
import trio
from hostile_world import MALLORYS_BYTES, HostileWorld

from sovereign_crypto.chunks import padme
from sovereign_devnet.stored_chunks import stored_chunks
from sovereign_node.clock import wall_clock
from sovereign_protocols.chunk.deletion import sign_deletion
from sovereign_protocols.errors import ErrorCode, RemoteError

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SMALL_BYTES = 4184
LARGE_BYTES = padme(2_000_000) + 88


def make_chunk(size: int) -> tuple[bytes, bytes]:
    data = os.urandom(size)
    return hashlib.sha256(data).digest(), data


async def refusal(call) -> ErrorCode:
    with pytest.raises(RemoteError) as caught:
        await call
    return caught.value.code


async def test_a_race_for_the_last_bytes_ends_at_the_quota(world: HostileWorld) -> None:
    thief = world.thief
    async with world.attacker(thief.key) as network, world.chunk_client(network, thief.credentials) as client:
        accepted: list[int] = []
        refused: list[ErrorCode] = []

        async def put(size: int) -> None:
            chunk_id, data = make_chunk(size)
            try:
                await client.put(thief.contract_id, chunk_id, data)
                accepted.append(size)
            except RemoteError as error:
                refused.append(error.code)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(put, LARGE_BYTES)
        assert len(accepted) == MALLORYS_BYTES // LARGE_BYTES
        assert set(refused) == {ErrorCode.QUOTA}
        # Down to the last chunk that fits, and not one byte more.
        room = MALLORYS_BYTES - sum(accepted)
        async with trio.open_nursery() as nursery:
            for _ in range(room // SMALL_BYTES + 5):
                nursery.start_soon(put, SMALL_BYTES)
        usage = await client.usage(thief.contract_id)
        assert usage.size_bytes == sum(accepted)
        assert MALLORYS_BYTES - SMALL_BYTES < usage.size_bytes <= MALLORYS_BYTES

        # Room comes back with a deletion only when its grace is over, so nobody stores beyond it in turns.
        ids = await client.list_ids(thief.contract_id)
        now = wall_clock()
        statement = sign_deletion(thief.key, thief.contract_id, ids, signed_at=now, nonce=os.urandom(16))
        assert await client.delete(thief.contract_id, statement) == len(ids)
        assert await refusal(client.put(thief.contract_id, *make_chunk(SMALL_BYTES))) is ErrorCode.QUOTA
        # The same statement again has no effect, also not after an undelete.
        assert await client.undelete(thief.contract_id, ids) == len(ids)
        assert await client.delete(thief.contract_id, statement) == len(ids)
        assert await client.have(thief.contract_id, ids[:10]) == [True] * 10


async def test_chunks_of_another_contract_do_not_exist(world: HostileWorld) -> None:
    known = [chunk.chunk_id for chunk in stored_chunks(world.provider.data_dir.chunks)]
    thief = world.thief
    async with world.attacker(thief.key) as network, world.chunk_client(network, thief.credentials) as client:
        own = set(await client.list_ids(thief.contract_id))
        foreign = [chunk_id for chunk_id in known if chunk_id not in own][:50]
        assert foreign
        missing = [os.urandom(32) for _ in foreign]
        assert not any(await client.have(thief.contract_id, foreign))
        found = [item async for item in client.get(thief.contract_id, foreign)]
        assert [data for _, data in found if data is not None] == []

        async def time_of(ids: list[bytes]) -> float:
            started = time.perf_counter()
            await client.have(thief.contract_id, ids)
            return time.perf_counter() - started

        # In turns, so that what else the machine does falls on both alike.
        pairs = [(await time_of(foreign), await time_of(missing)) for _ in range(60)]
        ratio = median(a for a, _ in pairs) / median(b for _, b in pairs)
        assert 0.5 < ratio < 2

        for contract_id in (world.laptop_contract, os.urandom(32)):
            assert await refusal(client.have(contract_id, foreign[:1])) is ErrorCode.NOT_FOUND
            assert await refusal(client.put(contract_id, *make_chunk(SMALL_BYTES))) is ErrorCode.NOT_FOUND
            assert await refusal(client.usage(contract_id)) is ErrorCode.NOT_FOUND
            assert await refusal(client.head_get(contract_id, bytes(32))) is ErrorCode.NOT_FOUND
            statement = sign_deletion(
                thief.key, contract_id, foreign[:1], signed_at=wall_clock(), nonce=os.urandom(16)
            )
            assert await refusal(client.delete(contract_id, statement)) is ErrorCode.NOT_FOUND


async def test_a_replay_after_a_restart_loses_nothing(world: HostileWorld, tmp_path: Path) -> None:
    thief = world.thief
    async with world.attacker(thief.key) as network, world.chunk_client(network, thief.credentials) as client:
        if not await client.list_ids(thief.contract_id):
            for chunk_id, data in (make_chunk(SMALL_BYTES) for _ in range(3)):
                await client.put(thief.contract_id, chunk_id, data)
        ids = (await client.list_ids(thief.contract_id))[:3]
        now = wall_clock()
        statement = sign_deletion(thief.key, thief.contract_id, ids, signed_at=now, nonce=os.urandom(16))
        await client.delete(thief.contract_id, statement)
        await client.undelete(thief.contract_id, ids)
        usage = await client.usage(thief.contract_id)
    world.provider.stop()
    world.provider.up()
    async with world.attacker(thief.key) as network, world.chunk_client(network, thief.credentials) as client:
        assert (await client.usage(thief.contract_id)).size_bytes == usage.size_bytes
        await client.delete(thief.contract_id, statement)
        # Marked or not, nothing is gone, and the owner has it back.
        assert await client.undelete(thief.contract_id, ids) in (0, 3)
        assert all(await client.have(thief.contract_id, ids))
