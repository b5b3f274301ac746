"""The server's state machine: which message may come when, and how many bytes may be under way."""

from enum import Enum
from typing import Any, Final

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.endpoint import Endpoint
from sovereign_protocols.chunk.messages import (
    CLIENT_MESSAGES,
    Cancel,
    Chunk,
    Credit,
    Done,
    Failure,
    HaveReply,
    Hello,
    HelloReply,
    ListReply,
    LogAccepted,
    LogEntry,
    LogReply,
    Message,
    Ping,
    Put,
    RecoveryGet,
    Stored,
    UsageReply,
)
from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.framing import Payload


class State(Enum):
    """Where a session stands, as the server sees it."""

    HELLO = "waits for hello"
    DECIDING = "looks at hello or at the log"
    LOG = "waits for entries of the identity log"
    STRANGER = "serves a caller without a certificate"
    READY = "serves"
    CLOSED = "closed"


#: Messages that may come in each state.
ALLOWED: Final[dict[State, frozenset[type[Any]]]] = {
    State.HELLO: frozenset({Hello}),
    State.DECIDING: frozenset(),
    State.LOG: frozenset({LogEntry}),
    State.STRANGER: frozenset({Ping, RecoveryGet}),
    State.READY: CLIENT_MESSAGES - {Hello, LogEntry},
    State.CLOSED: frozenset(),
}

#: (state, what happens) -> next state; the specification's diagram is compared with this table.
TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.HELLO, "hello received"): State.DECIDING,
    (State.DECIDING, "log wanted"): State.LOG,
    (State.LOG, "log received"): State.DECIDING,
    (State.DECIDING, "accepted"): State.READY,
    (State.DECIDING, "accepted without certificate"): State.STRANGER,
    (State.HELLO, "failed"): State.CLOSED,
    (State.DECIDING, "failed"): State.CLOSED,
    (State.LOG, "failed"): State.CLOSED,
    (State.STRANGER, "failed"): State.CLOSED,
    (State.READY, "failed"): State.CLOSED,
}
_LAST_REPLIES: Final = (Done, HaveReply, ListReply, UsageReply, Failure)


class ServerCore(Endpoint):
    """One session at the server.

    Args:
        now: seconds on a steady clock.
        window_bytes: chunk bytes that the client may send without an acknowledgement.
    """

    def __init__(self, now: float, *, window_bytes: int = limits.DEFAULT_WINDOW_BYTES) -> None:
        super().__init__(now)
        self.state = State.HELLO
        self.window_bytes = window_bytes
        self.get_credit_bytes = 0
        self._get_window_bytes = 0
        #: Payload bytes announced by the client and not yet answered.
        self.held_bytes = 0
        self._last_request_id = -1
        self._pending: dict[int, Message] = {}
        self._sizes: dict[int, int] = {}
        self._requests = 0
        self._log_remaining = 0
        self._began_at = now

    @property
    def is_waiting(self) -> bool:
        """True while no request is in work and nothing waits to be sent."""
        return not self._pending and not self.outgoing_bytes

    @property
    def deadline(self) -> float:
        """When the client must have sent more."""
        if self.state in (State.HELLO, State.LOG):
            # A log may be long: its entries share the time of a frame as long as all of them.
            log_bytes = self._log_remaining * limits.MAX_LOG_ENTRY_BYTES
            return self._began_at + limits.HELLO_TIMEOUT_S + log_bytes / limits.MIN_RATE_BYTES_PER_S
        return super().deadline

    def next_event(self) -> tuple[Message, Payload] | None:
        """Return the next message that the server has to act on, with its payload.

        Raises:
            RemoteProtocolError: a window or the number of requests was exceeded.
        """
        while (frame := self._decoder.next_frame()) is not None:
            message, payload = frame
            if isinstance(message, Credit):
                self._add_credit(message)
            else:
                return message, payload
        return None

    def want_log(self, known: int, claimed: int, reply: HelloReply) -> None:
        """Answer a hello whose sender knows more of its identity log than this server."""
        self._step("log wanted")
        self._log_remaining = claimed - known
        self._queue(reply)

    def accept(self, reply: HelloReply | LogAccepted, *, window_bytes: int, is_stranger: bool = False) -> None:
        """Open the session; `window_bytes` is what the client offered for gets."""
        self._step("accepted without certificate" if is_stranger else "accepted")
        self._get_window_bytes = self.get_credit_bytes = window_bytes
        self._queue(reply)

    def fail(self, code: ErrorCode, data: dict[str, int | bytes] | None = None) -> None:
        """End the session with a last message."""
        if self.state is not State.CLOSED:
            self._step("failed")
            self._queue(Failure(None, code, data or {}))

    def send(self, message: Message, payload: Payload | None = None) -> None:
        """Queue an answer and account for it."""
        payload = payload or Payload()
        if isinstance(message, Stored):
            for request_id in message.request_ids:
                self._release(request_id)
        elif isinstance(message, Chunk):
            if len(payload) > self.get_credit_bytes:
                raise LocalProtocolError("more chunk bytes than the client's window")
            self.get_credit_bytes -= len(payload)
        elif isinstance(message, _LAST_REPLIES) or (isinstance(message, LogReply) and not message.remaining):
            self._release(message.request_id)
        self._queue(message, payload)

    def _step(self, event: str) -> None:
        if (self.state, event) not in TRANSITIONS:
            raise LocalProtocolError(f"{event} while the session {self.state.value}")
        self.state = TRANSITIONS[self.state, event]

    def _check_message(self, message: Message, payload_bytes: int) -> None:
        if type(message) not in ALLOWED[self.state]:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, type(message).__name__)
        if isinstance(message, Hello):
            if not limits.MIN_WINDOW_BYTES <= message.window_bytes <= limits.MAX_WINDOW_BYTES:
                raise RemoteProtocolError(ErrorCode.MALFORMED, "window")
            if message.log_length > limits.MAX_LOG_ENTRIES:
                raise RemoteProtocolError(ErrorCode.TOO_LARGE, "identity log")
            self._step("hello received")
        elif isinstance(message, LogEntry):
            self._log_remaining -= 1
            if message.remaining != self._log_remaining:
                raise RemoteProtocolError(ErrorCode.MALFORMED, "entries do not count down")
            if not self._log_remaining:
                self._step("log received")
        elif not isinstance(message, Credit | Cancel):
            self._admit(message, payload_bytes)

    def _admit(self, message: Any, payload_bytes: int) -> None:
        if message.request_id <= self._last_request_id:
            raise RemoteProtocolError(ErrorCode.REPLAY, "request ids must grow")
        self._last_request_id = message.request_id
        if self.held_bytes + payload_bytes > self.window_bytes:
            raise RemoteProtocolError(ErrorCode.TOO_LARGE, "more bytes than the window")
        if not isinstance(message, Put):
            if self._requests >= limits.MAX_PENDING_REQUESTS:
                raise RemoteProtocolError(ErrorCode.BUSY, "too many requests at once")
            self._requests += 1
        self._pending[message.request_id] = message
        self._sizes[message.request_id] = payload_bytes
        self.held_bytes += payload_bytes

    def _release(self, request_id: int | None) -> None:
        if request_id is None or request_id not in self._pending:
            raise LocalProtocolError("an answer to nothing")
        if not isinstance(self._pending.pop(request_id), Put):
            self._requests -= 1
        self.held_bytes -= self._sizes.pop(request_id)

    def _add_credit(self, message: Credit) -> None:
        self.get_credit_bytes += message.size_bytes
        if self.get_credit_bytes > self._get_window_bytes:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "credit for what was not sent")
