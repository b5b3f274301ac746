"""Messages of the NATS client protocol: encoders, and a parser whose memory is fixed when it is made.

The parser owns one buffer into which the socket reads directly, so a payload is copied once. A message above the
limit is skipped and reported, never kept: any client that knows a subject may publish to it, and a stranger's
large message must not end the connection.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError

CRLF: Final = b"\r\n"
PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
# The server's own default for what a client may send on one line; it sends us shorter ones, but for INFO.
MAX_LINE_BYTES: Final = 4_096
# INFO lists every address of a cluster.
MAX_INFO_BYTES: Final = 65_536
# A tunnel frame is at most 64 KiB; the rest is room for headers of the server's own notices.
MAX_MESSAGE_BYTES: Final = 131_072
_MAX_NUMBER_DIGITS: Final = 10
_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,256}")
_HEADER_MAGIC: Final = b"NATS/1.0"
NO_RESPONDERS: Final = 503


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself; claims of a stranger until TLS or Noise proves more.

    Attributes:
        version: version text.
        max_payload_bytes: largest payload that it accepts.
        tls_required: it closes connections that do not start TLS.
        tls_available: it lets a client start TLS.
        nonce: text to sign for NKey authentication, empty if it wants none.
        headers: it can send and take messages with headers.
    """

    version: str
    max_payload_bytes: int
    tls_required: bool
    tls_available: bool
    nonce: str
    headers: bool


@dataclass(slots=True)
class Message:
    """One delivered message.

    Attributes:
        sid: number of our subscription.
        subject: where it was published.
        reply: subject for an answer, or empty.
        payload: content, headers not included.
        status: number in the header line (503: nobody listens), 0 without one.
    """

    sid: int
    subject: str
    reply: str
    payload: bytes
    status: int = 0


@dataclass(slots=True)
class Skipped:
    """A message above the limit arrived for subscription `sid` and was thrown away."""

    sid: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The server wants a PONG."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The server has handled everything sent before the matching PING."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server refused something; it may close the connection after it."""

    text: str


Event = ServerInfo | Message | Skipped | Ping | Pong | ServerError


def encode_connect(fields: dict[str, Any]) -> bytes:
    """Encode CONNECT with its options."""
    return b"CONNECT " + json.dumps(fields, separators=(",", ":")).encode() + CRLF


def encode_publish(subject: str, payload_bytes: int, reply: str = "") -> bytes:
    """Encode the line before a payload; the payload and `CRLF` follow it."""
    if reply:
        return b"PUB %b %b %d\r\n" % (check_subject(subject), check_subject(reply), payload_bytes)
    return b"PUB %b %d\r\n" % (check_subject(subject), payload_bytes)


def encode_subscribe(subject: str, sid: int) -> bytes:
    """Encode SUB without a queue group."""
    return b"SUB %b %d\r\n" % (check_subject(subject), sid)


def encode_unsubscribe(sid: int) -> bytes:
    """Encode UNSUB with immediate effect."""
    return b"UNSUB %d\r\n" % sid


def check_subject(subject: str) -> bytes:
    """Return the bytes of a subject that cannot break out of its line.

    Raises:
        ValueError: empty, too long, not printable ASCII, or with a space.
    """
    if not _SUBJECT.fullmatch(subject):
        raise ValueError("a subject is 1 to 256 printable ASCII characters without spaces")
    return subject.encode("ascii")


def parse_info(raw: bytes) -> ServerInfo:
    """Read the JSON of INFO; unknown members are ignored.

    Raises:
        RemoteProtocolError: not an object, or a member has the wrong type.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _malformed("INFO is not JSON") from error
    if not isinstance(fields, dict):
        raise _malformed("INFO is not an object")
    max_payload = fields.get("max_payload", 1 << 20)
    nonce = fields.get("nonce", "")
    if type(max_payload) is not int or max_payload <= 0 or not isinstance(nonce, str) or len(nonce) > 256:
        raise _malformed("a member of INFO has the wrong type")
    return ServerInfo(
        version=str(fields.get("version", ""))[:64],
        max_payload_bytes=max_payload,
        tls_required=fields.get("tls_required") is True,
        tls_available=fields.get("tls_available") is True,
        nonce=nonce,
        headers=fields.get("headers") is True,
    )


@dataclass(slots=True)
class _Delivery:
    """The arguments of MSG or HMSG, while the payload is awaited."""

    sid: int
    subject: str
    reply: str
    header_bytes: int
    total_bytes: int


