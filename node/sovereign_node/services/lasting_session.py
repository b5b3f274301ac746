"""A session with a provider that outlives its connection: opened again after a loss, moved to a better path.

A relay that restarts, or a network that changes, breaks the stream of a session. What was under way is asked again
on a new one, so that this costs a pause and not the backup. When a better path is found meanwhile, as by hole
punching, new calls go to a session on it, and the old one ends with its last call.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

import structlog
import trio

from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.paths import is_immediate, rank_of_path
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.chunk.client import ChunkClient
from sovereign_protocols.errors import ConnectionLostError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# A relay needs a moment to start again, and the provider one to come back to it. Where nobody is between, a lost
# connection mostly means that the provider itself is gone, and another one should get the chunks soon.
RELAYED_PATIENCE_S = 60.0
DIRECT_PATIENCE_S = 5.0
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 4.0
# A provider that takes sessions and breaks each of them is given up after so many without one finished call. A
# session that lasted for a while was of use, whatever its calls were.
MAX_FRUITLESS = 5
OF_USE_S = 30.0
MOVE_PAUSE_S = 10.0


class _Held:
    """One session, open or opening."""

    def __init__(self) -> None:
        self.client: ChunkClient | None = None
        self.opened_at = trio.current_time()
        self.path = ""
        self.error: NodeError | None = None
        self.settled = trio.Event()
        self.calls = 0
        self._retired = False
        self.over = trio.Event()

    def retire(self) -> None:
        """Let it end with its last call."""
        self._retired = True
        self._end_if_idle()

    @contextmanager
    def in_use(self) -> Iterator[ChunkClient]:
        """Keep it open during the block."""
        assert self.client is not None
        self.calls += 1
        try:
            yield self.client
        finally:
            self.calls -= 1
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._retired and not self.calls:
            self.over.set()


class LastingSession:
    """Calls to one provider; see `open_lasting_session`.

    Args:
        nursery: where sessions live.
        peer_id: of the provider.
        open_stream: connects if need be, and opens a stream of the chunk protocol.
        begin: serves a block with a session on a stream.
        best_rank: how good the path is that new streams take, as `rank_of_path` gives it.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        peer_id: str,
        open_stream: Callable[[], Awaitable[PeerStream]],
        begin: Callable[[PeerStream], AbstractAsyncContextManager[ChunkClient]],
        best_rank: Callable[[], int],
    ) -> None:
        self._nursery = nursery
        self._peer_id = peer_id
        self._open_stream = open_stream
        self._begin = begin
        self._best_rank = best_rank
        self._renewing = trio.Lock()
        self._held = _Held()
        self._fruitless = 0
        self._move_not_before = 0.0
        self._moving = False

    @property
    def path(self) -> str:
        """The path that new calls take."""
        return self._held.path

    async def start(self) -> None:
        """Open the first session.

        Raises:
            NodeError: unreachable, or the provider refuses this device.
        """
        self._held = await self._open()

    async def call(self, operation: Callable[[ChunkClient], Awaitable[Result]]) -> Result:
        """Run an operation, again from its beginning on a new session if the connection was lost.

        Args:
            operation: must be harmless when repeated.

        Raises:
            ConnectionLostError: and no new session could be had in time.
            ProtocolError: what the operation raised else.
        """
        while True:
            with self.use() as client:
                try:
                    result = await operation(client)
                except ConnectionLostError as error:
                    lost = error
                else:
                    self._fruitless = 0
                    return result
            await self.renew(client, lost)

    @contextmanager
    def use(self) -> Iterator[ChunkClient]:
        """Serve the block with the session for new calls; after a loss, `renew` it outside of the block."""
        self._move_if_better()
        with self._held.in_use() as client:
            yield client

    async def renew(self, lost: ChunkClient, error: ConnectionLostError) -> None:
        """Replace a session whose connection was lost; returns at once if another caller has done so.

        Raises:
            ConnectionLostError: `error`, because no new session could be had in time.
        """
        async with self._renewing:
            if self._held.client is not lost:
                return
            is_of_use = trio.current_time() - self._held.opened_at > OF_USE_S
            self._fruitless = 1 if is_of_use else self._fruitless + 1
            if self._held.error is not None or self._fruitless > MAX_FRUITLESS:
                raise error
            log.info("session_lost", peer_id=self._peer_id, path=self._held.path)
            patience_s = DIRECT_PATIENCE_S if is_immediate(self._held.path) else RELAYED_PATIENCE_S
            try:
                fresh = await self._open_patiently(trio.current_time() + patience_s)
            except NodeError as reason:
                # Remembered, so that the other calls that were under way do not wait as long once more.
                self._held.error = reason
                raise error from reason
            log.info("session_renewed", peer_id=self._peer_id, path=fresh.path)
            self._replace(fresh)

    async def _open_patiently(self, until: float) -> _Held:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                return await self._open()
            except NodeError as error:
                if error.exit_code != ExitCode.UNREACHABLE or trio.current_time() + delay_s >= until:
                    raise
            # Jitter, so that the customers of a restarted relay do not return in step.
            await trio.sleep(delay_s * random.uniform(0.75, 1.25))  # noqa: S311
            delay_s = min(2 * delay_s, LAST_RETRY_S)

    def _move_if_better(self) -> None:
        now = trio.current_time()
        if self._moving or now < self._move_not_before or self._best_rank() <= rank_of_path(self._held.path):
            return
        self._moving = True
        self._nursery.start_soon(self._move)

    async def _move(self) -> None:
        before = self._held
        try:
            fresh = await self._open()
        except NodeError as error:
            log.info("session_not_moved", peer_id=self._peer_id, reason=error.message)
            self._move_not_before = trio.current_time() + MOVE_PAUSE_S
            return
        finally:
            self._moving = False
        if self._held is not before or rank_of_path(fresh.path) <= rank_of_path(before.path):
            fresh.retire()
            return
        log.info("session_moved", peer_id=self._peer_id, before=before.path, path=fresh.path)
        self._replace(fresh)

    def _replace(self, fresh: _Held) -> None:
        self._held.retire()
        self._held = fresh

    async def _open(self) -> _Held:
        held = _Held()
        self._nursery.start_soon(self._run, held)
        try:
            await held.settled.wait()
        except BaseException:
            held.retire()
            raise
        if held.error is not None:
            raise held.error
        return held

    async def _run(self, held: _Held) -> None:
        try:
            stream = await self._open_stream()
            async with self._begin(stream) as client:
                held.client, held.path = client, stream.path
                held.settled.set()
                await held.over.wait()
        except NodeError as error:
            held.error = error
        held.settled.set()


@asynccontextmanager
async def open_lasting_session(
    peer_id: str,
    open_stream: Callable[[], Awaitable[PeerStream]],
    begin: Callable[[PeerStream], AbstractAsyncContextManager[ChunkClient]],
    best_rank: Callable[[], int],
) -> AsyncIterator[LastingSession]:
    """Serve the block with a session; for the arguments see `LastingSession`.

    Raises:
        NodeError: unreachable, or the provider refuses this device.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        session = LastingSession(nursery, peer_id, open_stream, begin, best_rank)
        try:
            await session.start()
            yield session
        except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it into a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
