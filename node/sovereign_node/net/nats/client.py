"""A NATS client that stays connected: several servers, reconnection with backoff, lasting subscriptions."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from sovereign_node.net.nats.connection import MessageHandler, NatsConnection, ServerSettings, open_connection
from sovereign_node.net.nats.errors import RelayLostError, RelayRefusedError, RelayUnreachableError
from sovereign_protocols.relay.endpoint import Endpoint

_SHORTEST_WAIT_S = 0.1

_log = structlog.get_logger(__name__)


class Backoff:
    """Growing waits, spread so that the clients of a restarted server do not return all at once.

    Args:
        minimum_s: base of the first wait.
        maximum_s: base of the longest wait.
        draw: returns a number from 0 to 1.
    """

    def __init__(
        self, *, minimum_s: float = 0.25, maximum_s: float = 30.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s
        self._draw = draw
        self._base_s = minimum_s

    def next_wait_s(self) -> float:
        """Return half of the base to the whole base, and double the base."""
        wait_s = self._base_s * (0.5 + 0.5 * self._draw())
        self._base_s = min(self._maximum_s, 2 * self._base_s)
        return wait_s

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._base_s = self._minimum_s


class ConnectionHook(Protocol):
    """Work that lives as long as one connection."""

    async def __call__(self, connection: NatsConnection) -> None:
        """Run beside the connection; cancelled when it ends."""
        ...


@dataclass(frozen=True)
class ClientStatus:
    """What a user may want to know of a relay.

    Attributes:
        server: URL of the server in use, or of the last one tried.
        connected: whether messages flow.
        connects: how often a connection was made.
        last_error: why the last attempt or connection ended, or empty.
    """

    server: str
    connected: bool
    connects: int
    last_error: str


class NatsClient:
    """A connection to the first of several equal servers that works.

    Args:
        endpoints: at least one server; all of one cluster, or else peers do not meet.
        settings: how to connect.
        backoff: waits between rounds of attempts.
        on_connected: runs beside every connection.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        settings: ServerSettings | None = None,
        *,
        backoff: Backoff | None = None,
        on_connected: ConnectionHook | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("a client needs at least one server")
        self._endpoints = list(endpoints)
        self._settings = settings or ServerSettings()
        self._backoff = backoff or Backoff()
        self._on_connected = on_connected
        self._lasting: dict[int, tuple[str, MessageHandler]] = {}
        self._lasting_sids: dict[int, int] = {}
        self._next_key = 0
        self._connection: NatsConnection | None = None
        self._outcome = trio.Event()
        self._hurry = trio.Event()
        self._server = self._endpoints[0]
        self._connects = 0
        self._last_error = ""

    @property
    def connection(self) -> NatsConnection | None:
        """The connection that works now, if any."""
        return self._working()

    def status(self) -> ClientStatus:
        """Describe the client as it is now."""
        return ClientStatus(self._server.url, self._working() is not None, self._connects, self._last_error)

    async def run(self) -> None:
        """Connect, and connect again whenever the connection ends, until cancelled."""
        turn = 0
        while True:
            self._server = self._endpoints[turn % len(self._endpoints)]
            try:
                await self._one_connection()
            except RelayUnreachableError as error:
                self._note(error)
                turn += 1
                # The other servers of the list are tried at once, the first one after them only after a wait.
                if turn % len(self._endpoints) == 0 or isinstance(error, RelayLostError):
                    await self._wait()

    async def _one_connection(self) -> None:
        connection = await open_connection(self._server, self._settings)
        self._connects += 1
        self._last_error = ""
        self._backoff.reset()
        _log.info("relay_connected", server=self._server.url)
        try:
            await connection.run(lambda: self._begin(connection))
        finally:
            self._connection = None
            self._lasting_sids = {}

    async def _begin(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._lasting_sids = {
            key: connection.subscribe(subject, handler) for key, (subject, handler) in self._lasting.items()
        }
        self._announce()
        if self._on_connected is not None:
            await self._on_connected(connection)

    def _note(self, error: RelayUnreachableError) -> None:
        if error.reason != self._last_error:
            # Once for each reason: a relay that is down for a day must not fill the log.
            event = "relay_refused_us" if isinstance(error, RelayRefusedError) else "relay_unreachable"
            _log.warning(event, server=error.server, reason=error.reason)
        self._last_error = error.reason
        self._announce()

    def _announce(self) -> None:
        self._outcome.set()
        self._outcome = trio.Event()

    async def _wait(self) -> None:
        self._hurry = trio.Event()
        wait_s = self._backoff.next_wait_s()
        # However often somebody asks, a dead server is not tried more than ten times a second.
        held_s = min(wait_s, _SHORTEST_WAIT_S)
        await trio.sleep(held_s)
        with trio.move_on_after(wait_s - held_s):
            await self._hurry.wait()

    async def connected(self) -> NatsConnection:
        """Return the connection, waiting for the attempt under way or causing one; put a deadline around it.

        Raises:
            RelayUnreachableError: that attempt failed.
        """
        await trio.lowlevel.checkpoint()
        if self._working() is None:
            self._hurry.set()
            await self._outcome.wait()
        connection = self._working()
        if connection is None:
            raise RelayUnreachableError(self._server.url, self._last_error)
        return connection

    def _working(self) -> NatsConnection | None:
        connection = self._connection
        return None if connection is None or connection.closed.is_set() else connection

    def retry_now(self) -> None:
        """Do not wait for the next attempt, and check a connection that seems to work.

        For when the network has changed, or the machine woke up.
        """
        self._backoff.reset()
        self._hurry.set()
        connection = self._working()
        if connection is not None:
            connection.probe()

    def subscribe(self, subject: str, on_message: MessageHandler) -> int:
        """Receive what is published to `subject`, now and after every reconnection.

        Returns:
            A number for `unsubscribe`.
        """
        self._next_key += 1
        key = self._next_key
        self._lasting[key] = (subject, on_message)
        connection = self._working()
        if connection is not None:
            self._lasting_sids[key] = connection.subscribe(subject, on_message)
        return key

    def unsubscribe(self, key: int) -> None:
        """End a subscription."""
        self._lasting.pop(key, None)
        sid = self._lasting_sids.pop(key, None)
        if sid is not None and self._connection is not None:
            self._connection.unsubscribe(sid)