class NatsParser:
    """Cut what a server sends into events.

    Read into `writable()` and call `wrote(count)`, or hand over bytes with `receive_data`.

    Args:
        max_message_bytes: messages above this are skipped.
    """

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        size = max(2 * max_message_bytes, MAX_INFO_BYTES) + MAX_LINE_BYTES
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._skip_bytes = 0
        self._delivery: _Delivery | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes received and not yet part of an event."""
        return self._end - self._start

    def writable(self) -> memoryview:
        """Return the free part of the buffer, never empty; valid until the next call of any method."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._buffer) - self._end < len(self._buffer) // 4:
            count = self._end - self._start
            self._view[:count] = self._view[self._start : self._end]
            self._start, self._end = 0, count
        return self._view[self._end :]

    def wrote(self, count: int) -> list[Event]:
        """Parse `count` bytes that were put at the beginning of `writable()`.

        Raises:
            RemoteProtocolError: the server broke the protocol; the connection cannot go on.
        """
        self._end += count
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Copy and parse any number of bytes.

        Raises:
            RemoteProtocolError: the server broke the protocol; the connection cannot go on.
        """
        events: list[Event] = []
        with memoryview(data) as source:
            offset = 0
            while offset < len(source):
                target = self.writable()
                count = min(len(target), len(source) - offset)
                target[:count] = source[offset : offset + count]
                events += self.wrote(count)
                offset += count
        return events

    def _step(self, events: list[Event]) -> bool:
        if self._skip_bytes:
            count = min(self._skip_bytes, self._end - self._start)
            self._skip_bytes -= count
            self._start += count
            return self._skip_bytes == 0
        if self._delivery is not None:
            return self._finish_delivery(self._delivery, events)
        return self._take_line(events)

    def _take_line(self, events: list[Event]) -> bool:
        end = self._buffer.find(CRLF, self._start, self._end)
        length = (self._end if end < 0 else end) - self._start
        limit = MAX_INFO_BYTES if self._buffer[self._start : self._start + 4].upper() == b"INFO" else MAX_LINE_BYTES
        if length > limit:
            raise _malformed("a line is too long")
        if end < 0:
            return False
        line = bytes(self._view[self._start : end])
        self._start = end + 2
        self._dispatch(line, events)
        return True

    def _dispatch(self, line: bytes, events: list[Event]) -> None:
        operation, _, rest = line.partition(b" ")
        match operation.upper():
            case b"MSG":
                self._begin_delivery(rest.split(), False, events)
            case b"HMSG":
                self._begin_delivery(rest.split(), True, events)
            case b"PING":
                events.append(Ping())
            case b"PONG":
                events.append(Pong())
            case b"INFO":
                events.append(parse_info(rest))
            case b"-ERR":
                events.append(ServerError(rest.strip(b" '").decode("ascii", "replace")))
            case b"+OK":
                pass
            case _:
                raise _malformed("unknown operation")

    def _begin_delivery(self, words: list[bytes], with_headers: bool, events: list[Event]) -> None:
        numbers = 2 if with_headers else 1
        if len(words) not in (2 + numbers, 3 + numbers):
            raise _malformed("wrong number of arguments")
        sid, total = _number(words[1]), _number(words[-1])
        header = _number(words[-2]) if with_headers else 0
        if header > total:
            raise _malformed("headers are longer than the message")
        if total > self._max_message_bytes:
            events.append(Skipped(sid, total))
            self._skip_bytes = total + len(CRLF)
            return
        # A publisher chooses the reply subject, so it may hold any byte; it must not end our connection.
        reply = words[2] if len(words) == 3 + numbers else b""
        self._delivery = _Delivery(
            sid, words[0].decode("ascii", "replace"), reply.decode("ascii", "replace"), header, total
        )

    def _finish_delivery(self, delivery: _Delivery, events: list[Event]) -> bool:
        body = self._start + delivery.header_bytes
        end = self._start + delivery.total_bytes
        if self._end < end + len(CRLF):
            return False
        if self._buffer[end : end + 2] != CRLF:
            raise _malformed("a payload does not end where it should")
        status = _status(bytes(self._view[self._start : body])) if delivery.header_bytes else 0
        payload = bytes(self._view[body:end])
        events.append(Message(delivery.sid, delivery.subject, delivery.reply, payload, status))
        self._start = end + 2
        self._delivery = None
        return True


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > _MAX_NUMBER_DIGITS:
        raise _malformed("not a number")
    return int(word)


def _status(header: bytes) -> int:
    """Read the status of a header block; headers that a publisher made up count as none."""
    line = header.partition(CRLF)[0]
    word = line[len(_HEADER_MAGIC) :].strip().partition(b" ")[0]
    return int(word) if line.startswith(_HEADER_MAGIC) and word.isdigit() and len(word) == 3 else 0


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(ErrorCode.MALFORMED, detail)
