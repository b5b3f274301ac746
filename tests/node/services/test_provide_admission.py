"""Who may use the chunk service, and what everybody else is told."""

import pytest
from chunk_service_rig import NOW, Person, Rig
from chunk_service_world import CONTRACT, LOCATOR, chunk, refused

from sovereign_crypto.identity import Capability, IdentityLog
from sovereign_node.services.provide import ContractState
from sovereign_protocols.chunk.deletion import sign_deletion
from sovereign_protocols.errors import ErrorCode, RemoteError


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
