"""Dialing and accepting tunnels over one relay."""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from sovereign_node.clock import Clock, wall_clock
from sovereign_node.net.nats.client import Backoff, ClientStatus, NatsClient
from sovereign_node.net.nats.connection import NatsConnection, ServerSettings
from sovereign_node.net.nats.dial import PendingDial
from sovereign_node.net.nats.errors import PeerNotOnRelayError, RelayError, RelayUnreachableError
from sovereign_node.net.nats.stream import TunnelStream, WindowBudget
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.relay import subjects, tunnel_frames
from sovereign_protocols.relay.endpoint import Endpoint
from sovereign_protocols.relay.nats_wire import Message
from sovereign_protocols.relay.tunnel import INITIAL_WINDOW_BYTES, Tunnel
from sovereign_protocols.relay.tunnel_frames import CloseCode, FrameType, Opening

_log = structlog.get_logger(__name__)

# Inbound tunnels at a time; with the smallest window each they hold 16 MiB.
MAX_INBOUND_TUNNELS = 64
# Requests in a row, and then per second; each costs us two small messages.
_REQUEST_BURST = 64
_REQUESTS_PER_S = 16
_REMEMBERED_REQUESTS = 1024
_TIMER_INTERVAL_S = 5.0
_DIAL_TIMEOUT_S = 5.0
# How late a change of day may be noticed; subjects overlap by a whole day.
_DAY_CHECK_S = 600.0

Accept = Callable[[trio.abc.Stream], Awaitable[None]]


