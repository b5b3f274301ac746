"""Chunks on their way to one caller."""

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from sovereign_protocols.chunk.client.records import parts

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


class Transfer:
    """The inner side of a download, which the client's tasks fill.

    Attributes:
        requests: numbers of its requests under way.
        hashing: chunks that arrived and are being verified.
    """

    def __init__(self, source: Source, contract_id: bytes, chunk_ids: Sequence[bytes]) -> None:
        self._source = source
        self._contract_id = contract_id
        self._lists = deque(parts(tuple(dict.fromkeys(chunk_ids))))
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._failure: Exception | None = None
        self._is_closed = False
        self._changed = trio.Event()
        self.missing: list[bytes] = []
        self.corrupt: list[bytes] = []
        self.requests: set[int] = set()
        self.hashing = 0

    async def next(self) -> tuple[bytes, bytes] | None:
        """Return the next chunk, None after the last."""
        while True:
            while self._lists and len(self.requests) < _LISTS_AHEAD and self._failure is None:
                await self._source.request_chunks(self, self._contract_id, self._lists.popleft())
            if self._ready:
                chunk_id, data = self._ready.popleft()
                self._source.take(len(data))
                return chunk_id, data
            self._source.return_credit()
            if self._failure is not None:
                raise self._failure
            if not self.requests and not self.hashing and not self._lists:
                return None
            self._changed = trio.Event()
            await self._changed.wait()

    def close(self) -> None:
        """Give up: what is still under way is thrown away."""
        self._is_closed = True
        self._lists.clear()
        while self._ready:
            self._source.take(len(self._ready.popleft()[1]))
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

    def deliver(self, chunk_id: bytes, size_bytes: int, data: bytes | None) -> None:
        """Take a chunk whose hash was checked, None if it was wrong."""
        self.hashing -= 1
        if data is None:
            self.corrupt.append(chunk_id)
        if data is None or self._is_closed:
            self._source.take(size_bytes)
        else:
            self._ready.append((chunk_id, data))
        if self._is_closed:
            self._source.return_credit()
        self._changed.set()


class Download:
    """An asynchronous iterator of (chunk id, sealed bytes); dropping it gives up what is still under way."""

    def __init__(self, source: Source, contract_id: bytes, chunk_ids: Sequence[bytes]) -> None:
        self._transfer = Transfer(source, contract_id, chunk_ids)
        self._token = trio.lowlevel.current_trio_token()

    @property
    def missing(self) -> list[bytes]:
        """Ids that the server does not have under the contract, as far as it has answered."""
        return self._transfer.missing

    @property
    def corrupt(self) -> list[bytes]:
        """Ids whose bytes did not match."""
        return self._transfer.corrupt

    def __aiter__(self) -> "Download":
        return self

    async def __anext__(self) -> tuple[bytes, bytes]:
        item = await self._transfer.next()
        if item is None:
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        """Give up now."""
        self._transfer.close()

    def __del__(self) -> None:
        # The collector may run in any thread.
        try:
            self._token.run_sync_soon(self._transfer.close)
        except trio.RunFinishedError:
            return
