"""The chunk service and the chunk client together, over memory streams."""

import hashlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from chunk_service_rig import NOW, Device, MemoryPeerStream, Person, Rig, stream_pair

from sovereign_crypto.chunks import padme
from sovereign_crypto.identity import Capability, IdentityLog
from sovereign_node.chunkstore import MemoryChunkStore, ScrubReport, StorageError, StoreFullError
from sovereign_node.services import chunk_session
from sovereign_node.services.chunk_admission import Admission, TokenBucket
from sovereign_node.services.provide import ContractState
from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client import ChunkClient, open_chunk_client
from sovereign_protocols.chunk.deletion import sign_deletion
from sovereign_protocols.chunk.messages import (
    Credit,
    Done,
    Failure,
    Get,
    Hello,
    HelloReply,
    LogAccepted,
    LogEntry,
    Message,
    Ping,
    Put,
    UsageGet,
    UsageReply,
    decode_message,
    encode_message,
)
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteError
from sovereign_protocols.framing import FrameDecoder, Payload

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


def refused(code: ErrorCode) -> AbstractContextManager[pytest.ExceptionInfo[RemoteError]]:
    return pytest.raises(RemoteError, check=lambda error: error.code is code)


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


# --- deny by default -----------------------------------------------------------------------------------------


async def test_a_foreign_contract_looks_like_none(rig: Rig, alice: Person) -> None:
    mallory = Person(2)
    thief = mallory.add_device()
    rig.sign(alice, CONTRACT)
    rig.sign(mallory, b"\x02" * 32)
    key, data = chunk(1)
    async with rig.connect(alice.add_device()) as client:
        await client.put(CONTRACT, key, data)
        await client.head_set(CONTRACT, LOCATOR, b"head", None)
    async with rig.connect(thief) as client:
        for contract_id in (CONTRACT, b"\x77" * 32):
            statement = sign_deletion(thief.key, contract_id, [key], signed_at=NOW)
            with refused(ErrorCode.NOT_FOUND):
                await client.have(contract_id, [key])
            with refused(ErrorCode.NOT_FOUND):
                await anext(client.get(contract_id, [key]))
            with refused(ErrorCode.NOT_FOUND):
                await client.put(contract_id, *chunk(2))
            with refused(ErrorCode.NOT_FOUND):
                await client.delete(contract_id, statement)
            with refused(ErrorCode.NOT_FOUND):
                await client.head_get(contract_id, LOCATOR)
            with refused(ErrorCode.NOT_FOUND):
                await client.usage(contract_id)
            with refused(ErrorCode.NOT_FOUND):
                await client.list_ids(contract_id)
            with refused(ErrorCode.NOT_FOUND):
                await client.recovery_set(contract_id, LOCATOR, 1, b"sealed", b"")
        own = client.get(b"\x02" * 32, [key])
        assert [item async for item in own] == []
        assert own.missing == [key]
    assert rig.store.contracts() == [CONTRACT, b"\x02" * 32]


