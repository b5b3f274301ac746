"""The client's state machine: requests in work, their answers, and the bytes under way in both directions."""

from enum import Enum
from typing import Any, Final

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.endpoint import Endpoint
from sovereign_protocols.chunk.messages import (
    SERVER_MESSAGES,
    Chunk,
    Credit,
    Delete,
    Done,
    Failure,
    Get,
    Have,
    HaveReply,
    Head,
    HeadGet,
    HeadSet,
    Hello,
    HelloReply,
    List,
    ListReply,
    LogAccepted,
    LogEntry,
    LogGet,
    LogReply,
    Message,
    Missing,
    Ping,
    Put,
    Recovery,
    RecoveryGet,
    RecoverySet,
    Stored,
    Undelete,
    UsageGet,
    UsageReply,
)
from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.framing import Payload


class State(Enum):
    """Where a session stands, as the client sees it."""

    NEW = "has not begun"
    HELLO = "waits for the answer to hello"
    LOG = "waits until the identity log is accepted"
    READY = "can ask"
    CLOSED = "closed"


#: Messages that may come in each state.
ALLOWED: Final[dict[State, frozenset[type[Any]]]] = {
    State.NEW: frozenset(),
    State.HELLO: frozenset({HelloReply, Failure}),
    State.LOG: frozenset({LogAccepted, Failure}),
    State.READY: SERVER_MESSAGES - {HelloReply, LogAccepted},
    State.CLOSED: frozenset(),
}

#: (state, what happens) -> next state.
TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.NEW, "hello sent"): State.HELLO,
    (State.HELLO, "server lacks entries"): State.LOG,
    (State.HELLO, "accepted"): State.READY,
    (State.LOG, "accepted"): State.READY,
    (State.HELLO, "failed"): State.CLOSED,
    (State.LOG, "failed"): State.CLOSED,
    (State.READY, "failed"): State.CLOSED,
}

#: What may answer each request; `Failure` may answer any.
ANSWERS: Final[dict[type[Any], tuple[type[Any], ...]]] = {
    LogGet: (LogReply,),
    Ping: (Done,),
    Have: (HaveReply,),
    List: (ListReply,),
    Put: (Stored,),
    Get: (Chunk, Missing, Done),
    Delete: (Done,),
    Undelete: (Done,),
    HeadSet: (Done,),
    HeadGet: (Head, Done),
    UsageGet: (UsageReply,),
    RecoverySet: (Done,),
    RecoveryGet: (Recovery, Done),
}


