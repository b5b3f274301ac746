"""One connection to a NATS server: subscriptions, bounded sending, keepalive.

The reader never waits for anybody: handlers are plain functions, and what they may buffer is bounded by them.
Sending is a queue with a limit; a publisher that finds it full waits, and a cancelled publisher has queued nothing.
"""

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from sovereign_node.net.nats.errors import (
    PayloadTooLargeError,
    RelayLostError,
    RelayRefusedError,
    RelayUnreachableError,
    SendQueueFullError,
)
from sovereign_node.net.nats.links import Buffer, Link, TlsLink, open_plain
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.relay import nats_wire
from sovereign_protocols.relay.credentials import NatsCredentials
from sovereign_protocols.relay.endpoint import Endpoint
from sovereign_protocols.relay.nats_session import NatsSession, Ready, Refused, SessionEvent, StartTls, is_fatal
from sovereign_protocols.relay.nats_wire import Message, Pong, ServerError

# Publishers wait above this; it is sixteen full frames, enough to keep the socket busy.
QUEUE_BYTES = 1024 * 1024
# Answers that cannot wait (credit, pong, close) may go this far above; they are a few bytes each.
QUEUE_RESERVE_BYTES = 256 * 1024
_JOIN_BELOW_BYTES = 4096
_MAX_UNANSWERED_PINGS = 2
_PROBE_S = 3.0
_GOODBYE_S = 0.5

MessageHandler = Callable[[Message], None]


def _ignore_loss() -> None:
    """Stand for a subscriber that need not know of a lost connection."""


@dataclass(frozen=True)
class _Subscription:
    on_message: MessageHandler
    on_lost: Callable[[], None]


@dataclass(frozen=True)
class ServerSettings:
    """How to connect.

    Attributes:
        credentials: how to authenticate.
        ssl_context: which certificates are trusted; None for the system's.
        connect_timeout_s: for TCP, TLS and authentication together.
        ping_interval_s: how often the server must answer.
    """

    credentials: NatsCredentials = field(default_factory=NatsCredentials)
    ssl_context: ssl.SSLContext | None = None
    connect_timeout_s: float = 5.0
    ping_interval_s: float = 30.0


async def open_connection(endpoint: Endpoint, settings: ServerSettings) -> "NatsConnection":
    """Connect and authenticate; call `run` of what is returned at once.

    Raises:
        RelayRefusedError: the credentials are not accepted.
        RelayUnreachableError: anything else that keeps us out.
    """
    link: Link | None = None
    try:
        with trio.fail_after(settings.connect_timeout_s):
            plain = await open_plain(endpoint)
            link = plain
            session = NatsSession(settings.credentials, tls=endpoint.tls)
            while True:
                event = await _next_step(link, session)
                if isinstance(event, StartTls):
                    context = settings.ssl_context or ssl.create_default_context()
                    link = tls = TlsLink(plain, context, endpoint.host)
                    await tls.handshake()
                    session.tls_started()
                elif isinstance(event, Refused):
                    raise RelayRefusedError(endpoint.url, event.text)
                elif isinstance(event, Ready):
                    return NatsConnection(endpoint, link, session, ping_interval_s=settings.ping_interval_s)
    except BaseException as error:
        if link is not None:
            with trio.CancelScope(shield=True):
                await link.aclose()
        if isinstance(error, RelayUnreachableError) or not isinstance(error, _LINK_ERRORS):
            raise
        raise RelayUnreachableError(endpoint.url, reason_of(error)) from error


_LINK_ERRORS = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    RemoteProtocolError,
)