async def test_nothing_is_written_for_strangers(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    stranger = Person(3).add_device()
    with refused(ErrorCode.DENIED):
        async with rig.connect(stranger):
            pass
    assert rig.store.identity_log(stranger.person.identity_id) == []


async def test_without_certificate_only_recovery(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        await client.recovery_set(CONTRACT, LOCATOR, 7, b"sealed", b"announce")
    async with rig.connect(None) as client:
        await client.ping()
        (record,) = await client.recovery_get(LOCATOR)
        assert (record.revision, record.announce_key, record.sealed) == (7, b"announce", b"sealed")
        assert await client.recovery_get(b"\x55" * 32) == []
        with refused(ErrorCode.UNEXPECTED):
            await client.usage(CONTRACT)
    assert rig.announced == [b"announce"]


async def test_strangers_are_slowed_down(rig: Rig) -> None:
    async with rig.connect(None) as client:
        for _ in range(5):
            await client.recovery_get(LOCATOR)
        with refused(ErrorCode.RATE):
            await client.recovery_get(LOCATOR)
        await client.ping()


async def test_recovery_revisions_grow(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        await client.recovery_set(CONTRACT, LOCATOR, 2, b"two", b"")
        with pytest.raises(RemoteError) as caught:
            await client.recovery_set(CONTRACT, LOCATOR, 1, b"one", b"")
        assert (caught.value.code, caught.value.data) == (ErrorCode.CONFLICT, {"revision": 2})
        for number in range(3):
            await client.recovery_set(CONTRACT, bytes([number]) * 32, 1, b"more", b"")
        with refused(ErrorCode.QUOTA):
            await client.recovery_set(CONTRACT, b"\x44" * 32, 1, b"too many", b"")


async def test_contract_states(rig: Rig, alice: Person) -> None:
    device = alice.add_device()
    key, data = chunk(1)
    rig.sign(alice, CONTRACT)
    async with rig.connect(device) as client:
        await client.put(CONTRACT, key, data)
        rig.sign(alice, CONTRACT, state=ContractState.READ_ONLY)
        with refused(ErrorCode.DENIED):
            await client.put(CONTRACT, *chunk(2))
        assert [item async for item in client.get(CONTRACT, [key])] == [(key, data)]
        rig.sign(alice, CONTRACT, state=ContractState.ENDED)
        with refused(ErrorCode.NOT_FOUND):
            await client.have(CONTRACT, [key])


async def test_capabilities_of_the_certificate(rig: Rig, alice: Person) -> None:
    reader, writer = alice.add_device(caps=Capability.READ), alice.add_device(caps=Capability.WRITE)
    rig.sign(alice, CONTRACT)
    async with rig.connect(reader) as client:
        assert await client.have(CONTRACT, [chunk(1)[0]]) == [False]
        with refused(ErrorCode.DENIED):
            await client.put(CONTRACT, *chunk(1))
        with refused(ErrorCode.DENIED):
            await client.head_set(CONTRACT, LOCATOR, b"head", None)
    async with rig.connect(writer) as client:
        await client.put(CONTRACT, *chunk(1))
        with refused(ErrorCode.DENIED):
            await anext(client.get(CONTRACT, [chunk(1)[0]]))


# --- hello ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-301, 301])
async def test_clock_skew_names_both_times(rig: Rig, alice: Person, offset: int) -> None:
    rig.sign(alice, CONTRACT)
    with pytest.raises(RemoteError) as caught:
        async with rig.connect(alice.add_device(), clock_at=NOW + offset):
            pass
    assert caught.value.code is ErrorCode.CLOCK_SKEW
    assert caught.value.data == {"clock_at": NOW, "your_clock_at": NOW + offset}


@pytest.mark.parametrize("offset", [-300, 300])
async def test_small_clock_skew_is_fine(rig: Rig, alice: Person, offset: int) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device(), clock_at=NOW + offset) as client:
        await client.ping()


async def test_certificate_of_another_device(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device, other = alice.add_device(), alice.add_device()
    device.certificate = other.certificate
    with refused(ErrorCode.IDENTITY):
        async with rig.connect(device):
            pass


async def test_certificates_that_do_not_hold(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    old = alice.add_device(not_after=NOW - 301)
    bare = alice.add_device()
    bare.certificate = bare.certificate[:-64]
    noise = alice.add_device()
    noise.certificate = b"not a certificate"
    bent = alice.add_device()
    bent.certificate = bent.certificate[:-1] + bytes([bent.certificate[-1] ^ 1])
    unknown = alice.add_device()
    unknown.person = Person(1)
    unknown.person.log = IdentityLog.verify(alice.log.entries[:3])
    for device in (old, bare, noise, bent, unknown):
        with refused(ErrorCode.IDENTITY):
            async with rig.connect(device):
                pass


async def test_a_revoked_device_is_out_once_the_provider_knows(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    stolen, laptop = alice.add_device(), alice.add_device()
    before = IdentityLog.verify(alice.log.entries)
    async with rig.connect(stolen) as client:
        await client.put(CONTRACT, *chunk(1))
        alice.revoke(stolen)
        await client.put(CONTRACT, *chunk(2))
        async with rig.connect(laptop) as other:
            await other.ping()
        with refused(ErrorCode.IDENTITY):
            await client.put(CONTRACT, *chunk(3))
    stolen.person = Person(1)
    stolen.person.log = before
    with refused(ErrorCode.IDENTITY):
        async with rig.connect(stolen):
            pass
    assert rig.store.usage(CONTRACT).chunks == 2


async def test_a_forked_log_is_refused(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    fork = IdentityLog.verify(alice.log.entries)
    phone = alice.add_device()
    async with rig.connect(phone) as client:
        await client.ping()
    known, alice.log = alice.log, fork
    other = alice.add_device()
    with refused(ErrorCode.ROLLBACK):
        async with rig.connect(other):
            pass
    alice.log = known
    async with rig.connect(device) as client:
        log = await client.identity_log()
        assert len(log) == 3
        assert await client.identity_log(2) == log[2:]
        assert await client.identity_log(3) == []


async def test_another_identitys_log(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    device.person = Person(9)
    with refused(ErrorCode.IDENTITY):
        async with rig.connect(device):
            pass


# --- quota, storage ------------------------------------------------------------------------------------------


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


# --- deletion ------------------------------------------------------------------------------------------------


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


# --- heads ---------------------------------------------------------------------------------------------------


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


# --- streams that end, stall or misbehave --------------------------------------------------------------------


async def test_a_broken_stream_ends_every_call(rig: Rig, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    client_end, server_end = stream_pair(device.peer_id)
    block = trio.Event()

    async def never(*_arguments: object) -> None:
        await block.wait()

    lost: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.service.handle, server_end)
        async with open_chunk_client(client_end, device.credentials, clock_at=NOW) as client:
            monkeypatch.setattr(chunk_session, "_in_thread", never)

            async def expect_loss(name: str, call: Callable[[], Awaitable[object]]) -> None:
                with pytest.raises(ConnectionLostError):
                    await call()
                lost.append(name)

            async with trio.open_nursery() as calls:
                for seed in range(8):
                    calls.start_soon(expect_loss, "put", partial(client.put, CONTRACT, *chunk(seed, 4_000_000)))
                for _ in range(70):
                    calls.start_soon(expect_loss, "usage", partial(client.usage, CONTRACT))
                calls.start_soon(expect_loss, "get", client.get(CONTRACT, [bytes(32)]).__anext__)
                await trio.testing.wait_all_tasks_blocked()
                await server_end.aclose()
            with pytest.raises(ConnectionLostError):
                await client.ping()
        nursery.cancel_scope.cancel()
    assert sorted(set(lost)) == ["get", "put", "usage"]
    assert len(lost) == 79


async def test_cancelled_calls_do_not_leak(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = [chunk(seed, 4_000_000) for seed in range(6)]
    async with rig.connect(alice.add_device()) as client:
        for _ in range(5):
            with trio.move_on_after(0.001):
                async with trio.open_nursery() as nursery:
                    for item in items:
                        nursery.start_soon(client.put, CONTRACT, *item)
                    for _ in range(80):
                        nursery.start_soon(client.usage, CONTRACT)
        async with trio.open_nursery() as nursery:
            for item in items:
                nursery.start_soon(client.put, CONTRACT, *item)
        for _ in range(70):
            await client.ping()
        assert await client.have(CONTRACT, [key for key, _ in items]) == [True] * 6


async def test_a_dropped_download_frees_the_window(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 2_000_000) for seed in range(12))
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, list(items.items()))
    async with rig.connect(alice.add_device(), window_bytes=5_000_000) as client:
        for _ in range(3):
            async for key, data in client.get(CONTRACT, list(items)):
                assert items[key] == data
                break
        download = client.get(CONTRACT, list(items))
        await anext(download)
        download.close()
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items


async def test_chunks_are_unpacked_in_the_thread_that_verified_them(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 300_000) for seed in range(9))
    bad, bad_data = chunk(9, 300_000)
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, [*items.items(), (bad, bad_data[:-1] + b"\x00")], verified=True)
    main, seen = threading.get_ident(), []

    def unpack(key: bytes, payload: Payload) -> int:
        assert threading.get_ident() != main
        seen.append(key)
        if key == list(items)[4]:
            raise LookupError
        assert b"".join(payload.pieces) == items[key]
        return len(payload)

    async with rig.connect(alice.add_device()) as client:
        download = client.get_unpacked(CONTRACT, [bad, *items], unpack)
        found, failed = {}, 0
        while True:
            try:
                key, size = await anext(download)
                found[key] = size
            except LookupError:
                failed += 1
            except StopAsyncIteration:
                break
        assert failed == 1
        assert found == {key: len(data) for key, data in items.items() if key != list(items)[4]}
        assert sorted(seen) == sorted(items)
        assert download.corrupt == [bad]


async def test_leaving_a_download_waits_for_what_is_being_unpacked(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 300_000) for seed in range(12))
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, list(items.items()))
    started, go_on, ended = threading.Event(), threading.Event(), []

    def unpack(key: bytes, _payload: Payload) -> None:
        started.set()
        go_on.wait()
        ended.append(key)

    async with rig.connect(alice.add_device()) as client:
        download = client.get_unpacked(CONTRACT, list(items), unpack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, download)
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()
        assert not ended
        async with trio.open_nursery() as nursery:
            nursery.start_soon(download.aclose)
            nursery.cancel_scope.cancel()
            trio.lowlevel.current_trio_token().run_sync_soon(go_on.set)
        count = len(ended)
        assert 1 <= count <= 2
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items
        assert len(ended) == count


async def test_too_many_streams_of_one_peer(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    async with AsyncExitStack() as stack:
        for _ in range(4):
            client = await stack.enter_async_context(rig.connect(device))
            await client.ping()
        with refused(ErrorCode.BUSY):
            async with rig.connect(device):
                pass
    async with rig.connect(device) as client:
        await client.ping()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, stream: MemoryPeerStream, server_end: MemoryPeerStream) -> None:
        self.stream = stream
        self.server_end = server_end
        self.decoder = FrameDecoder(decode_message, max_payload_bytes=10**7)

    async def send(self, message: Message, payload: bytes = b"") -> None:
        await self.stream.send_all(encode_message(message, len(payload)) + payload)

    async def receive(self) -> Message | None:
        while (frame := self.decoder.next_frame()) is None:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.decoder.receive_data(data)
        return frame[0]


@asynccontextmanager
async def raw_client(rig: Rig, device: Device, *, hello: bool = True) -> AsyncIterator[Raw]:
    client_end, server_end = stream_pair(device.peer_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.service.handle, server_end)
        raw = Raw(client_end, server_end)
        if hello:
            log = device.person.log
            await raw.send(Hello(1, rig.now, 5_000_000, device.certificate, len(log.entries), log.head[1]))
            reply = await raw.receive()
            assert isinstance(reply, HelloReply)
            missing = log.entries[reply.log_length :]
            for position, entry in enumerate(missing):
                await raw.send(LogEntry(len(missing) - position - 1), entry)
            if missing:
                assert isinstance(await raw.receive(), LogAccepted)
        yield raw
        await client_end.aclose()


def misbehaviours() -> dict[str, tuple[list[tuple[Message, bytes]], ErrorCode]]:
    key, data = chunk(1, 4_000_000)
    puts = [(Put(number, CONTRACT, key), data) for number in range(5)]
    return {
        "second hello": ([(Hello(1, NOW, 5_000_000, None, 0, None), b"")], ErrorCode.UNEXPECTED),
        "server's message": ([(Done(1, 0), b"")], ErrorCode.UNEXPECTED),
        "log entry": ([(LogEntry(0), b"x")], ErrorCode.UNEXPECTED),
        "repeated id": ([(Ping(1), b""), (Ping(1), b"")], ErrorCode.REPLAY),
        "falling id": ([(Ping(9), b""), (Ping(3), b"")], ErrorCode.REPLAY),
        "window exceeded": (puts, ErrorCode.TOO_LARGE),
        "too many requests": ([(Ping(number), b"") for number in range(500)], ErrorCode.BUSY),
        "credit for nothing": ([(Credit(1), b"")], ErrorCode.MALFORMED),
        "size that no chunk has": ([(Put(1, CONTRACT, key), bytes(5_000))], ErrorCode.SIZE_CLASS),
        "too small": ([(Put(1, CONTRACT, key), bytes(100))], ErrorCode.SIZE_CLASS),
        "too large": ([(Put(1, CONTRACT, key), bytes(4 * 1024**2 + 89))], ErrorCode.TOO_LARGE),
        "payload where none may be": ([(Ping(1), b"x")], ErrorCode.TOO_LARGE),
    }


@pytest.mark.parametrize("name", list(misbehaviours()))
async def test_a_client_that_breaks_the_rules_is_told_and_left(
    rig: Rig, alice: Person, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sign(alice, CONTRACT)
    sent, code = misbehaviours()[name]
    release = trio.Event()
    in_thread = chunk_session._in_thread

    async def slowly(*arguments: Any) -> Any:
        await release.wait()
        return await in_thread(*arguments)

    with trio.fail_after(5):
        async with raw_client(rig, alice.add_device()) as raw, trio.open_nursery() as nursery:
            monkeypatch.setattr(chunk_session, "_in_thread", slowly)

            async def send() -> None:
                with suppress(trio.BrokenResourceError):
                    await raw.stream.send_all(
                        b"".join(encode_message(message, len(payload)) + payload for message, payload in sent)
                    )

            nursery.start_soon(send)
            last = None
            while (message := await raw.receive()) is not None:
                last = message
            assert last == Failure(None, code, {})
            release.set()
    assert rig.store.contracts() == [] or rig.store.usage(CONTRACT).chunks == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff" * 8, ErrorCode.TOO_LARGE),
        (b"\x00\x01\x00\x01\x00\x00\x00\x00", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x01\xff\xff\xff\xff", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00\xa0", ErrorCode.MALFORMED),
    ],
)
async def test_garbage_instead_of_hello(rig: Rig, alice: Person, data: bytes, code: ErrorCode) -> None:
    async with raw_client(rig, alice.add_device(), hello=False) as raw:
        await raw.stream.send_all(data)
        assert await raw.receive() == Failure(None, code, {})
        assert await raw.receive() is None


async def test_hello_must_come_in_time(rig: Rig, alice: Person, autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with raw_client(rig, alice.add_device(), hello=False) as raw:
        assert await raw.receive() == Failure(None, ErrorCode.TIMEOUT, {})
    assert 9.9 < trio.current_time() - began < 10.1


async def test_slow_loris(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    key, data = chunk(1, 100_000)
    async with raw_client(rig, alice.add_device()) as raw:
        mock_clock.autojump_threshold = 0
        began = trio.current_time()
        frame = encode_message(Put(1, CONTRACT, key), len(data)) + data
        with suppress(trio.BrokenResourceError):
            for position in range(len(frame)):
                await raw.stream.send_all(frame[position : position + 1])
                await trio.sleep(1)
        allowed = 10 + len(frame) / (16 * 1024)
        assert allowed - 1 < trio.current_time() - began < allowed + 3


async def test_an_idle_stream_is_closed_but_not_one_that_waits(
    rig: Rig, alice: Person, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sign(alice, CONTRACT)
    in_thread = chunk_session._in_thread

    async def slowly(*arguments: Any) -> Any:
        mock_clock.jump(1_000)
        await trio.testing.wait_all_tasks_blocked()
        return await in_thread(*arguments)

    async with raw_client(rig, alice.add_device()) as raw:
        monkeypatch.setattr(chunk_session, "_in_thread", slowly)
        await raw.send(UsageGet(1, CONTRACT))
        assert isinstance(await raw.receive(), UsageReply)
        mock_clock.autojump_threshold = 0
        answered = trio.current_time()
        assert await raw.receive() == Failure(None, ErrorCode.TIMEOUT, {})
        assert trio.current_time() - answered < 601


async def test_a_reader_that_stalls_is_reset(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, [chunk(1, 4_000_000)])
    async with raw_client(rig, device) as raw:

        async def stall(_data: object) -> None:
            mock_clock.autojump_threshold = 0
            await trio.sleep_forever()

        raw.server_end.send_all = stall  # type: ignore[method-assign]
        await raw.send(Get(1, CONTRACT, (chunk(1)[0], chunk(1, 4_000_000)[0])))
        assert await raw.receive() is None


async def test_memory_is_shared_among_streams(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    rig.service.admission = Admission(max_held_bytes=1)
    items = [chunk(seed, 4_000_000) for seed in range(8)]
    device = alice.add_device()
    async with rig.connect(device) as first, rig.connect(device) as second, trio.open_nursery() as nursery:
        for position, item in enumerate(items):
            nursery.start_soon((first, second)[position % 2].put, CONTRACT, *item)
    assert rig.store.usage(CONTRACT).chunks == 8


def test_token_bucket() -> None:
    bucket = TokenBucket(2.0, 3.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True] * 3 + [False]
    assert bucket.take(100.5)
    assert not bucket.take(100.5)
    paced = TokenBucket(2.0, 1.0)
    assert [paced.delay_s(100.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert paced.delay_s(200.0) == 0.0


async def test_requests_are_paced(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        mock_clock.autojump_threshold = 0
        began = trio.current_time()
        for _ in range(600):
            await client.ping()
        assert 0.9 < trio.current_time() - began < 1.1
