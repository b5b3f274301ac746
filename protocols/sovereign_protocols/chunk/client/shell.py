"""The client that programs use: many tasks share one stream, each awaiting its own answers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client.core import ClientCore
from sovereign_protocols.chunk.client.download.shell import Download
from sovereign_protocols.chunk.client.exchange.shell import Exchange
from sovereign_protocols.chunk.client.records import Credentials, RecoveryRecord, Usage, parts
from sovereign_protocols.chunk.messages import (
    Delete,
    Have,
    HaveReply,
    Head,
    HeadGet,
    HeadSet,
    List,
    ListReply,
    LogGet,
    LogReply,
    Ping,
    Put,
    Recovery,
    RecoveryGet,
    RecoverySet,
    Undelete,
    UsageGet,
    UsageReply,
    is_chunk_size,
)
from sovereign_protocols.chunk.shell import Wire
from sovereign_protocols.framing import Payload

Result = TypeVar("Result")
Sealed = bytes | bytearray | memoryview | Payload


@asynccontextmanager
async def open_chunk_client(
    stream: trio.abc.HalfCloseableStream,
    credentials: Credentials | None,
    *,
    clock_at: int,
    window_bytes: int = limits.DEFAULT_WINDOW_BYTES,
) -> AsyncIterator["ChunkClient"]:
    """Say hello on a stream and serve the block with a client; the stream is closed at its end.

    Args:
        stream: to the server, fresh.
        credentials: of this device; None allows `recovery_get` and `ping` only.
        clock_at: seconds UTC, now.
        window_bytes: chunk bytes that may wait here to be taken out of `get`.

    Raises:
        RemoteError: the server refused the hello; its clock is named in `data` if that was why.
        ConnectionLostError: the stream broke before the answer came.
        RemoteProtocolError: the server broke the protocol.
    """
    core = ClientCore(trio.current_time(), window_bytes=window_bytes)
    client = ChunkClient(Wire(stream, core), core)
    failure: Exception | None = None
    try:
        await client.greet(credentials, clock_at, window_bytes)
        async with trio.open_nursery() as nursery:
            for task in (client.read, client.write, client.verify):
                nursery.start_soon(client.guard, task)
            try:
                yield client
            except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it into a group
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(2) as scope:
            scope.shield = True
            await stream.aclose()
    if failure is not None:
        raise failure


class ChunkClient(Exchange):
    """The calls of the protocol. Any number of tasks may use one client at once.

    Every call raises `RemoteError` if the server refuses, and `ConnectionLostError` if the stream breaks before the
    answer; whether the call took effect is unknown then.
    """

    async def ping(self) -> None:
        """Wait for a sign of life."""
        await self.call(lambda number: Ping(number))

    async def have(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> list[bool]:
        """Tell for each id whether a live chunk is stored under the contract."""
        present: list[bool] = []
        for part in parts(chunk_ids):
            reply = await self.ask(HaveReply, lambda number, part=part: Have(number, contract_id, part))
            present.extend(flag == 1 for flag in reply.present)
        return present

    async def list_ids(self, contract_id: bytes, *, after: bytes | None = None) -> list[bytes]:
        """Return up to 1,000 ids of live chunks in ascending order; fewer than 1,000 are the last."""
        reply = await self.ask(ListReply, lambda number: List(number, contract_id, after))
        return list(reply.chunk_ids)

    async def put(self, contract_id: bytes, chunk_id: bytes, sealed: Sealed) -> None:
        """Store a chunk; when this returns, it survives a power cut at the server.

        Args:
            contract_id: 32 bytes.
            chunk_id: 32 bytes, SHA-256 of `sealed`.
            sealed: 4 KiB to 4 MiB plus envelope; must not change until this returns.

        Raises:
            ValueError: `sealed` does not have the size of a chunk.
        """
        payload = sealed if isinstance(sealed, Payload) else Payload([sealed])
        if not is_chunk_size(len(payload)):
            raise ValueError("a chunk has a Padmé size between 4 KiB and 4 MiB plus envelope")
        await self.exchange(lambda number: Put(number, contract_id, chunk_id), payload, holds_slot=False)

    def get(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> Download[bytes]:
        """Fetch chunks: iterate over the result for (id, sealed bytes), in any order, each id verified.

        Ids that are missing or whose bytes do not match are not yielded, but listed in `missing` and `corrupt` of
        the result. Take chunks steadily: those that wait use up the window of all downloads of this client.
        """
        return Download(self, contract_id, chunk_ids, None)

    def get_unpacked(
        self, contract_id: bytes, chunk_ids: Sequence[bytes], unpack: Callable[[bytes, Payload], Result]
    ) -> Download[Result]:
        """Do what `get` does, with what `unpack` makes of each chunk in the place of its bytes.

        Args:
            contract_id: 32 bytes.
            chunk_ids: 32 bytes each.
            unpack: called with id and sealed bytes in the worker thread that has just verified them, so that
                another way to a thread is saved, and the copy into one piece; for several chunks at once. What it
                raises is raised to whoever iterates. It may still be running when the iteration is left early;
                `aclose` of the result waits for it.
        """
        return Download(self, contract_id, chunk_ids, unpack)

    async def delete(self, contract_id: bytes, statement: bytes) -> int:
        """Mark chunks for removal by a signed statement (`deletion.sign_deletion`); return how many were live."""
        return await self.count(lambda number: Delete(number, contract_id), Payload([statement]))

    async def undelete(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> int:
        """Make marked chunks live again; return how many there were."""
        count = 0
        for part in parts(chunk_ids):
            count += await self.count(lambda number, part=part: Undelete(number, contract_id, part))
        return count

    async def head_get(self, contract_id: bytes, locator: bytes) -> list[tuple[bytes, bytes]]:
        """Return (device public key, head) for every device that has a head under `locator`."""
        answers = await self.call(lambda number: HeadGet(number, contract_id, locator))
        return [(head.device_pk, payload.to_bytes()) for head, payload in answers if isinstance(head, Head)]

    async def head_set(self, contract_id: bytes, locator: bytes, head: bytes, previous_hash: bytes | None) -> None:
        """Replace this device's own head under `locator`.

        Raises:
            RemoteError: with code CONFLICT if the stored head has another hash than `previous_hash` (None: there
                is none); `data["current"]` is the stored hash, if there is one.
        """
        await self.call(lambda number: HeadSet(number, contract_id, locator, previous_hash), Payload([head]))

    async def usage(self, contract_id: bytes) -> Usage:
        """Return the counters of a contract."""
        reply = await self.ask(UsageReply, lambda number: UsageGet(number, contract_id))
        return Usage(*(getattr(reply, name) for name in Usage.__slots__))

    async def recovery_set(
        self, contract_id: bytes, locator: bytes, revision: int, sealed: bytes, announce_key: bytes
    ) -> None:
        """Store a recovery record, if its revision is higher than the stored one (else CONFLICT)."""
        await self.call(
            lambda number: RecoverySet(number, contract_id, locator, revision, announce_key), Payload([sealed])
        )

    async def recovery_get(self, locator: bytes) -> list[RecoveryRecord]:
        """Return all records under a locator, highest revision first; the only data that needs no certificate."""
        answers = await self.call(lambda number: RecoveryGet(number, locator))
        return [
            RecoveryRecord(record.revision, record.announce_key, payload.to_bytes())
            for record, payload in answers
            if isinstance(record, Recovery)
        ]

    async def identity_log(self, start: int = 0) -> list[bytes]:
        """Return the entries that the server knows of the caller's identity log, from number `start` on."""
        answers = await self.call(lambda number: LogGet(number, start))
        return [payload.to_bytes() for reply, payload in answers if isinstance(reply, LogReply) and len(payload)]
