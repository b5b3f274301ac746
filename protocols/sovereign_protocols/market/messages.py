"""Messages of `/sovereign/market/1.0.0`: frozen dataclasses, one closed schema each.

Source: protocols/specs/market.md, "Messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.schema import bounded_bytes, byte_string, integer, list_of
from sovereign_protocols.market.acts import MAX_ACT_BYTES
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.offer import MAX_BYTES, MAX_OFFER_BYTES
from sovereign_protocols.market.terms import MAX_TERMS_BYTES
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol, encode_message, fields_schema

__all__ = [
    "ANSWERS",
    "KINDS",
    "PROTOCOL",
    "PROTOCOL_ID",
    "Accept",
    "Amend",
    "Close",
    "Closed",
    "ContractList",
    "Hello",
    "LatestState",
    "ListQuery",
    "Message",
    "Notice",
    "NoticeKept",
    "OfferAnswer",
    "OfferQuery",
    "Propose",
    "Refuse",
    "StateQuery",
    "encode_message",
]

PROTOCOL_ID: Final = "/sovereign/market/1.0.0"
#: 13 items of two signed terms each fit one frame.
MAX_LIST_ITEMS: Final = 13
MAX_LANES: Final = 40
MAX_VOUCHER_BYTES: Final = 1024
MAX_STATEMENT_BYTES: Final = 2048

_STATES: Final = {str(state) for state in ContractState}


def _is_state(value: object) -> bool:
    return value in _STATES


@dataclass(frozen=True)
class OfferQuery(Message):
    """Ask for the current offer."""

    TYPE = 2
    SCHEMA = fields_schema()


@dataclass(frozen=True)
class OfferAnswer(Message):
    """The current offer, signed."""

    TYPE = 3
    SCHEMA = fields_schema(offer=bounded_bytes(MAX_OFFER_BYTES))
    offer: bytes


@dataclass(frozen=True)
class Propose(Message):
    """Terms of a new contract, signed by the customer."""

    TYPE = 4
    SCHEMA = fields_schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Accept(Message):
    """The same terms, signed by the other party."""

    TYPE = 5
    SCHEMA = fields_schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Amend(Message):
    """The next revision of a contract's terms, signed by the customer."""

    TYPE = 6
    SCHEMA = fields_schema(terms=bounded_bytes(MAX_TERMS_BYTES))
    terms: bytes


@dataclass(frozen=True)
class Notice(Message):
    """A signed act that needs no second signature."""

    TYPE = 7
    SCHEMA = fields_schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class NoticeKept(Message):
    """The notice is stored durably."""

    TYPE = 8
    SCHEMA = fields_schema(hash=byte_string(32))
    hash: bytes


@dataclass(frozen=True)
class Close(Message):
    """A close, signed by the sender."""

    TYPE = 9
    SCHEMA = fields_schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class Closed(Message):
    """The same close, signed by the other party."""

    TYPE = 10
    SCHEMA = fields_schema(act=bounded_bytes(MAX_ACT_BYTES))
    act: bytes


@dataclass(frozen=True)
class StateQuery(Message):
    """Ask for everything that a party must know after losing its database."""

    TYPE = 11
    SCHEMA = fields_schema(contract=byte_string(32))
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
    SCHEMA = fields_schema(
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
    SCHEMA = fields_schema(after=byte_string(32), limit=integer(1, MAX_LIST_ITEMS))
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
    SCHEMA = fields_schema(items=list_of(_is_item, MAX_LIST_ITEMS), more=lambda value: isinstance(value, bool))
    items: tuple[tuple[bytes, str, bytes, bytes], ...]
    more: bool


KINDS: Final[tuple[type[Message], ...]] = (
    Hello,
    OfferQuery,
    OfferAnswer,
    Propose,
    Accept,
    Amend,
    Notice,
    NoticeKept,
    Close,
    Closed,
    StateQuery,
    LatestState,
    ListQuery,
    ContractList,
    Refuse,
)

ANSWERS: Final[Mapping[type[Message], type[Message]]] = {
    OfferQuery: OfferAnswer,
    Propose: Accept,
    Amend: Accept,
    Notice: NoticeKept,
    Close: Closed,
    StateQuery: LatestState,
    ListQuery: ContractList,
}
PROTOCOL: Final = RequestProtocol.of(KINDS, ANSWERS)
