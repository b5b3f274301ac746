"""Places of the identity record: providers under contract, and this device's own store if it is always on."""

from __future__ import annotations

from collections.abc import Callable

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.recovery import recovery_rendezvous
from sovereign_node.chunkstore import ChunkStore, ChunkStoreError, RecoveryConflictError, RecoveryRecord
from sovereign_node.errors import NodeError
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.recovery import NEWER_RECORD, RecordPlace, StoredRecord
from sovereign_node.services.sessions import ChunkSessions
from sovereign_node.store.contracts import Contract
from sovereign_protocols.errors import ErrorCode, RemoteError

# The namespace of this device's own records; no contract hashes to zero.
OWN_NAMESPACE = bytes(32)
OWN_QUOTA_BYTES = 64 * 1024 * 1024


class ProviderPlace:
    """A provider under contract.

    Args:
        peer_id: of the provider.
        contract_id: 32 bytes.
        sessions: opens conversations.
    """

    def __init__(self, peer_id: str, contract_id: bytes, sessions: ChunkSessions) -> None:
        self.name = f"{peer_id}/{contract_id.hex()[:8]}"
        self._peer_id = peer_id
        self._contract_id = contract_id
        self._sessions = sessions

    async def get(self, locator: bytes) -> list[StoredRecord]:
        """See RecordPlace."""
        async with self._sessions.open(self._peer_id) as client:
            records = await client.recovery_get(locator)
        return [StoredRecord(record.revision, record.sealed) for record in records]

    async def set(self, locator: bytes, revision: int, sealed: bytes) -> None:
        """See RecordPlace."""
        async with self._sessions.open(self._peer_id) as client:
            try:
                await client.recovery_set(
                    self._contract_id, locator, revision, sealed, recovery_rendezvous(locator)
                )
            except RemoteError as error:
                if error.code == ErrorCode.CONFLICT:
                    raise _newer(self.name) from error
                raise


class OwnPlace:
    """This device's own store; the DHT learns that it has the record.

    Args:
        store: the chunk store.
        announce: told the DHT key under which the record is to be found.
    """

    name = "this device"

    def __init__(self, store: ChunkStore, announce: Callable[[bytes], None]) -> None:
        self._store = store
        self._announce = announce

    async def get(self, locator: bytes) -> list[StoredRecord]:
        """See RecordPlace."""
        try:
            records = await trio.to_thread.run_sync(self._store.recovery, locator)
        except ChunkStoreError as error:
            raise NodeError("storage_error", str(error)) from error
        return [StoredRecord(record.revision, record.sealed) for record in records]

    async def set(self, locator: bytes, revision: int, sealed: bytes) -> None:
        """See RecordPlace."""
        key = recovery_rendezvous(locator)
        record = RecoveryRecord(OWN_NAMESPACE, locator, revision, key, sealed)

        def write() -> None:
            self._store.set_quota(OWN_NAMESPACE, OWN_QUOTA_BYTES)
            self._store.set_recovery(record)

        try:
            await trio.to_thread.run_sync(write)
        except RecoveryConflictError as error:
            raise _newer(self.name) from error
        except ChunkStoreError as error:
            raise NodeError("storage_error", str(error)) from error
        self._announce(key)


def provider_place(contract: Contract, sessions: ChunkSessions) -> ProviderPlace:
    """Return the provider of a contract as a place."""
    return ProviderPlace(peer_id_from_public_key(contract.provider_device), contract.contract_id, sessions)


def record_places(contracts: Contracts, sessions: ChunkSessions, own: OwnPlace | None) -> list[RecordPlace]:
    """Return every place that ought to hold the record now."""
    places: list[RecordPlace] = [provider_place(item, sessions) for item in contracts.live_as_customer()]
    return [*places, own] if own is not None else places


def _newer(name: str) -> NodeError:
    return NodeError(NEWER_RECORD, f"{name} holds a newer identity record", "it is read again soon")
