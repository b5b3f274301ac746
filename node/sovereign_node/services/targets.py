"""Where a vault writes: a provider under contract, or this device's own store while no provider is reachable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_node.chunkstore import ChunkStore, ChunkStoreError, PutOutcome, StoreFullError
from sovereign_node.chunkstore import HeadConflictError as StoredHeadConflictError
from sovereign_node.clock import Clock
from sovereign_node.services.lasting_session import LastingSession
from sovereign_node.services.money.metering import NoTally, TransferTally
from sovereign_node.vault.errors import HeadConflictError, TargetError
from sovereign_node.vault.target import Sealed, Unpack
from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client import ChunkClient
from sovereign_protocols.chunk.deletion import sign_deletion
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, ProtocolError, RemoteError
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.head import NO_PREVIOUS, parse_head

Result = TypeVar("Result")


class RemoteTarget:
    """One provider under one contract.

    Args:
        name: for people.
        session: with the provider; calls are repeated when its connection was lost.
        contract_id: 32 bytes.
        key: of this device; signs deletions.
        network_id: 32 bytes.
        clock: wall time.
        tally: counts what is moved from this device's view, and pays when the provider asks for it.
    """

    def __init__(
        self,
        name: str,
        session: LastingSession,
        contract_id: bytes,
        key: SigningKey,
        network_id: bytes,
        clock: Clock,
        tally: TransferTally | None = None,
    ) -> None:
        self._tally: TransferTally = tally or NoTally()
        self.name = name
        self.contract_id = contract_id
        self._session = session
        self._key = key
        self._network_id = network_id
        self._clock = clock

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        """See ChunkTarget."""
        try:
            return await self._session.call(lambda client: client.have(self.contract_id, ids))
        except ProtocolError as error:
            raise self._error(error) from error

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        """See ChunkTarget."""
        try:
            await self._put(chunk_id, sealed)
        except RemoteError as error:
            if error.code != ErrorCode.CREDIT or not await self._tally.pay(self.contract_id):
                raise self._error(error) from error
            await self._put_again(chunk_id, sealed)
        except ProtocolError as error:
            raise self._error(error) from error

    async def _put(self, chunk_id: bytes, sealed: Sealed) -> None:
        async def put(client: ChunkClient) -> None:
            # Counted each time: what was on its way when a connection was lost may have arrived.
            await self._tally.sending(self.contract_id, len(sealed))
            await client.put(self.contract_id, chunk_id, sealed)

        await self._session.call(put)

    async def _put_again(self, chunk_id: bytes, sealed: Sealed) -> None:
        try:
            await self._put(chunk_id, sealed)
        except ProtocolError as error:
            raise self._error(error) from error

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """See ChunkTarget."""
        left = dict.fromkeys(ids)
        try:
            while True:
                with self._session.use() as client:
                    try:
                        async for chunk_id, sealed in client.get(self.contract_id, list(left)):
                            left.pop(chunk_id, None)
                            await self._tally.received(self.contract_id, len(sealed))
                            yield chunk_id, sealed
                        return
                    except ConnectionLostError as error:
                        lost = error
                await self._session.renew(client, lost)
                await self._count_unseen(len(left))
        except ProtocolError as error:
            raise self._error(error) from error
        finally:
            await self._count_unseen(len(left))

    async def fetch(self, chunk_id: bytes, unpack: Unpack[Result]) -> Result | None:
        """See ChunkTarget."""
        try:
            return await self._session.call(lambda client: self._fetch(client, chunk_id, unpack))
        except ProtocolError as error:
            raise self._error(error) from error

    async def _fetch(self, client: ChunkClient, chunk_id: bytes, unpack: Unpack[Result]) -> Result | None:
        download = client.get_unpacked(
            self.contract_id, [chunk_id], lambda _, sealed: (len(sealed), unpack(sealed, True))
        )
        unseen = 1
        try:
            async with aclosing(download):
                found = [item async for _, item in download]
            unseen = 0 if found or download.missing else 1
        finally:
            await self._count_unseen(unseen)
        if not found:
            return None
        ((size_bytes, result),) = found
        await self._tally.received(self.contract_id, size_bytes)
        return result

    async def _count_unseen(self, chunks: int) -> None:
        """Count what the provider sent and this device never saw: at most what one stream may hold."""
        if chunks:
            await self._tally.received(
                self.contract_id, min(chunks * limits.MAX_CHUNK_BYTES, limits.MAX_WINDOW_BYTES)
            )

    async def delete(self, ids: Sequence[bytes]) -> None:
        """See ChunkTarget."""
        try:
            for start in range(0, len(ids), limits.MAX_IDS):
                part = ids[start : start + limits.MAX_IDS]
                statement = sign_deletion(
                    self._key, self.contract_id, part, signed_at=self._clock(), network_id=self._network_id
                )
                marked = await self._session.call(
                    lambda client, signed=statement: client.delete(self.contract_id, signed)  # type: ignore[misc]
                )
                await self._tally.deleted(self.contract_id, marked)
        except ProtocolError as error:
            raise self._error(error) from error

    async def undelete(self, ids: Sequence[bytes]) -> int:
        """See ChunkTarget."""
        try:
            return await self._session.call(lambda client: client.undelete(self.contract_id, ids))
        except ProtocolError as error:
            raise self._error(error) from error

    async def marked_bytes(self) -> int:
        """Return how many bytes the provider keeps for their grace period only.

        Raises:
            TargetError: the provider failed.
        """
        try:
            return (await self._session.call(lambda client: client.usage(self.contract_id))).marked_bytes
        except ProtocolError as error:
            raise self._error(error) from error

    async def heads(self, locator: bytes) -> list[bytes]:
        """See ChunkTarget."""
        try:
            found = await self._session.call(lambda client: client.head_get(self.contract_id, locator))
            return [head for _, head in found]
        except ProtocolError as error:
            raise self._error(error) from error

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        """See ChunkTarget."""
        previous = None if previous_hash == NO_PREVIOUS else previous_hash
        try:
            await self._session.call(lambda client: client.head_set(self.contract_id, locator, head, previous))
        except RemoteError as error:
            if error.code == ErrorCode.CONFLICT and error.data.get("current") == parse_head(head).hash:
                # It had arrived before the connection was lost, and only the answer had not.
                return
            if error.code == ErrorCode.CONFLICT:
                raise HeadConflictError(self.name) from error
            raise self._error(error) from error
        except ProtocolError as error:
            raise self._error(error) from error

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        """See ChunkTarget."""
        try:
            found = await self._session.call(lambda client: client.list_ids(self.contract_id, after=after or None))
        except ProtocolError as error:
            raise self._error(error) from error
        return found[:limit]

    def _error(self, error: ProtocolError) -> TargetError:
        if isinstance(error, ConnectionLostError):
            return TargetError(self.name, "the connection was lost")
        if isinstance(error, RemoteError):
            words = _WORDS.get(error.code, f"refused: {error.code.value}")
            return TargetError(self.name, words, full=error.code in _NO_ROOM)
        return TargetError(self.name, f"broke the protocol: {error}")


_NO_ROOM = (ErrorCode.QUOTA, ErrorCode.FULL, ErrorCode.CREDIT)
_WORDS = {
    ErrorCode.QUOTA: "the contract's capacity is used up",
    ErrorCode.CREDIT: "a payment is due: see `sovereign wallet` and `sovereign bill`",
    ErrorCode.FULL: "its disk is full",
    ErrorCode.DENIED: "the contract does not allow this now",
    ErrorCode.STORAGE: "its disk failed",
    ErrorCode.BUSY: "it is busy",
}


class LocalTarget:
    """This device's own chunk store, one namespace per project.

    Args:
        name: for people.
        store: the chunk store.
        namespace: 32 bytes, in the place of a contract id.
        quota_bytes: what may wait here.
    """

    def __init__(self, name: str, store: ChunkStore, namespace: bytes, quota_bytes: int) -> None:
        self.name = name
        self._store = store
        self._namespace = namespace
        store.set_quota(namespace, quota_bytes)

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        """See ChunkTarget."""
        return await self._run(lambda: self._store.has(self._namespace, ids))

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        """See ChunkTarget."""
        outcomes = await self._run(lambda: self._store.put_many(self._namespace, [(chunk_id, sealed)]))
        if outcomes[0] is PutOutcome.OVER_QUOTA:
            raise TargetError(self.name, "the space for waiting backups is used up", full=True)

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """See ChunkTarget."""
        for chunk_id in ids:
            sealed = await self._run(lambda wanted=chunk_id: self._store.get(self._namespace, wanted))  # type: ignore[misc]
            if sealed is not None:
                yield chunk_id, sealed

    async def fetch(self, chunk_id: bytes, unpack: Unpack[Result]) -> Result | None:
        """See ChunkTarget."""

        def read() -> tuple[Result] | None:
            sealed = self._store.get(self._namespace, chunk_id)
            return None if sealed is None else (unpack(Payload([sealed]), False),)

        found = await self._run(read)
        return found[0] if found else None

    async def delete(self, ids: Sequence[bytes]) -> None:
        """See ChunkTarget. Own copies need no grace period."""

        def drop() -> None:
            self._store.mark_deleted(self._namespace, ids, 0)
            self._store.purge(1)

        await self._run(drop)

    async def undelete(self, ids: Sequence[bytes]) -> int:
        """See ChunkTarget."""
        return await self._run(lambda: self._store.undelete(self._namespace, ids))

    async def heads(self, locator: bytes) -> list[bytes]:
        """See ChunkTarget."""
        found = await self._run(lambda: self._store.heads(self._namespace, locator))
        return [head for _, head in found]

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        """See ChunkTarget."""
        previous = None if previous_hash == NO_PREVIOUS else previous_hash
        device = parse_head(head).device
        try:
            await self._run(lambda: self._store.set_head(self._namespace, locator, device, head, previous))
        except StoredHeadConflictError as error:
            raise HeadConflictError(self.name) from error

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        """See ChunkTarget."""

        def take() -> list[bytes]:
            found: list[bytes] = []
            for chunk_id in self._store.iter_ids(self._namespace, after=after):
                if len(found) >= limit:
                    break
                found.append(chunk_id)
            return found

        return await self._run(take)

    async def _run(self, function: Callable[[], Result]) -> Result:
        try:
            return await trio.to_thread.run_sync(function)
        except StoredHeadConflictError:
            raise
        except ChunkStoreError as error:
            raise TargetError(self.name, str(error), full=isinstance(error, StoreFullError)) from error
