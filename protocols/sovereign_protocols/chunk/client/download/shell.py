"""Chunks on their way to one caller."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import trio

from sovereign_protocols.chunk.client.records import parts
from sovereign_protocols.framing import Payload

Result = TypeVar("Result")
#: What a caller makes of (chunk id, sealed bytes) in a worker thread, after the id was verified.
Unpack = Callable[[bytes, Payload], Result]

# How many lists of ids a download has asked for at once.
_LISTS_AHEAD: Final = 2


class Source(Protocol):
    """What a transfer needs of the client."""

    async def request_chunks(self, transfer: "Transfer", contract_id: bytes, chunk_ids: tuple[bytes, ...]) -> None:
        """Ask for at most 1,000 chunks on behalf of a transfer."""
        ...

    def cancel_request(self, number: int) -> None:
        """Tell the server that nobody waits for a `Get` any more."""
        ...

    def take(self, size_bytes: int) -> None:
        """Note that a caller has taken chunk bytes."""
        ...

    def return_credit(self) -> None:
        """Tell the server what was taken."""
        ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A chunk that arrived and was looked at.

    Args:
        chunk_id: 32 bytes.
        size_bytes: of the sealed chunk.
        matches: its bytes hash to its id.
        value: what the caller's function made of it.
        error: what that function raised.
    """

    chunk_id: bytes
    size_bytes: int
    matches: bool
    value: Any = None
    error: Exception | None = None


class Transfer:
    """The inner side of a download, which the client's tasks fill.

    Attributes:
        unpack: what the caller makes of each chunk, None if he wants its bytes.
        requests: numbers of its requests under way.
        hashing: chunks that arrived and are being verified.
        in_threads: those of them that a thread is busy with.
    """

    def __init__(
        self, source: Source, contract_id: bytes, chunk_ids: Sequence[bytes], unpack: Unpack[Any] | None
    ) -> None:
        self._source = source
        self.unpack = unpack
        self._contract_id = contract_id
        self._lists = deque(parts(tuple(dict.fromkeys(chunk_ids))))
        self._ready: deque[Arrival] = deque()
        self._failure: Exception | None = None
        self._is_closed = False
        self._changed = trio.Event()
        self.missing: list[bytes] = []
        self.corrupt: list[bytes] = []
        self.requests: set[int] = set()
        self.hashing = 0
        self.in_threads = 0

    async def next(self) -> tuple[bytes, Any] | None:
        """Return the next chunk, None after the last."""
        while True:
            while self._lists and len(self.requests) < _LISTS_AHEAD and self._failure is None:
                await self._source.request_chunks(self, self._contract_id, self._lists.popleft())
            if self._ready:
                arrival = self._ready.popleft()
                self._source.take(arrival.size_bytes)
                if arrival.error is not None:
                    raise arrival.error
                return arrival.chunk_id, arrival.value
            self._source.return_credit()
            if self._failure is not None:
                raise self._failure
            if not self.requests and not self.hashing and not self._lists:
                return None
            self._changed = trio.Event()
            await self._changed.wait()

    def close(self) -> None:
        """Give up: what is still under way is thrown away."""
        if self._is_closed:
            return
        self._is_closed = True
        self._lists.clear()
        while self._ready:
            self._source.take(self._ready.popleft().size_bytes)
        for number in self.requests:
            self._source.cancel_request(number)
        self._source.return_credit()

    def fail(self, error: Exception) -> None:
        """End with an error, after the chunks that have arrived."""
        self._failure = self._failure or error
        self._changed.set()

    def end_request(self, number: int) -> None:
        """Note that a request was answered to its end."""
        self.requests.discard(number)
        self._changed.set()

    async def wait_idle(self) -> None:
        """Wait until no thread is busy with a chunk of this transfer."""
        while self.in_threads:
            self._changed = trio.Event()
            await self._changed.wait()

    def note_threads(self, change: int) -> None:
        """Count threads that begin or end to be busy with a chunk."""
        self.in_threads += change
        self._changed.set()

    @property
    def is_closed(self) -> bool:
        """Whether the caller has given up."""
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way that `close` would have to stop."""
        return self._is_closed or not (self.requests or self.hashing or self._lists or self._ready)

    def deliver(self, arrival: Arrival) -> None:
        """Take a chunk that was looked at."""
        self.hashing -= 1
        if not arrival.matches:
            self.corrupt.append(arrival.chunk_id)
        if not arrival.matches or self._is_closed:
            self._source.take(arrival.size_bytes)
        else:
            self._ready.append(arrival)
        if self._is_closed:
            self._source.return_credit()
        self._changed.set()


class Download(Generic[Result]):
    """An asynchronous iterator of (chunk id, what was made of it); dropping it gives up what is still under way."""

    def __init__(
        self, source: Source, contract_id: bytes, chunk_ids: Sequence[bytes], unpack: Unpack[Result] | None
    ) -> None:
        self._transfer = Transfer(source, contract_id, chunk_ids, unpack)
        self._token = trio.lowlevel.current_trio_token()

    @property
    def missing(self) -> list[bytes]:
        """Ids that the server does not have under the contract, as far as it has answered."""
        return self._transfer.missing

    @property
    def corrupt(self) -> list[bytes]:
        """Ids whose bytes did not match."""
        return self._transfer.corrupt

    def __aiter__(self) -> "Download[Result]":
        return self

    async def __anext__(self) -> tuple[bytes, Result]:
        item = await self._transfer.next()
        if item is None:
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        """Give up now."""
        self._transfer.close()

    async def aclose(self) -> None:
        """Give up now, and wait until `unpack` is not running any more; not even cancellation shortens that."""
        self._transfer.close()
        with trio.CancelScope(shield=True):
            await self._transfer.wait_idle()

    def __del__(self) -> None:
        if self._transfer.is_over:
            return
        # The collector may run in any thread.
        try:
            self._token.run_sync_soon(self._transfer.close)
        except trio.RunFinishedError:
            return