class ClientCore(Endpoint):
    """One session at the client.

    Args:
        now: seconds on a steady clock.
        window_bytes: chunk bytes that this client is ready to hold unread.
    """

    def __init__(self, now: float, *, window_bytes: int = limits.DEFAULT_WINDOW_BYTES) -> None:
        super().__init__(now)
        self.state = State.NEW
        self._log: tuple[bytes, ...] = ()
        self._get_window_bytes = window_bytes
        self._get_bytes_in_flight = 0
        self.put_window_bytes = 0
        self.server_clock_at = 0
        self._sizes: dict[int, int] = {}
        self.bytes_in_flight = 0
        self._next_request_id = 0
        self._pending: dict[int, Message] = {}
        self._wanted: dict[int, set[bytes]] = {}

    @property
    def is_waiting(self) -> bool:
        """False: a client waits for its server as long as its caller does."""
        return False

    def next_request_id(self) -> int:
        """Return the id for the next request; ids must be used in the order in which they were given."""
        self._next_request_id += 1
        return self._next_request_id

    def hello(self, hello: Hello, log: tuple[bytes, ...]) -> None:
        """Queue the first message; `log` is this identity's log, sent as far as the server lacks it."""
        self._step("hello sent")
        self._log = log
        self._queue(hello)

    def send(self, message: Message, payload: Payload | None = None) -> None:
        """Queue a request, or credit for chunks that the caller has taken."""
        if self.state is not State.READY:
            raise LocalProtocolError(f"the session {self.state.value}")
        payload = payload or Payload()
        if isinstance(message, Credit):
            self._get_bytes_in_flight -= message.size_bytes
        elif type(message) in ANSWERS:
            request: Any = message
            self._pending[request.request_id] = message
            if isinstance(message, Get):
                self._wanted[message.request_id] = set(message.chunk_ids)
            self._sizes[request.request_id] = len(payload)
            self.bytes_in_flight += len(payload)
        self._queue(message, payload)

    def can_send(self, payload_bytes: int) -> bool:
        """Tell whether the server's window has room for a payload of this size."""
        return self.bytes_in_flight + payload_bytes <= self.put_window_bytes

    def next_event(self) -> tuple[Message, Payload] | None:
        """Return the next answer with its payload; hello and log are handled inside.

        Raises:
            RemoteProtocolError: the server answered what was not asked.
        """
        while (frame := self._decoder.next_frame()) is not None:
            message, payload = frame
            if isinstance(message, HelloReply):
                self._accept_hello(message)
            elif isinstance(message, LogAccepted):
                self._step("accepted")
            elif isinstance(message, Failure) and message.request_id is None:
                self._step("failed")
            else:
                self._settle(message)
            return message, payload
        return None

    def is_pending(self, request_id: int) -> bool:
        """Tell whether more answers to a request may come."""
        return request_id in self._pending

    def _step(self, event: str) -> None:
        if (self.state, event) not in TRANSITIONS:
            raise LocalProtocolError(f"{event} while the session {self.state.value}")
        self.state = TRANSITIONS[self.state, event]

    def _check_message(self, message: Message, payload_bytes: int) -> None:
        if type(message) not in ALLOWED[self.state]:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, type(message).__name__)
        if isinstance(message, Chunk):
            if message.chunk_id not in self._wanted.get(message.request_id, ()):
                raise RemoteProtocolError(ErrorCode.UNEXPECTED, "a chunk that was not asked for")
            self._get_bytes_in_flight += payload_bytes
            if self._get_bytes_in_flight > self._get_window_bytes:
                raise RemoteProtocolError(ErrorCode.TOO_LARGE, "more chunk bytes than the window")

    def _accept_hello(self, reply: HelloReply) -> None:
        if not limits.MIN_WINDOW_BYTES <= reply.window_bytes <= limits.MAX_WINDOW_BYTES:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "window")
        self.put_window_bytes = reply.window_bytes
        self.server_clock_at = reply.clock_at
        missing = self._log[reply.log_length :]
        if not missing:
            self._step("accepted")
            return
        self._step("server lacks entries")
        for position, entry in enumerate(missing):
            self._queue(LogEntry(len(missing) - position - 1), Payload([entry]))

    def _settle(self, message: Any) -> None:
        if isinstance(message, Stored):
            for request_id in message.request_ids:
                self._finish(request_id, Stored)
            return
        request_id = message.request_id
        if isinstance(message, Chunk | Missing):
            self._settle_ids(message)
        elif isinstance(message, Head | Recovery) or (isinstance(message, LogReply) and message.remaining):
            self._check_answer(request_id, type(message))
        else:
            self._finish(request_id, type(message))

    def _settle_ids(self, message: Chunk | Missing) -> None:
        wanted = self._wanted.get(message.request_id, set())
        ids = {message.chunk_id} if isinstance(message, Chunk) else set(message.chunk_ids)
        if not ids <= wanted:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "an answer for a chunk that was not asked for")
        wanted -= ids

    def _check_answer(self, request_id: int, kind: type[Any]) -> None:
        request = self._pending.get(request_id)
        if request is None or (kind is not Failure and kind not in ANSWERS[type(request)]):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, f"{kind.__name__} for request {request_id}")

    def _finish(self, request_id: int, kind: type[Any]) -> None:
        self._check_answer(request_id, kind)
        del self._pending[request_id]
        self._wanted.pop(request_id, None)
        self.bytes_in_flight -= self._sizes.pop(request_id)
