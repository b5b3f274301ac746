"""A chunk service with its customers over memory streams, for tests of both ends together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.identity import (
    Capability,
    IdentityLog,
    IdentityRoot,
    build_add_device,
    build_genesis,
    build_revoke_device,
    issue_certificate,
)
from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_node.chunkstore import ChunkStore
from sovereign_node.services.provide import ChunkService, ContractGrant, Right
from sovereign_protocols.chunk.client import ChunkClient, Credentials, open_chunk_client

NOW = 1_800_000_000


class Person:
    """An identity with devices."""

    def __init__(self, seed: int) -> None:
        self.root = IdentityRoot(bytes([seed]) * 32)
        self.recovery = SigningKey.generate()
        anchor = self.root.new_anchor(self.recovery.public)
        self.anchor = anchor
        self.log = IdentityLog(
            build_genesis(
                self.root.signing_key,
                anchor,
                recovery_enc_pk=EncryptionKey.generate().public,
                user_pk=EncryptionKey.generate().public,
                at=NOW - 1_000,
            )
        )

    @property
    def identity_id(self) -> bytes:
        return self.log.identity_id

    def add_device(
        self,
        *,
        key: SigningKey | None = None,
        caps: Capability = Capability.READ | Capability.WRITE,
        not_after: int = NOW + 10_000,
    ) -> "Device":
        key = key or SigningKey.generate()
        certificate = issue_certificate(
            self.root.signing_key,
            self.anchor,
            key,
            device_enc_pk=EncryptionKey.generate().public,
            caps=caps,
            not_before=NOW - 1_000,
            not_after=not_after,
            serial=self.log.next_serial,
        )
        self.log.append(build_add_device(self.root.signing_key, self.log.next_position, certificate, at=NOW - 900))
        return Device(self, key, certificate)

    def revoke(self, device: "Device") -> None:
        self.log.append(
            build_revoke_device(
                self.root.signing_key, self.log.next_position, device.key.public, last_accepted=0, at=NOW
            )
        )


@dataclass
class Device:
    person: Person
    key: SigningKey
    certificate: bytes

    @property
    def peer_id(self) -> str:
        return peer_id_from_public_key(self.key.public)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.certificate, self.person.log.entries)


@dataclass
class Contracts:
    """An authorizer over a dictionary: contract id -> (identity id, grant)."""

    grants: dict[bytes, tuple[bytes, ContractGrant]] = field(default_factory=dict)

    def authorize(
        self, identity_id: bytes, device_pk: bytes, contract_id: bytes, right: Right
    ) -> ContractGrant | None:
        owner, grant = self.grants.get(contract_id, (b"", None))
        return grant if owner == identity_id else None

    def is_customer(self, identity_id: bytes) -> bool:
        return any(owner == identity_id for owner, _ in self.grants.values())


class MemoryPeerStream(trio.abc.HalfCloseableStream):
    """A memory stream that knows its peer, as streams of the network do."""

    protocol_id = "/sovereign/chunk/1.0.0"

    def __init__(self, stream: trio.StapledStream, peer_id: str) -> None:
        self._stream = stream
        self.peer_id = peer_id
        self.sent_pieces: list[int] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent_pieces.append(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def reset(self) -> None:
        await self._stream.aclose()


def stream_pair(peer_id: str) -> tuple[MemoryPeerStream, MemoryPeerStream]:
    """Return (client's end, server's end)."""
    ours, theirs = trio.testing.memory_stream_pair()
    return MemoryPeerStream(ours, ""), MemoryPeerStream(theirs, peer_id)


class Rig:
    """One provider."""

    def __init__(self, store: ChunkStore) -> None:
        self.store = store
        self.now = NOW
        self.contracts = Contracts()
        self.announced: list[bytes] = []
        self.service = ChunkService(
            store, self.contracts, clock=lambda: self.now, on_recovery_set=self.announced.append
        )

    def sign(self, person: Person, contract_id: bytes, quota_bytes: int = 10**9, **grant: object) -> None:
        self.contracts.grants[contract_id] = (person.identity_id, ContractGrant(quota_bytes, **grant))  # type: ignore[arg-type]

    @asynccontextmanager
    async def connect(self, device: Device | None, **options: int) -> AsyncIterator[ChunkClient]:
        peer_id = device.peer_id if device else peer_id_from_public_key(SigningKey.generate().public)
        client_end, server_end = stream_pair(peer_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.service.handle, server_end)
            credentials = device.credentials if device else None
            failure = None
            try:
                async with open_chunk_client(client_end, credentials, **{"clock_at": self.now} | options) as client:
                    yield client
            except Exception as error:  # noqa: BLE001 - raised again outside of the nursery
                failure = error
        if failure is not None:
            raise failure
