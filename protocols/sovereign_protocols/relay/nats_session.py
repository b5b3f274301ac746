"""One connection to a NATS server as a state machine: greeting, TLS, authentication, then messages.

The session reads no clock and does no I/O. Feed it through `writable` and `wrote`, send what `take_output` returns,
and act on the events.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.relay import nats_wire
from sovereign_protocols.relay.credentials import NatsCredentials
from sovereign_protocols.relay.nats_wire import Message, NatsParser, Ping, Pong, ServerError, ServerInfo, Skipped


class SessionState(Enum):
    """Where a session is."""

    WAIT_INFO = auto()
    WAIT_TLS = auto()
    WAIT_PONG = auto()
    READY = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class StartTls:
    """Run the TLS handshake on the connection now, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The server accepted us."""

    info: ServerInfo


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not accept us; it closes the connection."""

    text: str


SessionEvent = StartTls | Ready | Refused | Message | Skipped | Pong | ServerError

# Refusals that leave the connection as it is; after any other -ERR the server closes it.
_HARMLESS_ERRORS: Final = ("permissions violation", "invalid subject")


def is_fatal(error: ServerError) -> bool:
    """Say whether the server closes the connection after this error."""
    return not error.text.lower().startswith(_HARMLESS_ERRORS)


class NatsSession:
    """The client's side of one connection.

    Args:
        credentials: how to authenticate.
        tls: whether TLS is required by us; a server may require it too.
        max_message_bytes: messages above this are skipped.
    """

    def __init__(
        self,
        credentials: NatsCredentials,
        *,
        tls: bool,
        max_message_bytes: int = nats_wire.MAX_MESSAGE_BYTES,
    ) -> None:
        self._credentials = credentials
        self._tls = tls
        self._parser = NatsParser(max_message_bytes=max_message_bytes)
        self._output: list[bytes] = []
        self._next_sid = 1
        self.state = SessionState.WAIT_INFO
        self.info: ServerInfo | None = None

    def writable(self) -> memoryview:
        """Return where to put received bytes; valid until the next call."""
        return self._parser.writable()

    def wrote(self, count: int) -> list[SessionEvent]:
        """Handle `count` received bytes.

        Raises:
            RemoteProtocolError: the server broke the protocol.
        """
        try:
            events: list[SessionEvent] = []
            for event in self._parser.wrote(count):
                self._handle(event, events)
        except RemoteProtocolError:
            self.state = SessionState.CLOSED
            raise
        return events

    def tls_started(self) -> None:
        """Go on inside TLS."""
        self._expect(SessionState.WAIT_TLS)
        self._greet()

    def take_output(self) -> list[bytes]:
        """Return what must be sent, in order."""
        output, self._output = self._output, []
        return output

    def subscribe(self, subject: str) -> tuple[int, bytes]:
        """Begin a subscription; returns its number and the bytes to send."""
        self._expect(SessionState.READY)
        sid = self._next_sid
        self._next_sid += 1
        return sid, nats_wire.encode_subscribe(subject, sid)

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload that the server takes."""
        if self.info is None:
            raise LocalProtocolError("the server has not introduced itself")
        return self.info.max_payload_bytes

    def _handle(self, event: nats_wire.Event, events: list[SessionEvent]) -> None:
        if isinstance(event, ServerInfo):
            self._on_info(event, events)
        elif self.state is SessionState.READY:
            if isinstance(event, Ping):
                self._output.append(nats_wire.PONG)
            else:
                events.append(event)
        elif isinstance(event, ServerError):
            self.state = SessionState.CLOSED
            events.append(Refused(event.text))
        elif self.state is not SessionState.WAIT_PONG:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the server did not introduce itself first")
        elif isinstance(event, Pong):
            assert self.info is not None
            self.state = SessionState.READY
            events.append(Ready(self.info))
        elif isinstance(event, Ping):
            self._output.append(nats_wire.PONG)

    def _on_info(self, info: ServerInfo, events: list[SessionEvent]) -> None:
        if self.state is SessionState.WAIT_TLS:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the server speaks before TLS")
        self.info = info
        if self.state is not SessionState.WAIT_INFO:
            return
        if self._tls or info.tls_required:
            # Whatever follows INFO in clear was put there by someone who wants it read as if inside TLS.
            if self._parser.pending_bytes:
                raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the server speaks before TLS")
            if not info.tls_required and not info.tls_available:
                raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the server does not offer TLS")
            self._tls = True
            self.state = SessionState.WAIT_TLS
            events.append(StartTls())
        else:
            self._greet()

    def _greet(self) -> None:
        assert self.info is not None
        fields = {
            "verbose": False,
            "pedantic": False,
            "tls_required": self._tls,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "echo": False,
            "headers": self.info.headers,
            "no_responders": self.info.headers,
            **self._credentials.connect_fields(self.info.nonce),
        }
        self._output += [nats_wire.encode_connect(fields), nats_wire.PING]
        self.state = SessionState.WAIT_PONG

    def _expect(self, state: SessionState) -> None:
        if self.state is not state:
            raise LocalProtocolError(f"the session is {self.state.name}, not {state.name}")
