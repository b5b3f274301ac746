"""Deletions at the chunk service: whose, when, and once."""

from functools import partial

import pytest
import trio
import trio.testing
from chunk_service_rig import NOW, Person, Rig
from chunk_service_world import CONTRACT, chunk, refused

from sovereign_node.chunkstore import ScrubReport
from sovereign_protocols.chunk.deletion import sign_deletion
from sovereign_protocols.errors import ErrorCode, RemoteError


async def test_a_stolen_device_cannot_destroy(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT, grace_s=1_000)
    device = alice.add_device()
    key, data = chunk(1)
    async with rig.connect(device) as client:
        await client.put(CONTRACT, key, data)
        for delete_after_at in (1, NOW, NOW + 999):
            hasty = sign_deletion(device.key, CONTRACT, [key], signed_at=NOW, delete_after_at=delete_after_at)
            with pytest.raises(RemoteError) as caught:
                await client.delete(CONTRACT, hasty)
            assert (caught.value.code, caught.value.data) == (ErrorCode.GRACE, {"earliest": NOW + 1_000})
        assert await client.delete(CONTRACT, sign_deletion(device.key, CONTRACT, [key], signed_at=NOW)) == 1
        assert await client.have(CONTRACT, [key]) == [False]
        assert [item async for item in client.get(CONTRACT, [key])] == [(key, data)]
        assert await client.undelete(CONTRACT, [key]) == 1
        assert await client.have(CONTRACT, [key]) == [True]


async def test_a_replayed_deletion_has_no_effect(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    key, data = chunk(1)
    statement = sign_deletion(device.key, CONTRACT, [key], signed_at=NOW)
    async with rig.connect(device) as client:
        await client.put(CONTRACT, key, data)
        assert await client.delete(CONTRACT, statement) == 1
        assert await client.undelete(CONTRACT, [key]) == 1
        assert await client.delete(CONTRACT, statement) == 1
        assert await client.have(CONTRACT, [key]) == [True]
        rig.now += 1_000
        with pytest.raises(RemoteError) as caught:
            await client.delete(CONTRACT, statement)
        assert (caught.value.code, caught.value.data) == (ErrorCode.EXPIRED, {"clock_at": NOW + 1_000})


async def test_the_identity_key_may_shorten_the_grace(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    key, data = chunk(1)
    async with rig.connect(alice.add_device()) as client:
        await client.put(CONTRACT, key, data)
        at_once = sign_deletion(alice.root.signing_key, CONTRACT, [key], signed_at=NOW)
        assert await client.delete(CONTRACT, at_once) == 1
    assert rig.store.purge(NOW).chunks == 1


async def test_deletions_by_others(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    key, data = chunk(1)
    bent = bytearray(sign_deletion(device.key, CONTRACT, [key], signed_at=NOW))
    bent[-1] ^= 1
    async with rig.connect(device) as client:
        await client.put(CONTRACT, key, data)
        for statement, code in (
            (sign_deletion(Person(5).root.signing_key, CONTRACT, [key], signed_at=NOW), ErrorCode.SIGNATURE),
            (sign_deletion(device.key, b"\x02" * 32, [key], signed_at=NOW), ErrorCode.SIGNATURE),
            (bytes(bent), ErrorCode.SIGNATURE),
            (sign_deletion(device.key, CONTRACT, [key], signed_at=NOW, network_id=bytes(32)), ErrorCode.SIGNATURE),
            (sign_deletion(device.key, CONTRACT, [key], signed_at=NOW + 301), ErrorCode.EXPIRED),
            (b"nothing", ErrorCode.MALFORMED),
            (device.certificate, ErrorCode.MALFORMED),
        ):
            with refused(code):
                await client.delete(CONTRACT, statement)
        assert await client.have(CONTRACT, [key]) == [True]


async def test_the_service_purges_and_scrubs(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT, grace_s=50)
    device = alice.add_device()
    rotten_key, rotten = chunk(3)
    async with rig.connect(device) as client:
        await client.put(CONTRACT, *chunk(1))
        await client.put(CONTRACT, *chunk(2))
        await client.delete(CONTRACT, sign_deletion(device.key, CONTRACT, [chunk(1)[0]], signed_at=NOW))
    rig.store.put_many(CONTRACT, [(rotten_key, rotten[:-1])], verified=True)
    rig.now += 50
    scrubbed = trio.Event()
    scrub = rig.store.scrub

    def note(**options: object) -> ScrubReport:
        trio.from_thread.run_sync(scrubbed.set)
        return scrub(**options)  # type: ignore[arg-type]

    rig.store.scrub = note  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(rig.service.run, interval_s=0))
        await scrubbed.wait()
        nursery.cancel_scope.cancel()
    assert list(rig.store.iter_ids(CONTRACT)) == [chunk(2)[0]]
    assert rig.store.quarantined(CONTRACT) == [rotten_key]
