"""Frames of the money protocols: typed messages with closed schemas, hello and refusal.

A frame's header is the canonical CBOR of [type, request id, {fields}]; there is no payload.

Source: protocols/specs/market.md, "Framing".
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_crypto.schema import Check, bounded_bytes, check_schema, integer, text
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.framing import MAX_HEADER_BYTES, encode_frame
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.market.refusals import Reason, RefusedError

VERSION: Final = 1
MAX_CERTIFICATE_BYTES: Final = 1024
MAX_REQUEST_ID: Final = 2**32 - 1
MAX_FIGURES: Final = 8

_REASONS: Final = {str(reason) for reason in Reason}


def fields_schema(**fields: Check) -> Mapping[str, Check]:
    """Make the read-only schema of a message."""
    return MappingProxyType(fields)


def _is_figures(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_FIGURES
        and all(isinstance(name, str) and len(name) <= 32 and type(value[name]) is int for name in value)
    )


@dataclass(frozen=True)
class Message:
    """Base of all messages; `TYPE` and `SCHEMA` are those of the specification."""

    TYPE: ClassVar[int]
    SCHEMA: ClassVar[Mapping[str, Check]]


@dataclass(frozen=True)
class Hello(Message):
    """Who speaks: sent by both sides first.

    Args:
        time: the sender's clock, Unix seconds UTC.
        certificate: of the sender's device.
        version: newest version of the messages that it knows.
    """

    TYPE = 1
    SCHEMA = fields_schema(
        version=integer(1, 255),
        time=integer(0, MAX_TIME),
        certificate=bounded_bytes(MAX_CERTIFICATE_BYTES),
    )
    time: int
    certificate: bytes
    version: int = VERSION


@dataclass(frozen=True)
class Refuse(Message):
    """Why a request, or the hello, is refused.

    Args:
        reason: from the fixed list.
        figures: numbers that go with it.
    """

    TYPE = 15
    SCHEMA = fields_schema(reason=text(32), figures=_is_figures)
    reason: str
    figures: dict[str, int]

    def __post_init__(self) -> None:
        if self.reason not in _REASONS:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "the reason of a refusal is not in the list")

    @classmethod
    def of(cls, refusal: RefusedError) -> "Refuse":
        """Make the message that tells the peer about a refusal."""
        return cls(refusal.reason.value, dict(refusal.data))

    def to_error(self) -> RefusedError:
        """Make the error that tells our caller about it."""
        return RefusedError(Reason(self.reason), self.figures)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def encode_message(request_id: int, message: Message) -> bytes:
    """Give the frame of a message.

    Args:
        request_id: 0 for hello, else chosen by the caller and repeated in the answer.
        message: to send.

    Raises:
        MalformedError: a field is outside its bounds.
    """
    fields = {name.name: _plain(getattr(message, name.name)) for name in dataclasses.fields(message)}
    return encode_frame(cbor.encode([message.TYPE, request_id, check_schema(fields, message.SCHEMA)]))


@dataclass(frozen=True)
class RequestProtocol:
    """One protocol of requests and answers.

    Args:
        answers: which message answers which request.
        decode: reads a header: request id and message; it raises RemoteProtocolError, code malformed.
    """

    answers: Mapping[type[Message], type[Message]]
    decode: Callable[[bytes], tuple[int, Message]]

    @classmethod
    def of(
        cls, kinds: Iterable[type[Message]], answers: Mapping[type[Message], type[Message]]
    ) -> "RequestProtocol":
        """Describe a protocol by all its messages and the answers to its requests."""
        return cls(answers, make_decoder(kinds))


def make_decoder(kinds: Iterable[type[Message]]) -> Callable[[bytes], tuple[int, Message]]:
    """Make the reader of one protocol's headers.

    Args:
        kinds: all its messages.

    Returns:
        A function from a header to request id and message; it raises RemoteProtocolError, code malformed.
    """
    classes = {kind.TYPE: kind for kind in kinds}

    def decode(header: bytes) -> tuple[int, Message]:
        try:
            value = cbor.decode(header, max_bytes=MAX_HEADER_BYTES)
            if not (isinstance(value, list) and len(value) == 3 and integer(0, MAX_REQUEST_ID)(value[1])):
                raise RemoteProtocolError(ErrorCode.MALFORMED, "not a message")
            kind = classes.get(value[0]) if type(value[0]) is int else None
            if kind is None:
                raise RemoteProtocolError(ErrorCode.MALFORMED, "unknown message type")
            body = check_schema(value[2], kind.SCHEMA)
        except CryptoError as error:
            raise RemoteProtocolError(ErrorCode.MALFORMED, str(error)) from error
        return value[1], kind(**{name: _frozen(item) for name, item in body.items()})

    return decode