def reason_of(error: BaseException) -> str:
    """Put the innermost reason of a failure in a few words."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    return str(cause) or type(cause).__name__


async def _next_step(link: Link, session: NatsSession) -> SessionEvent | None:
    """Exchange bytes until the session wants something or has nothing more to say."""
    output: list[Buffer] = [*session.take_output()]
    if output:
        await link.send(output)
    count = await link.receive_into(session.writable())
    if not count:
        raise OSError("the server closed the connection")
    events = session.wrote(count)
    return events[0] if events else None


class NatsConnection:
    """A connection that the server has accepted.

    Args:
        endpoint: the server.
        link: connected; owned from now on.
        session: ready.
        ping_interval_s: how often the server must answer.

    Attributes:
        closed: set when the connection has ended.
    """

    def __init__(self, endpoint: Endpoint, link: Link, session: NatsSession, *, ping_interval_s: float) -> None:
        self.endpoint = endpoint
        self.closed = trio.Event()
        self._link = link
        self._session = session
        self._ping_interval_s = ping_interval_s
        self._subscriptions: dict[int, _Subscription] = {}
        self._queue: deque[Buffer] = deque()
        self._leaving: list[Buffer] = []
        self._queued_bytes = 0
        self._wake_writer = trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self._pongs: deque[trio.Event] = deque()
        self._probe = trio.Event()
        self._is_lost = False
        self._refusal = ""
        self.bytes_received = 0
        self.bytes_sent = 0

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload that the server takes."""
        return self._session.max_payload_bytes

    @property
    def last_refusal(self) -> str:
        """What the server refused last, such as a subscription without permission."""
        return self._refusal

    async def run(self, beside: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        """Carry messages until the connection ends; always raises or is cancelled.

        Args:
            beside: runs as long as the connection, cancelled when it ends.

        Raises:
            RelayLostError: the server went away, or broke the protocol.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                nursery.start_soon(beside)
                await self._read()
        except BaseExceptionGroup as group:
            lost, rest = group.split(_LINK_ERRORS)
            self._is_lost = lost is not None
            if rest is not None:
                # Cancelled from outside in the same moment; the loss is of no interest any more.
                raise rest from None
            raise RelayLostError(self.endpoint.url, reason_of(_first(group))) from group
        finally:
            with trio.CancelScope(shield=True):
                await self._send_rest()
                self._finish()
                await self._link.aclose()

    async def _send_rest(self) -> None:
        """Send what is queued when we end the connection ourselves, so that peers learn of closed tunnels."""
        rest = [*self._leaving, *self._queue]
        if rest and not self._is_lost and not self._link.torn:
            with trio.move_on_after(_GOODBYE_S), suppress(*_LINK_ERRORS):
                await self._link.send(rest)

    def _finish(self) -> None:
        self.closed.set()
        self._queue.clear()
        self._leaving.clear()
        self._room.unpark_all()
        for pong in self._pongs:
            pong.set()
        subscriptions = list(self._subscriptions.values())
        self._subscriptions.clear()
        for subscription in subscriptions:
            subscription.on_lost()

    # Sending.

    async def publish(self, subject: str, *parts: Buffer, reply: str = "") -> None:
        """Queue one message, waiting while the queue is full.

        Raises:
            PayloadTooLargeError: above the server's limit.
            RelayLostError: the connection has ended.
        """
        await trio.lowlevel.checkpoint()
        await self.wait_room()
        self.publish_nowait(subject, *parts, reply=reply)

    async def wait_room(self) -> None:
        """Wait until the queue is below its limit; no checkpoint if it is.

        So that what a task queues in a row leaves in one system call.
        """
        while self._queued_bytes >= QUEUE_BYTES and not self.closed.is_set():
            await self._room.park()

    def publish_nowait(self, subject: str, *parts: Buffer, reply: str = "") -> None:
        """Queue one message now.

        Raises:
            PayloadTooLargeError: above the server's limit.
            SendQueueFullError: even the reserve is used up.
            RelayLostError: the connection has ended.
        """
        size = sum(map(len, parts))
        if size > self.max_payload_bytes:
            raise PayloadTooLargeError(size, self.max_payload_bytes)
        line = nats_wire.encode_publish(subject, size, reply)
        if size < _JOIN_BELOW_BYTES:
            self._enqueue(b"".join((line, *parts, nats_wire.CRLF)))
        elif len(parts) == 2 and isinstance(parts[0], bytes):
            self._enqueue(line + parts[0], parts[1], nats_wire.CRLF)
        else:
            self._enqueue(line, *parts, nats_wire.CRLF)

    def _enqueue(self, *buffers: Buffer) -> None:
        if self.closed.is_set():
            raise RelayLostError(self.endpoint.url, "the connection has ended")
        if self._queued_bytes >= QUEUE_BYTES + QUEUE_RESERVE_BYTES:
            raise SendQueueFullError("the server takes our messages too slowly")
        self._queue.extend(buffers)
        self._queued_bytes += sum(map(len, buffers))
        self._wake_writer.set()

    async def _write(self) -> None:
        while True:
            if not self._queue:
                self._wake_writer = trio.Event()
                await self._wake_writer.wait()
            self._leaving = list(self._queue)
            self._queue.clear()
            size = sum(map(len, self._leaving))
            await self._link.send(self._leaving)
            self._queued_bytes -= size
            self.bytes_sent += size
            self._room.unpark_all()

    async def flush(self) -> None:
        """Wait until the server has handled everything queued before.

        Raises:
            RelayLostError: the connection has ended.
        """
        await self._ping().wait()
        if self.closed.is_set():
            raise RelayLostError(self.endpoint.url, "the connection has ended")

    def _ping(self) -> trio.Event:
        self._enqueue(nats_wire.PING)
        pong = trio.Event()
        self._pongs.append(pong)
        return pong

    async def _keep_alive(self) -> None:
        while True:
            with trio.move_on_after(self._ping_interval_s):
                await self._probe.wait()
            if len(self._pongs) >= _MAX_UNANSWERED_PINGS:
                raise OSError("the server does not answer")
            pong = self._ping()
            if self._probe.is_set():
                self._probe = trio.Event()
                with trio.move_on_after(_PROBE_S):
                    await pong.wait()
                if not pong.is_set():
                    raise OSError("the server does not answer")

    def probe(self) -> None:
        """End the connection unless the server answers within seconds; after a sleep or a change of network."""
        self._probe.set()

    # Receiving.

    def subscribe(
        self, subject: str, on_message: MessageHandler, on_lost: Callable[[], None] = _ignore_loss
    ) -> int:
        """Receive what is published to `subject`.

        Args:
            subject: exact, or with wildcards.
            on_message: called for each message; must not block and not raise.
            on_lost: called once if the connection ends first; must not block and not raise.

        Returns:
            A number for `unsubscribe`.

        Raises:
            RelayLostError: the connection has ended.
        """
        sid, command = self._session.subscribe(subject)
        self._enqueue(command)
        self._subscriptions[sid] = _Subscription(on_message, on_lost)
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription now; nothing happens if the connection has ended."""
        if self._subscriptions.pop(sid, None) is not None and not self.closed.is_set():
            self._queue.append(command := nats_wire.encode_unsubscribe(sid))
            self._queued_bytes += len(command)
            self._wake_writer.set()

    async def _read(self) -> None:
        while True:
            count = await self._link.receive_into(self._session.writable())
            if not count:
                raise OSError(self._refusal or "the server closed the connection")
            self.bytes_received += count
            for event in self._session.wrote(count):
                if isinstance(event, Message):
                    subscription = self._subscriptions.get(event.sid)
                    if subscription is not None:
                        subscription.on_message(event)
                else:
                    self._on_notice(event)
            for answer in self._session.take_output():
                self._enqueue(answer)

    def _on_notice(self, event: SessionEvent) -> None:
        if isinstance(event, Pong) and self._pongs:
            self._pongs.popleft().set()
        elif isinstance(event, ServerError):
            self._refusal = event.text
            if is_fatal(event):
                raise OSError(event.text)

    async def drain(self, *, timeout_s: float = 2.0) -> None:
        """End every subscription and wait until what was queued has reached the server.

        Messages that the server has already sent are still handed over.
        """
        with trio.move_on_after(timeout_s):
            for sid in self._subscriptions:
                self._enqueue(nats_wire.encode_unsubscribe(sid))
            await self.flush()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
