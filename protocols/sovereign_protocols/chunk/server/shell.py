"""Serves one stream: reads messages, has a handler carry them out, batches what can be batched.

Puts go through two stages that run at the same time, hashing and storing; each takes whatever has arrived while it
was busy, so a batch is as large as the disk is slow, and one acknowledgement covers it.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.messages import (
    Cancel,
    Chunk,
    Done,
    Failure,
    Get,
    Hello,
    HelloReply,
    LogAccepted,
    LogEntry,
    Message,
    Missing,
    Put,
    Stored,
)
from sovereign_protocols.chunk.server.core import ServerCore
from sovereign_protocols.chunk.server.handler import Handler, PutItem, Reading
from sovereign_protocols.chunk.shell import Wire
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteError, RemoteProtocolError
from sovereign_protocols.framing import Payload

#: A batch of puts, or of chunks read for gets, is closed at this size.
BATCH_BYTES: Final = 8 * 1024**2
#: Chunks are read ahead of the stream up to this size; one always fits.
READ_AHEAD_BYTES: Final = limits.MAX_CHUNK_BYTES


async def serve(
    stream: trio.abc.HalfCloseableStream, handler: Handler, *, clock_at: int, window_bytes: int
) -> RemoteProtocolError | None:
    """Serve until the client leaves or breaks the protocol; the stream stays open for the caller to close.

    Args:
        stream: from the client.
        handler: carries out requests; its other exceptions than `RemoteError` end the session and are raised.
        clock_at: seconds UTC, for the hello.
        window_bytes: payload bytes that the client may send without an answer.

    Returns:
        What the client did wrong, None if it just left.
    """
    core = ServerCore(trio.current_time(), window_bytes=window_bytes)
    session = _Session(stream, core, handler)
    fault = None
    try:
        await session.greet(clock_at)
        await session.run()
    except ConnectionLostError:
        return None
    except RemoteProtocolError as error:
        fault = error
        core.fail(error.code)
    except RemoteError as error:
        fault = RemoteProtocolError(error.code, "hello refused")
        core.fail(error.code, dict(error.data))
    await session.wire.say_last_words()
    return fault


class _Session:
    def __init__(self, stream: trio.abc.HalfCloseableStream, core: ServerCore, handler: Handler) -> None:
        self._core = core
        self._handler = handler
        self.wire = Wire(stream, core)
        self._credit = trio.Event()
        self._cancelled: set[int] = set()
        self._end: ConnectionLostError | RemoteProtocolError | None = None

    async def greet(self, clock_at: int) -> None:
        hello, _ = await self._next()
        assert isinstance(hello, Hello)
        known = await self._handler.hello(hello)
        reply = HelloReply(limits.VERSION, clock_at, self._core.window_bytes, known)
        answer: HelloReply | LogAccepted = reply
        if hello.certificate is not None and known < hello.log_length:
            self._core.want_log(known, hello.log_length, reply)
            await self.wire.flush()
            answer = LogAccepted(await self._handler.log(await self._entries()))
        self._core.accept(answer, window_bytes=hello.window_bytes, is_stranger=hello.certificate is None)
        await self.wire.flush()

    async def _entries(self) -> list[bytes]:
        entries = []
        while True:
            message, payload = await self._next()
            assert isinstance(message, LogEntry)
            entries.append(payload.to_bytes())
            if not message.remaining:
                return entries

    async def _next(self) -> tuple[Message, Payload]:
        while (event := self._core.next_event()) is None:
            await self.wire.receive()
        return event

    async def run(self) -> None:
        self._puts = trio.open_memory_channel[PutItem](math.inf)
        self._verified = trio.open_memory_channel[PutItem](math.inf)
        self._gets = trio.open_memory_channel[Get](math.inf)
        self._requests = trio.open_memory_channel[tuple[Message, Payload]](math.inf)
        async with trio.open_nursery() as nursery:

            async def guard(task: Callable[[], Awaitable[None]]) -> None:
                try:
                    await task()
                except (ConnectionLostError, RemoteProtocolError) as error:
                    self._end = self._end or error
                    nursery.cancel_scope.cancel()

            for task in (self._read, self._verify_puts, self._store_puts, self._serve_gets, self._serve_requests):
                nursery.start_soon(guard, task)
            await guard(self.wire.write)
        if self._end is not None:
            raise self._end

    # Every queue is bounded by the core: puts by the window, all else by the number of pending requests.

    async def _read(self) -> None:
        while True:
            while (event := self._core.next_event()) is not None:
                message, payload = event
                if isinstance(message, Put):
                    self._puts[0].send_nowait((message, payload))
                elif isinstance(message, Get):
                    self._gets[0].send_nowait(message)
                elif isinstance(message, Cancel):
                    self._cancelled.add(message.request_id)
                else:
                    self._requests[0].send_nowait(event)
            # Credit and cancellation are what a get may be waiting for.
            self._credit.set()
            if await self._handler.wait_for_room(self._core.held_bytes):
                self._core.restart_clock(trio.current_time())
            await self.wire.receive()

    async def _verify_puts(self) -> None:
        while True:
            batch = await _next_batch(self._puts[1])
            for item, matches in zip(batch, await self._handler.verify(batch), strict=True):
                if matches:
                    self._verified[0].send_nowait(item)
                else:
                    self._send(Failure(item[0].request_id, ErrorCode.ID_MISMATCH, {}))

    async def _store_puts(self) -> None:
        while True:
            batch = await _next_batch(self._verified[1])
            outcomes = zip(batch, await self._handler.store(batch), strict=True)
            stored = []
            for (put, _), code in outcomes:
                if code is None:
                    stored.append(put.request_id)
                else:
                    self._send(Failure(put.request_id, code, {}))
            if stored:
                self._send(Stored(tuple(stored)))

    async def _serve_gets(self) -> None:
        async for get in self._gets[1]:
            try:
                self._send(Done(get.request_id, await self._serve_get(get)))
            except RemoteError as error:
                self._send(Failure(get.request_id, error.code, error.data))
            self._cancelled.discard(get.request_id)

    async def _serve_get(self, get: Get) -> int:
        await self._handler.pace()
        wanted = list(dict.fromkeys(get.chunk_ids))
        needed_bytes = sent = 0
        while get.request_id not in self._cancelled:
            # The next chunks are read while the former are on their way.
            await self.wire.wait_outgoing_below(READ_AHEAD_BYTES)
            if needed_bytes > self._core.get_credit_bytes:
                self._credit = trio.Event()
                await self._credit.wait()
                continue
            limit_bytes = min(READ_AHEAD_BYTES, self._core.get_credit_bytes)
            reading = await self._handler.read(get, wanted, limit_bytes)
            sent += self._send_chunks(get, reading)
            wanted = wanted[len(reading.chunks) :]
            needed_bytes = reading.next_bytes
            if not wanted:
                break
        return sent

    def _send_chunks(self, get: Get, reading: Reading) -> int:
        missing = tuple(chunk_id for chunk_id, data in reading.chunks if data is None)
        if missing:
            self._send(Missing(get.request_id, missing))
        for chunk_id, data in reading.chunks:
            if data is not None:
                self._send(Chunk(get.request_id, chunk_id), Payload([data]))
        return len(reading.chunks) - len(missing)

    async def _serve_requests(self) -> None:
        async for message, payload in self._requests[1]:
            await self._handler.pace()
            try:
                answers = await self._handler.request(message, payload)
            except RemoteError as error:
                answers = [(Failure(message.request_id, error.code, error.data), Payload())]  # type: ignore[union-attr]
            for answer in answers:
                self._send(*answer)

    def _send(self, message: Message, payload: Payload | None = None) -> None:
        self._core.send(message, payload)
        self.wire.flush_soon()


async def _next_batch(arrived: trio.MemoryReceiveChannel[PutItem]) -> list[PutItem]:
    batch = [await arrived.receive()]
    size_bytes = len(batch[0][1])
    while size_bytes < BATCH_BYTES and len(batch) < limits.MAX_IDS:
        try:
            batch.append(arrived.receive_nowait())
        except trio.WouldBlock:
            break
        size_bytes += len(batch[-1][1])
    return batch
