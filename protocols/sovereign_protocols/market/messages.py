"""Messages of `/sovereign/market/1.0.0`: frozen dataclasses, one closed schema each.

A frame's header is the canonical CBOR of [type, request id, {fields}]; there is no payload.

Source: protocols/specs/market.md, "Messages".
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_crypto.schema import Check, bounded_bytes, byte_string, check_schema, integer, list_of, text
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.framing import MAX_HEADER_BYTES, encode_frame
from sovereign_protocols.market.acts import MAX_ACT_BYTES
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.offer import MAX_BYTES, MAX_OFFER_BYTES, MAX_TIME
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import MAX_TERMS_BYTES

PROTOCOL_ID: Final = "/sovereign/market/1.0.0"
VERSION: Final = 1
MAX_CERTIFICATE_BYTES: Final = 1024
MAX_REQUEST_ID: Final = 2**32 - 1
#: 13 items of two signed terms each fit one frame.
MAX_LIST_ITEMS: Final = 13
MAX_LANES: Final = 64
MAX_VOUCHER_BYTES: Final = 512
MAX_STATEMENT_BYTES: Final = 2048
MAX_FIGURES: Final = 8

_STATES: Final = {str(state) for state in ContractState}
_REASONS: Final = {str(reason) for reason in Reason}


def _is_state(value: object) -> bool:
    return value in _STATES


def _is_figures(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_FIGURES
        and all(isinstance(name, str) and len(name) <= 32 and type(value[name]) is int for name in value)
    )


def _schema(**fields: Check) -> Mapping[str, Check]:
    return MappingProxyType(fields)


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
    SCHEMA = _schema(
        version=integer(1, 255),
        time=integer(0, MAX_TIME),
        certificate=bounded_bytes(MAX_CERTIFICATE_BYTES),
    )
    time: int
    certificate: bytes
    version: int = VERSION


@dataclass(frozen=True)
class OfferQuery(Message):
    """Ask for the current offer."""

    TYPE = 2
    SCHEMA = _schema()


@dataclass(frozen=True)
class OfferAnswer(Message):
    """The current offer, signed."""

    TYPE = 3
    SCHEMA = _schema(offer=bounded_bytes(MAX_OFFER_BYTES))
    offer: bytes


@dataclass(frozen=True)
class Propose(Message):
    """Terms of a new contract, signed by the customer."""

    TYPE = 4
    SCHEMA = _schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Accept(Message):
    """The same terms, signed by the other party."""

    TYPE = 5
    SCHEMA = _schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Amend(Message):
    """The next revision of a contract's terms, signed by the customer."""

    TYPE = 6
    SCHEMA = _schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Notice(Message):
    """A signed act that needs no second signature."""

    TYPE = 7
    SCHEMA = _schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class NoticeKept(Message):
    """The notice is stored durably."""

    TYPE = 8
    SCHEMA = _schema(hash=byte_string(32))
    hash: bytes


@dataclass(frozen=True)
class Close(Message):
    """A close, signed by the sender."""

    TYPE = 9
    SCHEMA = _schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class Closed(Message):
    """The same close, signed by the other party."""

    TYPE = 10
    SCHEMA = _schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class StateQuery(Message):
    """Ask for everything that a party must know after losing its database."""

    TYPE = 11
    SCHEMA = _schema(contract=byte_string(32))
    contract: bytes


@dataclass(frozen=True)
class LatestState(Message):
    """The newest state of one contract.

    Args:
        contract: id, 32 bytes.
        state: name of the state.
        customer_terms: revision in force, as the customer signed it.
        provider_terms: the same, as the provider signed it.
        stored_bytes: what is stored now.
        stored_chunks: how many chunks.
        vouchers: newest voucher of each lane.
        statement: newest statement with both signatures, or empty.
    """

    TYPE = 12
    SCHEMA = _schema(
        contract=byte_string(32),
        state=_is_state,
        customer_terms=bounded_bytes(MAX_TERMS_BYTES),
        provider_terms=bounded_bytes(MAX_TERMS_BYTES),
        stored_bytes=integer(0, MAX_BYTES),
        stored_chunks=integer(0, MAX_BYTES),
        vouchers=list_of(bounded_bytes(MAX_VOUCHER_BYTES), MAX_LANES),
        statement=bounded_bytes(MAX_STATEMENT_BYTES),
    )
    contract: bytes
    state: str
    customer_terms: bytes
    provider_terms: bytes
    stored_bytes: int
    stored_chunks: int
    vouchers: tuple[bytes, ...] = ()
    statement: bytes = b""


@dataclass(frozen=True)
class ListQuery(Message):
    """Ask for the caller's contracts with ids above `after`."""

    TYPE = 13
    SCHEMA = _schema(after=byte_string(32), limit=integer(1, MAX_LIST_ITEMS))
    after: bytes = bytes(32)
    limit: int = MAX_LIST_ITEMS


def _is_item(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and byte_string(32)(value[0])
        and _is_state(value[1])
        and bounded_bytes(MAX_TERMS_BYTES)(value[2])
        and bounded_bytes(MAX_TERMS_BYTES)(value[3])
    )


@dataclass(frozen=True)
class ContractList(Message):
    """The caller's contracts, in the order of their ids.

    Args:
        items: (id, state, terms signed by the customer, terms signed by the provider) each.
        more: whether further ones follow.
    """

    TYPE = 14
    SCHEMA = _schema(items=list_of(_is_item, MAX_LIST_ITEMS), more=lambda value: isinstance(value, bool))
    items: tuple[tuple[bytes, str, bytes, bytes], ...]
    more: bool


@dataclass(frozen=True)
class Refuse(Message):
    """Why a request, or the hello, is refused.

    Args:
        reason: from the fixed list.
        figures: numbers that go with it.
    """

    TYPE = 15
    SCHEMA = _schema(reason=text(32), figures=_is_figures)
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


_CLASSES: Final[dict[int, type[Message]]] = {kind.TYPE: kind for kind in Message.__subclasses__()}


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


def decode_message(header: bytes) -> tuple[int, Message]:
    """Read a frame's header.

    Returns:
        Request id and message.

    Raises:
        RemoteProtocolError: it is not a message of this protocol.
    """
    try:
        value = cbor.decode(header, max_bytes=MAX_HEADER_BYTES)
        if not (isinstance(value, list) and len(value) == 3 and integer(0, MAX_REQUEST_ID)(value[1])):
            raise RemoteProtocolError(ErrorCode.MALFORMED, "not a message")
        kind = _CLASSES.get(value[0]) if type(value[0]) is int else None
        if kind is None:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "unknown message type")
        body = check_schema(value[2], kind.SCHEMA)
    except CryptoError as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, str(error)) from error
    return value[1], kind(**{name: _frozen(item) for name, item in body.items()})
