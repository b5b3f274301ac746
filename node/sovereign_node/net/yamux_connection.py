"""Our Yamux connection: the trio shell around the core in `sovereign_protocols.yamux`.

It replaces libp2p 0.8.1's muxer, which deadlocks under bulk both ways (its reader waits for the lock of its
writer), does not enforce windows, breaks a stream whose reader pauses five seconds, breaks the whole connection
when a write is cancelled, and lets the 257th stream wait for ever.

One task owns the socket for writing and takes whole records only, so cancelling a sender cannot tear a record.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
import trio
from libp2p.abc import IMuxedConn
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError

from sovereign_node.net.noise import SecureConnection
from sovereign_node.net.session import SessionError
from sovereign_node.net.yamux_adapter import MuxedStream
from sovereign_node.net.yamux_stream import YamuxStream
from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.core import Yamux
from sovereign_protocols.yamux.errors import YamuxError, YamuxViolationError
from sovereign_protocols.yamux.events import (
    Event,
    Limits,
    PeerGoneAway,
    PingAnswered,
    StreamOpened,
    StreamReadable,
    StreamReset,
)
from sovereign_protocols.yamux.frames import GoAwayCode
from sovereign_protocols.yamux.stream import FINAL_STATES, Stream

_log = structlog.get_logger(__name__)

# How long a goodbye may take to leave, when the peer does not read.
_GOODBYE_S = 0.5


def _nothing() -> None:
    """Stand in for a hook that nobody has set."""


class YamuxConnection(IMuxedConn):  # type: ignore[misc]
    """One connection to an authenticated peer.

    Args:
        secured_conn: the encrypted connection; owned from now on.
        peer_id: libp2p's object for the peer's id.
        early: bytes that came with the negotiation.
        limits: bounds of streams and windows.
        budget: receive memory of this connection.

    Attributes:
        on_close: set by libp2p's swarm; awaited when the connection has ended.
        on_objection: called when the peer says that we broke its rules.
    """

    def __init__(
        self, secured_conn: SecureConnection, peer_id: Any, *, early: bytes, limits: Limits, budget: WindowBudget
    ) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.yamux = Yamux(initiator=secured_conn.is_initiator, limits=limits, budget=budget)
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.on_close: Any = None
        self.on_objection: Callable[[], None] = _nothing
        self._peer_text = str(peer_id)
        self._session = secured_conn.session
        self._early = early
        self._streams: dict[Stream, YamuxStream] = {}
        self._accepted: deque[YamuxStream] = deque()
        self._accept_wake = trio.Event()
        self._write_wake: trio.Event | None = None
        self._written = trio.Event()
        self._pings: dict[int, trio.Event] = {}
        self._closing = False
        self.yamux.on_shed = self._handle_shed

    # The life of the connection.

    async def start(self) -> None:
        """Carry frames until the connection ends; never raises, except for cancellation."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, self._write_frames, nursery.cancel_scope)
                nursery.start_soon(self._run, self._read_frames, nursery.cancel_scope)
                self.event_started.set()
        finally:
            self._end()
        await self._session.close()
        if self.on_close is not None:
            await self.on_close()

    async def _run(self, loop: Any, scope: trio.CancelScope) -> None:
        """Run one of the two loops; its end is the end of the connection."""
        try:
            await loop()
        except SessionError as error:
            if not self._closing:
                _log.debug("connection_lost", peer_id=self._peer_text, reason=str(error))
        except YamuxViolationError as error:
            _log.warning("peer_broke_yamux", peer_id=self._peer_text, reason=str(error))
            await self._say_goodbye(error.code)
        except Exception:  # noqa: BLE001 - the supervisor of the connection: its failure must not reach the host
            _log.error("connection_failed", peer_id=self._peer_text, exc_info=True)
        scope.cancel()

    def _end(self) -> None:
        """Break what is still open."""
        self._closing = True
        self.yamux.close()
        self.event_closed.set()
        self._accept_wake.set()
        self._written.set()
        for answered in self._pings.values():
            answered.set()
        for stream in list(self._streams.values()):
            stream.on_readable()
            stream.wake_writer()
        self._streams.clear()

    async def _say_goodbye(self, code: int) -> None:
        """Send GO_AWAY, if the peer still takes it."""
        self.yamux.go_away(code)
        with trio.move_on_after(_GOODBYE_S) as scope:
            scope.shield = True
            while self.yamux.has_output and not self.event_closed.is_set():
                self._written = trio.Event()
                self.flush()
                await self._written.wait()

    async def close(self, error_code: int = GoAwayCode.NORMAL) -> None:
        """Say goodbye and end the connection at once; idempotent."""
        if self._closing:
            await trio.lowlevel.checkpoint()
            return
        self._closing = True
        await self._say_goodbye(error_code)
        await self._session.close()
        self._end()

    # Writing.

    def flush(self) -> None:
        """Make the writer take what the core has to say."""
        if self._write_wake is not None and self.yamux.has_output:
            self._write_wake.set()

    async def _write_frames(self) -> None:
        drained: list[Stream] = []
        while True:
            if not self.yamux.has_output:
                self._written.set()
                if self.yamux.is_drained:
                    return
                self._write_wake = trio.Event()
                await self._write_wake.wait()
                self._write_wake = None
            batch = self.yamux.next_batch(self._session.batch_bytes, drained.append)
            if not batch:
                continue
            sealed = self._session.seal(batch)
            del batch
            for stream in drained:
                owner = self._streams.get(stream)
                if owner is not None:
                    owner.on_drained()
            drained.clear()
            await self._session.transmit(sealed)

    # Reading.

    async def _read_frames(self) -> None:
        if self._early:
            self._handle(self.yamux.receive_data(self._early))
        while True:
            data = await self._session.receive()
            if not data:
                return
            self._handle(self.yamux.receive_data(data))
            self.flush()
            if self.yamux.is_drained:
                return

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case StreamReadable(stream):
                    owner = self._streams.get(stream)
                    if owner is not None:
                        owner.on_readable()
                        self.note_ended(owner)
                case StreamReset(stream):
                    self._on_reset(stream)
                case StreamOpened(stream):
                    self._accepted.append(self._own(stream))
                    self._accept_wake.set()
                case PingAnswered(value):
                    answered = self._pings.pop(value, None)
                    if answered is not None:
                        answered.set()
                case PeerGoneAway(code):
                    _log.debug("peer_said_goodbye", peer_id=self._peer_text, code=code)
                    if code == GoAwayCode.PROTOCOL_ERROR:
                        self.on_objection()

    def _handle_shed(self) -> None:
        """Tell readers and writers, and the peer, of a stream that had to go because memory is full."""
        self._handle(self.yamux.take_events())
        self.flush()

    def _on_reset(self, stream: Stream) -> None:
        owner = self._streams.get(stream)
        if owner is not None:
            owner.on_readable()
            owner.wake_writer()
            self.note_ended(owner)

    def _own(self, stream: Stream) -> YamuxStream:
        owner = YamuxStream(self, stream, self._peer_text)
        self._streams[stream] = owner
        return owner

    def note_ended(self, owner: YamuxStream) -> None:
        """Forget a stream that will cause no more events."""
        if owner.core.state in FINAL_STATES:
            self._streams.pop(owner.core, None)
            # It may have ended by a reset that arrived together with what is handled now.
            owner.wake_writer()

    # Streams.

    def open_peer_stream(self) -> YamuxStream:
        """Open a stream at once; its SYN leaves with the first bytes.

        Raises:
            YamuxError: the connection is closing, or too many streams are open.
        """
        if self._closing:
            raise YamuxError("the connection is closed")
        stream = self._own(self.yamux.open_stream())
        return stream

    async def open_stream(self) -> MuxedStream:
        """Open a stream for libp2p's own services."""
        await trio.lowlevel.checkpoint()
        try:
            stream = self.open_peer_stream()
        except YamuxError as error:
            raise MuxedStreamError(str(error)) from error
        self.flush()
        return MuxedStream(stream, self)

    async def accept_stream(self) -> MuxedStream:
        """Wait for the peer's next stream."""
        while not self._accepted:
            if self.event_closed.is_set():
                raise MuxedConnUnavailable("connection closed")
            self._accept_wake = trio.Event()
            await self._accept_wake.wait()
        return MuxedStream(self._accepted.popleft(), self)

    def sweep(self, linger_s: float) -> None:
        """Reset streams that we closed `linger_s` ago and whose peer has not finished; they hold a place."""
        oldest = trio.current_time() - linger_s
        for stream in list(self._streams.values()):
            if stream.closed_at < oldest:
                self.yamux.reset(stream.core)
                self.note_ended(stream)
        self.flush()

    @property
    def open_streams(self) -> int:
        """Streams that have not ended."""
        return len(self.yamux.streams)

    async def ping(self) -> float | None:
        """Measure one round trip.

        Returns:
            Seconds, or None if the connection ended first.
        """
        started = trio.current_time()
        value = self.yamux.ping()
        answered = self._pings[value] = trio.Event()
        self.flush()
        try:
            await answered.wait()
        finally:
            self._pings.pop(value, None)
        return None if self.event_closed.is_set() else trio.current_time() - started

    # What libp2p asks of a muxed connection.

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return bool(self.secured_conn.is_initiator)

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self._closing and self.yamux.takes_streams

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self.event_closed.is_set()

    def get_transport_addresses(self) -> Any:
        """The other end, as libp2p multiaddrs."""
        return self.secured_conn.pipe.get_transport_addresses()

    def get_connection_type(self) -> Any:
        """Direct or relayed."""
        return self.secured_conn.pipe.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP and port of the other end."""
        address: tuple[str, int] | None = self.secured_conn.pipe.get_remote_address()
        return address
