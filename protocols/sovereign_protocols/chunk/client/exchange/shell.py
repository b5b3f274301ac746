"""Requests under way on one stream, and the tasks that carry them.

Many tasks wait here, each for its own answer. A request with a payload first waits for room in the server's window,
in the order of asking; one without waits for one of 64 slots.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import trio

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client.core import ClientCore, State
from sovereign_protocols.chunk.client.download.shell import Arrival, Transfer
from sovereign_protocols.chunk.client.records import Credentials
from sovereign_protocols.chunk.messages import (
    Cancel,
    Chunk,
    Credit,
    Done,
    Failure,
    Get,
    Hello,
    Message,
    Missing,
    Stored,
)
from sovereign_protocols.chunk.shell import Wire
from sovereign_protocols.errors import ConnectionLostError, RemoteError, RemoteProtocolError
from sovereign_protocols.framing import Payload

Request = Callable[[int], Message]

# Chunks are hashed in threads in batches of this size, so that the window goes on opening while they are; less than
# the second is not worth the way there.
_HASH_BATCH_BYTES: Final = 2 * 1024**2
_HASH_INLINE_BYTES: Final = 32 * 1024
_HASH_THREADS: Final = 2
# How much a caller takes before the server hears of it.
_CREDIT_STEP_BYTES: Final = 1024**2


class _Call:
    """A request in work, and what has been answered so far."""

    def __init__(self, *, holds_slot: bool) -> None:
        self.holds_slot = holds_slot
        self.finished = trio.Event()
        self.answers: list[tuple[Any, Payload]] = []


class _Arrived(NamedTuple):
    """A chunk that nobody has looked at yet."""

    transfer: Transfer
    chunk_id: bytes
    payload: Payload


class Exchange:
    """One session: sends requests and hands out answers.

    Args:
        wire: the stream.
        core: of the session.
    """

    def __init__(self, wire: Wire, core: ClientCore) -> None:
        self._wire = wire
        self._core = core
        self._calls: dict[int, _Call] = {}
        self._transfers: dict[int, Transfer] = {}
        self._slots = trio.Semaphore(limits.MAX_PENDING_REQUESTS)
        self._reserved_bytes = 0
        self._waiters: deque[tuple[int, trio.Event]] = deque()
        self._taken_bytes = 0
        self._lost: RemoteError | RemoteProtocolError | ConnectionLostError | None = None
        # Bounded by the get window.
        self._arrived = trio.open_memory_channel[_Arrived](math.inf)

    async def ask(self, kind: type[Any], request: Any) -> Any:
        """Send a request that has exactly one answer, of this kind, and return it."""
        ((reply, _),) = await self.call(request)
        assert isinstance(reply, kind)
        return reply

    async def count(self, request: Any, payload: Payload | None = None) -> int:
        """Send a request and return the count of its `Done`."""
        ((reply, _),) = await self.call(request, payload)
        assert isinstance(reply, Done)
        return reply.count

    async def call(self, request: Request, payload: Payload | None = None) -> list[tuple[Any, Payload]]:
        """Send a request other than a put, when one of the slots is free, and return all answers."""
        await self._slots.acquire()
        return await self.exchange(request, payload or Payload(), holds_slot=True)

    async def exchange(self, request: Request, payload: Payload, *, holds_slot: bool) -> list[tuple[Any, Payload]]:
        """Send a request when its payload fits into the window, and return all answers.

        Raises:
            RemoteError: the server refused.
            ConnectionLostError: the stream broke before the last answer.
        """
        try:
            await self._reserve_window(len(payload))
            number = self.send(request, payload)
        except BaseException:
            if holds_slot:
                self._slots.release()
            raise
        # From here on the server's answer frees slot and window, even if this task is cancelled.
        self._calls[number] = call = _Call(holds_slot=holds_slot)
        await call.finished.wait()
        for answer, _ in call.answers:
            if isinstance(answer, Failure):
                raise RemoteError(answer.code, answer.data)
        if self._lost is not None and not call.answers:
            raise self._lost_error()
        return call.answers

    def send(self, request: Request, payload: Payload | None = None) -> int:
        """Queue a request with the next number and return that number."""
        payload = payload or Payload()
        self._reserved_bytes -= len(payload)
        if self._lost is not None:
            raise self._lost_error()
        number = self._core.next_request_id()
        self._core.send(request(number), payload)
        self._wire.flush_soon()
        return number

    async def _reserve_window(self, size_bytes: int) -> None:
        if self._lost is not None:
            raise self._lost_error()
        if not size_bytes:
            return
        if not self._waiters and self._core.can_send(self._reserved_bytes + size_bytes):
            self._reserved_bytes += size_bytes
            return
        waiter = (size_bytes, trio.Event())
        self._waiters.append(waiter)
        try:
            await waiter[1].wait()
        except trio.Cancelled:
            if waiter[1].is_set():
                self._reserved_bytes -= size_bytes
            else:
                self._waiters.remove(waiter)
            self._admit_waiters()
            raise

    def _admit_waiters(self) -> None:
        while self._waiters:
            size_bytes, event = self._waiters[0]
            if self._lost is None and not self._core.can_send(self._reserved_bytes + size_bytes):
                return
            self._waiters.popleft()
            self._reserved_bytes += size_bytes
            event.set()

    def _lost_error(self) -> Exception:
        if isinstance(self._lost, RemoteError):
            return RemoteError(self._lost.code, self._lost.data)
        if isinstance(self._lost, RemoteProtocolError):
            return RemoteProtocolError(self._lost.code, self._lost.detail)
        return ConnectionLostError("the stream to the server is gone")

    # --- transfers -------------------------------------------------------------------------------------------

    async def request_chunks(self, transfer: Transfer, contract_id: bytes, chunk_ids: tuple[bytes, ...]) -> None:
        """Ask for at most 1,000 chunks on behalf of a transfer."""
        await self._slots.acquire()
        try:
            number = self.send(lambda number: Get(number, contract_id, chunk_ids))
        except BaseException:
            self._slots.release()
            raise
        self._transfers[number] = transfer
        transfer.requests.add(number)

    def cancel_request(self, number: int) -> None:
        """Tell the server that nobody waits for a `Get` any more."""
        if self._lost is None and self._core.is_pending(number):
            self._core.send(Cancel(number))
            self._wire.flush_soon()

    def take(self, size_bytes: int) -> None:
        """Note that a caller has taken chunk bytes."""
        self._taken_bytes += size_bytes
        if self._taken_bytes >= _CREDIT_STEP_BYTES:
            self.return_credit()

    def return_credit(self) -> None:
        """Tell the server what was taken."""
        if self._taken_bytes and self._lost is None:
            self._core.send(Credit(self._taken_bytes))
            self._taken_bytes = 0
            self._wire.flush_soon()

    @property
    def server_clock_at(self) -> int:
        """The server's time at its hello, seconds UTC."""
        return self._core.server_clock_at

    # --- tasks -----------------------------------------------------------------------------------------------

    async def greet(self, credentials: Credentials | None, clock_at: int, window_bytes: int) -> None:
        """Say hello and wait until the session is open."""
        log = tuple(credentials.log) if credentials else ()
        certificate, log_hash = (credentials.certificate, credentials.log_hash) if credentials else (None, None)
        hello = Hello(limits.VERSION, clock_at, window_bytes, certificate, len(log), log_hash)
        self._core.hello(hello, log)
        while self._core.state is not State.READY:
            await self._wire.flush()
            await self._wire.receive()
            while (event := self._core.next_event()) is not None:
                if isinstance(event[0], Failure):
                    raise RemoteError(event[0].code, event[0].data)

    async def guard(self, task: Callable[[], Any]) -> None:
        """Run one of the tasks below; its end by an error ends all calls."""
        try:
            await task()
        except (ConnectionLostError, RemoteProtocolError, RemoteError) as error:
            self._lost = self._lost or error
            for call in self._calls.values():
                call.finished.set()
            for transfer in set(self._transfers.values()):
                transfer.fail(self._lost_error())
            for _ in range(self._slots.statistics().tasks_waiting):
                self._slots.release()
            self._admit_waiters()

    async def write(self) -> None:
        """Send what is queued."""
        await self._wire.write()

    async def read(self) -> None:
        """Receive answers and hand them out."""
        while True:
            while (event := self._core.next_event()) is not None:
                self._hand_out(*event)
            self._admit_waiters()
            await self._wire.receive()

    def _hand_out(self, message: Any, payload: Payload) -> None:
        if isinstance(message, Stored):
            for number in message.request_ids:
                self._answer(number, message, payload)
        elif isinstance(message, Failure) and message.request_id is None:
            raise RemoteError(message.code, message.data)
        elif message.request_id in self._transfers:
            self._hand_to_transfer(message, payload)
        else:
            self._answer(message.request_id, message, payload)

    def _answer(self, number: int, message: Message, payload: Payload) -> None:
        call = self._calls[number]
        call.answers.append((message, payload))
        if not self._core.is_pending(number):
            del self._calls[number]
            if call.holds_slot:
                self._slots.release()
            call.finished.set()

    def _hand_to_transfer(self, message: Any, payload: Payload) -> None:
        transfer = self._transfers[message.request_id]
        if isinstance(message, Chunk):
            transfer.hashing += 1
            self._arrived[0].send_nowait(_Arrived(transfer, message.chunk_id, payload))
        elif isinstance(message, Missing):
            transfer.missing.extend(message.chunk_ids)
        else:
            del self._transfers[message.request_id]
            self._slots.release()
            if isinstance(message, Failure):
                transfer.fail(RemoteError(message.code, message.data))
            transfer.end_request(message.request_id)

    async def verify(self) -> None:
        """Look at chunks that arrived, some threads at a time, and hand them to their transfers."""
        free = trio.Semaphore(_HASH_THREADS)

        async def look(batch: list[_Arrived]) -> None:
            for item in batch:
                item.transfer.note_threads(1)
            try:
                _deliver(batch, await trio.to_thread.run_sync(_look_at, batch))
            finally:
                free.release()
                for item in batch:
                    item.transfer.note_threads(-1)

        async with trio.open_nursery() as nursery:
            while True:
                # First a thread, then a batch: what arrives while all are busy shares the way to the next.
                await free.acquire()
                batch, size_bytes = await self._next_batch()
                if size_bytes <= _HASH_INLINE_BYTES and all(item.transfer.unpack is None for item in batch):
                    _deliver(batch, _look_at(batch))
                    free.release()
                else:
                    nursery.start_soon(look, batch)

    async def _next_batch(self) -> tuple[list[_Arrived], int]:
        batch = [await self._arrived[1].receive()]
        size_bytes = len(batch[0].payload)
        while size_bytes < _HASH_BATCH_BYTES:
            try:
                batch.append(self._arrived[1].receive_nowait())
            except trio.WouldBlock:
                break
            size_bytes += len(batch[-1].payload)
        return batch, size_bytes


def _look_at(batch: Sequence[_Arrived]) -> list[Arrival]:
    """Hash chunks and let their callers' functions have those whose SHA-256 is their id."""
    return [_look_at_one(item.transfer, item.chunk_id, item.payload) for item in batch]


def _look_at_one(transfer: Transfer, chunk_id: bytes, payload: Payload) -> Arrival:
    size_bytes = len(payload)
    if payload.sha256() != chunk_id:
        return Arrival(chunk_id, size_bytes, matches=False)
    if transfer.is_closed:
        # Nobody waits for it any more.
        return Arrival(chunk_id, size_bytes, matches=True)
    try:
        value = payload.to_bytes() if transfer.unpack is None else transfer.unpack(chunk_id, payload)
    except Exception as error:  # noqa: BLE001 - raised to the caller, whose function it was
        return Arrival(chunk_id, size_bytes, matches=True, error=error)
    return Arrival(chunk_id, size_bytes, matches=True, value=value)


def _deliver(batch: Sequence[_Arrived], arrivals: Sequence[Arrival]) -> None:
    for item, arrival in zip(batch, arrivals, strict=True):
        item.transfer.deliver(arrival)
