"""libp2p's own Yamux behind guards, for `stack="stock"`.

Defects of libp2p 0.8.1 answered here: the reader waits for the writer's lock when it has to answer, so two peers
that send bulk both ways stop for good; the receive window is only logged, not enforced; and its muxer cannot be
replaced by option, because the negotiation builds the stock class by name. (The five-second limit of its writers
and its half-sent records are answered in `streams.StockStream`.)
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
import trio
from libp2p.io.exceptions import IOException
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux

_log = structlog.get_logger(__name__)

# The stock receiver gives up to 16 MiB of credit, and the size of one read more.
_MAX_BUFFERED_BYTES = 17 * 1024 * 1024
_MAX_QUEUED_FRAMES = 8192


class WindowExceededError(IOException):  # type: ignore[misc]
    """The peer sent more than it had credit for, or answers pile up because it does not read."""


class BoundedBuffer(bytearray):
    """A stream's receive buffer that refuses to grow past the largest window."""

    overflow: Callable[[], None]

    def extend(self, data: Any) -> None:
        """Append, within bounds.

        Raises:
            WindowExceededError: after which the stream is not whole; the connection is being closed.
        """
        if len(self) + len(data) > _MAX_BUFFERED_BYTES:
            self.overflow()
            raise WindowExceededError("the peer exceeds its window")
        super().extend(data)


class _BoundedBuffers(dict[int, bytearray]):
    def __init__(self, overflow: Callable[[], None]) -> None:
        super().__init__()
        self._overflow = overflow

    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        bounded = BoundedBuffer(buffer)
        bounded.overflow = self._overflow
        super().__setitem__(stream_id, bounded)


class GuardedYamux(Yamux):  # type: ignore[misc]
    """Stock Yamux whose reader never waits for its writer and never buffers more than a window."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.stream_buffers = _BoundedBuffers(self._give_up)
        self._reader: trio.lowlevel.Task | None = None
        self._answers: deque[bytes] = deque()
        self._answers_wake = trio.Event()

    async def start(self) -> None:
        """Carry frames until the connection ends; its failure ends only itself."""
        try:
            await super().start()
        except (Exception, ExceptionGroup):  # noqa: BLE001 - the supervisor of the connection
            _log.warning("stock_connection_failed", peer_id=str(self.peer_id), exc_info=True)
            await self.close()

    async def handle_incoming(self) -> None:
        """Read frames in this task, and send the answers to them in another."""
        self._reader = trio.lowlevel.current_task()
        self._nursery.start_soon(self._send_answers)
        try:
            await super().handle_incoming()
        except WindowExceededError as error:
            _log.warning("peer_broke_yamux", peer_id=str(self.peer_id), reason=str(error))
            self.event_shutting_down.set()
            await self._cleanup_on_error()

    def _give_up(self) -> None:
        """Close the connection from the middle of libp2p's reader, which swallows what is raised there."""
        _log.warning("peer_broke_yamux", peer_id=str(self.peer_id), reason="the peer exceeds its window")
        self._nursery.start_soon(self.close)

    async def _send_answers(self) -> None:
        while True:
            while self._answers:
                try:
                    await super()._write_frame(self._answers.popleft())
                except (IOException, MuxedConnError, MuxedStreamError):
                    return
            self._answers_wake = trio.Event()
            await self._answers_wake.wait()

    async def _write_frame(self, data: bytes) -> None:
        if trio.lowlevel.current_task() is not self._reader:
            await super()._write_frame(data)
            return
        if len(self._answers) >= _MAX_QUEUED_FRAMES:
            raise WindowExceededError("answers pile up")
        self._answers.append(data)
        self._answers_wake.set()


class GuardedMuxers(MuxerMultistream):  # type: ignore[misc]
    """The negotiation of a muxer, building our subclass."""

    async def new_conn(self, conn: Any, peer_id: Any) -> Any:
        """Negotiate and wrap a secured connection."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = GuardedYamux(conn, peer_id, is_initiator=conn.is_initiator)
        return self._annotate_connection(muxed, conn, protocol)


def install(swarm: Any) -> None:
    """Make a swarm use guarded stock Yamux, and offer nothing else."""
    swarm.upgrader.muxer_multistream = GuardedMuxers({PROTOCOL_ID: GuardedYamux})
