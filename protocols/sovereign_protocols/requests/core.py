"""The two machines of one stream of requests, without clock or I/O.

Both sides say hello; then the caller sends requests with ids that count up, and the other side answers in order.

Source: protocols/specs/market.md, "States".
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from sovereign_protocols.errors import ConnectionLostError, ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol, encode_message

#: A caller that does not read answers must not fill the memory of the other side.
MAX_IN_FLIGHT: Final = 16


@unique
class StreamState(Enum):
    """Where one side of a stream is."""

    START = "start"
    GREETING = "greeting"
    READY = "ready"
    CLOSED = "closed"


@unique
class StreamEvent(Enum):
    """What moves it on."""

    HELLO_SENT = "hello_sent"
    HELLO_RECEIVED = "hello_received"
    REFUSED = "refused"
    ENDED = "ended"


_S = StreamState
_E = StreamEvent

CLIENT_TRANSITIONS: Final[Mapping[tuple[StreamState, StreamEvent], StreamState]] = {
    (_S.START, _E.HELLO_SENT): _S.GREETING,
    (_S.GREETING, _E.HELLO_RECEIVED): _S.READY,
    (_S.GREETING, _E.REFUSED): _S.CLOSED,
    (_S.START, _E.ENDED): _S.CLOSED,
    (_S.GREETING, _E.ENDED): _S.CLOSED,
    (_S.READY, _E.ENDED): _S.CLOSED,
}
SERVER_TRANSITIONS: Final[Mapping[tuple[StreamState, StreamEvent], StreamState]] = {
    (_S.START, _E.HELLO_RECEIVED): _S.GREETING,
    (_S.GREETING, _E.HELLO_SENT): _S.READY,
    (_S.GREETING, _E.REFUSED): _S.CLOSED,
    (_S.START, _E.ENDED): _S.CLOSED,
    (_S.GREETING, _E.ENDED): _S.CLOSED,
    (_S.READY, _E.ENDED): _S.CLOSED,
}


@dataclass(frozen=True)
class Received:
    """A message that arrived: hello and refusal of the hello have request id 0."""

    request_id: int
    message: Message


class _Stream:
    def __init__(
        self,
        transitions: Mapping[tuple[StreamState, StreamEvent], StreamState],
        protocol: RequestProtocol,
    ) -> None:
        self._transitions = transitions
        self._answers = protocol.answers
        self._last_id = 0
        self.state = StreamState.START
        self._decoder = FrameDecoder(lambda header, _payload: protocol.decode(header))
        self._pending: deque[Received] = deque()

    def _move(self, event: StreamEvent) -> None:
        try:
            self.state = self._transitions[self.state, event]
        except KeyError:
            raise LocalProtocolError(f"{event.value} while the stream is {self.state.value}") from None

    def _messages(self, data: bytes) -> list[tuple[int, Message]]:
        self._decoder.receive_data(data)
        found = []
        while (frame := self._decoder.next_frame()) is not None:
            found.append(frame[0])
        return found

    def next_event(self) -> Received | None:
        """Return the oldest message that was not taken yet."""
        return self._pending.popleft() if self._pending else None

    def receive_eof(self) -> None:
        """Note that the peer sends nothing more.

        Raises:
            RemoteProtocolError: it stopped inside a frame.
        """
        if self._decoder.mid_frame:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "the stream ended inside a frame")
        if self.state is not StreamState.CLOSED:
            self._move(StreamEvent.ENDED)


class ClientStream(_Stream):
    """The side that asks.

    Args:
        protocol: whose messages travel.
    """

    def __init__(self, protocol: RequestProtocol) -> None:
        super().__init__(CLIENT_TRANSITIONS, protocol)
        self._waiting: deque[tuple[int, type[Message]]] = deque()

    def greet(self, hello: Hello) -> bytes:
        """Give the bytes of the first message."""
        self._move(StreamEvent.HELLO_SENT)
        return encode_message(0, hello)

    def ask(self, message: Message) -> bytes:
        """Give the bytes of a request.

        Raises:
            LocalProtocolError: the stream is not ready, the message is no request, or too many wait already.
        """
        expected = self._answers.get(type(message))
        if expected is None or self.state is not StreamState.READY or len(self._waiting) >= MAX_IN_FLIGHT:
            raise LocalProtocolError(f"{type(message).__name__} cannot be sent now")
        self._last_id += 1
        self._waiting.append((self._last_id, expected))
        return encode_message(self._last_id, message)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the stream; messages are fetched with `next_event`.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        for request_id, message in self._messages(data):
            if self.state is StreamState.GREETING:
                self._take_greeting(request_id, message)
            else:
                self._take_answer(request_id, message)
            self._pending.append(Received(request_id, message))

    def _take_greeting(self, request_id: int, message: Message) -> None:
        if request_id != 0 or not isinstance(message, Hello | Refuse):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the first message is hello")
        self._move(StreamEvent.HELLO_RECEIVED if isinstance(message, Hello) else StreamEvent.REFUSED)

    def _take_answer(self, request_id: int, message: Message) -> None:
        if self.state is not StreamState.READY or not self._waiting:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "an answer without a question")
        expected_id, expected = self._waiting.popleft()
        if request_id != expected_id or not isinstance(message, expected | Refuse):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the answer to another question")

    def receive_eof(self) -> None:
        """Note that the peer sends nothing more.

        Raises:
            RemoteProtocolError: it stopped inside a frame.
            ConnectionLostError: a question has no answer.
        """
        waits = bool(self._waiting) or self.state is StreamState.GREETING
        super().receive_eof()
        if waits:
            raise ConnectionLostError("the stream ended before the answer came")


class ServerStream(_Stream):
    """The side that answers.

    Args:
        protocol: whose messages travel.
    """

    def __init__(self, protocol: RequestProtocol) -> None:
        super().__init__(SERVER_TRANSITIONS, protocol)
        self._unanswered: deque[tuple[int, type[Message]]] = deque()

    def greet(self, hello: Hello) -> bytes:
        """Give the bytes of the answer to the caller's hello."""
        self._move(StreamEvent.HELLO_SENT)
        return encode_message(0, hello)

    def refuse_greeting(self, refusal: Refuse) -> bytes:
        """Give the bytes that refuse the caller's hello; the stream ends."""
        self._move(StreamEvent.REFUSED)
        return encode_message(0, refusal)

    def answer(self, message: Message) -> bytes:
        """Give the bytes of the answer to the oldest open request.

        Raises:
            LocalProtocolError: nothing was asked, or this is no answer to it.
        """
        if not self._unanswered:
            raise LocalProtocolError("nothing was asked")
        request_id, asked = self._unanswered[0]
        if not isinstance(message, self._answers[asked] | Refuse):
            raise LocalProtocolError(f"{type(message).__name__} does not answer {asked.__name__}")
        self._unanswered.popleft()
        return encode_message(request_id, message)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the stream; messages are fetched with `next_event`.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        for request_id, message in self._messages(data):
            if self.state is StreamState.START:
                self._take_greeting(request_id, message)
            else:
                self._take_request(request_id, message)
            self._pending.append(Received(request_id, message))

    def _take_greeting(self, request_id: int, message: Message) -> None:
        if request_id != 0 or not isinstance(message, Hello):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the first message is hello")
        self._move(StreamEvent.HELLO_RECEIVED)

    def _take_request(self, request_id: int, message: Message) -> None:
        if self.state is not StreamState.READY or type(message) not in self._answers:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, f"{type(message).__name__} is no request")
        if request_id != self._last_id + 1:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "request ids count up by one")
        if len(self._unanswered) >= MAX_IN_FLIGHT:
            raise RemoteProtocolError(ErrorCode.BUSY, "too many requests in flight")
        self._last_id = request_id
        self._unanswered.append((request_id, type(message)))