class Relay:
    """One relay: a NATS server, or several of one cluster.

    Args:
        endpoints: the servers, in order of preference; the first names the relay.
        public_key: 32 bytes, our own Ed25519 key.
        settings: how to connect.
        secret: rendezvous secret shared with the peers that may find us, or empty.
        clock: wall time, for the day.
        backoff: waits between attempts to connect.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        public_key: bytes,
        settings: ServerSettings | None = None,
        *,
        secret: bytes = b"",
        clock: Clock = wall_clock,
        backoff: Backoff | None = None,
    ) -> None:
        self.endpoint = endpoints[0]
        self._public_key = public_key
        self._secret = secret
        self._clock = clock
        self._client = NatsClient(endpoints, settings, backoff=backoff, on_connected=self._serve_connection)
        self._budget = WindowBudget()
        self._streams: dict[TunnelStream, int] = {}
        self._inbound: set[TunnelStream] = set()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._request_debt = 0.0
        self._request_at = 0.0
        self._accept: Accept | None = None
        self._nursery: trio.Nursery | None = None
        self._listening = trio.Event()

    @property
    def is_listening(self) -> bool:
        """Whether peers can reach us through the relay now."""
        return self._listening.is_set()

    async def wait_listening(self) -> None:
        """Wait until peers can reach us through the relay."""
        await self._listening.wait()

    def status(self) -> ClientStatus:
        """Describe the connection to the relay."""
        return self._client.status()

    @property
    def tunnels(self) -> int:
        """Number of open tunnels."""
        return len(self._streams)

    def retry_now(self) -> None:
        """Connect at once, and check a connection that seems to work."""
        self._client.retry_now()

    async def run(self, accept: Accept) -> None:
        """Stay connected and hand inbound tunnels to `accept`, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._accept = nursery, accept
            try:
                await self._client.run()
            finally:
                self._nursery = self._accept = None

    async def _serve_connection(self, connection: NatsConnection) -> None:
        """Wait at our subjects, and look after the tunnels, while the connection lasts."""
        days: dict[int, int] = {}
        next_check = trio.current_time()
        try:
            while True:
                now = trio.current_time()
                if now >= next_check:
                    next_check = now + _DAY_CHECK_S
                    self._follow_days(connection, days)
                    await connection.flush()
                    self._listening.set()
                for stream in list(self._streams):
                    stream.on_timer(now)
                await trio.sleep(_TIMER_INTERVAL_S)
        finally:
            if self._listening.is_set():
                self._listening = trio.Event()
            for stream in list(self._streams):
                stream.say_goodbye()

    def _follow_days(self, connection: NatsConnection, days: dict[int, int]) -> None:
        wanted = subjects.rendezvous_days(self._clock())
        for day in set(days) - set(wanted):
            connection.unsubscribe(days.pop(day))
        for day in wanted:
            if day not in days:
                subject = subjects.rendezvous_subject(self._public_key, day, secret=self._secret)
                days[day] = connection.subscribe(subject, self._on_request)

    # Accepting.

    def _on_request(self, message: Message) -> None:
        connection = self._client.connection
        if connection is None or self._accept is None or self._nursery is None or not self._may_answer():
            return
        try:
            kind, sequence = tunnel_frames.decode_head(message.payload)
            if kind is not FrameType.REQUEST or sequence != 0:
                return
            remote = tunnel_frames.decode_opening(message.payload)
        except RemoteProtocolError:
            return
        if remote.inbox in self._seen:
            return
        self._seen[remote.inbox] = None
        if len(self._seen) > _REMEMBERED_REQUESTS:
            self._seen.popitem(last=False)
        try:
            self._answer(connection, remote, self._accept, self._nursery)
        except RelayError as error:
            _log.debug("relay_request_unanswered", reason=str(error))

    def _may_answer(self) -> bool:
        now = trio.current_time()
        self._request_debt = max(0.0, self._request_debt - (now - self._request_at) * _REQUESTS_PER_S) + 1
        self._request_at = now
        return self._request_debt <= _REQUEST_BURST

    def _answer(self, connection: NatsConnection, remote: Opening, accept: Accept, nursery: trio.Nursery) -> None:
        peer_inbox = subjects.inbox_subject(remote.inbox)
        if len(self._inbound) >= MAX_INBOUND_TUNNELS:
            connection.publish_nowait(peer_inbox, tunnel_frames.encode_close(0, CloseCode.BUSY))
            return
        local = self._new_opening(connection)
        stream = self._open(connection, local, remote)
        self._inbound.add(stream)
        connection.publish_nowait(peer_inbox, tunnel_frames.encode_opening(FrameType.ACCEPT, local))
        nursery.start_soon(accept, stream)

    # Dialing.

    async def dial(self, public_key: bytes, *, timeout_s: float = _DIAL_TIMEOUT_S) -> TunnelStream:
        """Open a tunnel to a peer that waits on this relay.

        Args:
            public_key: 32 bytes, the peer's Ed25519 key.
            timeout_s: for connecting to the relay and hearing from the peer together.

        Raises:
            RelayUnreachableError: the relay does not work.
            PeerNotOnRelayError: it does, but the peer is not there or has no room.
        """
        try:
            with trio.fail_after(timeout_s):
                connection = await self._client.connected()
                return await self._dial(connection, public_key)
        except trio.TooSlowError as error:
            if self._client.connection is None:
                raise RelayUnreachableError(self.endpoint.url, "no answer in time") from error
            raise PeerNotOnRelayError(self.endpoint.url, "the peer does not answer") from error

    async def _dial(self, connection: NatsConnection, public_key: bytes) -> TunnelStream:
        day = subjects.day_of(self._clock())
        rendezvous = subjects.rendezvous_subject(public_key, day, secret=self._secret)
        local = self._new_opening(connection)
        inbox = subjects.inbox_subject(local.inbox)
        pending = PendingDial(lambda remote, sid: self._open(connection, local, remote, sid))
        sid = connection.subscribe(inbox, pending.on_message, pending.on_lost)
        pending.sid = sid
        try:
            request = tunnel_frames.encode_opening(FrameType.REQUEST, local)
            await connection.publish(rendezvous, request, reply=inbox)
            await pending.done.wait()
        except BaseException:
            connection.unsubscribe(sid)
            if pending.stream is not None:
                await trio.aclose_forcefully(pending.stream)
            raise
        if pending.stream is None:
            connection.unsubscribe(sid)
            raise PeerNotOnRelayError(self.endpoint.url, pending.reason)
        return pending.stream

    # Tunnels of both directions.

    def _new_opening(self, connection: NatsConnection) -> Opening:
        return Opening(
            secrets.token_bytes(subjects.INBOX_TOKEN_BYTES),
            INITIAL_WINDOW_BYTES,
            min(tunnel_frames.MAX_FRAME_BYTES, connection.max_payload_bytes),
        )

    def _open(
        self, connection: NatsConnection, local: Opening, remote: Opening, sid: int | None = None
    ) -> TunnelStream:
        tunnel = Tunnel(local, remote, max_payload_bytes=connection.max_payload_bytes, now=trio.current_time())
        own_inbox = subjects.inbox_subject(local.inbox)

        def on_closed(closed: TunnelStream) -> None:
            connection.unsubscribe(self._streams.pop(closed))
            self._inbound.discard(closed)

        stream = TunnelStream(
            connection,
            tunnel,
            own_inbox=own_inbox,
            peer_inbox=subjects.inbox_subject(remote.inbox),
            budget=self._budget,
            on_closed=on_closed,
        )
        if sid is None:
            sid = connection.subscribe(own_inbox, stream.on_message, stream.on_lost)
        self._streams[stream] = sid
        return stream
