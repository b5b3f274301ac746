"""Messages of `/sovereign/probe/1.0.0`.

Source: protocols/specs/probe.md, "Messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.schema import bounded_bytes, byte_string, integer, list_of
from sovereign_protocols.market.acts import MAX_ACT_BYTES
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.market.terms import MAX_TERMS_BYTES
from sovereign_protocols.probe.bodies import MAX_WINDOWS, is_nonce
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol, fields_schema
from sovereign_protocols.settle.signed import MAX_SIGNED_BYTES

PROTOCOL_ID: Final = "/sovereign/probe/1.0.0"
MAX_NOTICES: Final = 8

_SIGNED = bounded_bytes(MAX_SIGNED_BYTES)
_ID = byte_string(32)
_NOTICES = list_of(bounded_bytes(MAX_ACT_BYTES), MAX_NOTICES)


@dataclass(frozen=True)
class Probe(Message):
    """A fresh nonce, with the observer's time."""

    TYPE = 64
    SCHEMA = fields_schema(nonce=is_nonce, sent_at=integer(0, MAX_TIME))
    nonce: bytes
    sent_at: int


@dataclass(frozen=True)
class ProbeAnswer(Message):
    """The receipt, signed by the provider; and the maintenance that it announces."""

    TYPE = 65
    SCHEMA = fields_schema(receipt=_SIGNED, notices=_NOTICES)
    receipt: bytes
    notices: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class ProbeRecord(Message):
    """The same receipt, signed by the observer, for the provider to keep."""

    TYPE = 66
    SCHEMA = fields_schema(receipt=_SIGNED)
    receipt: bytes


@dataclass(frozen=True)
class ProbeKept(Message):
    """The receipt with this statement hash is stored durably."""

    TYPE = 67
    SCHEMA = fields_schema(hash=_ID)
    hash: bytes


@dataclass(frozen=True)
class WindowsQuery(Message):
    """Ask an observer what it saw of a provider; windows that still run are left out."""

    TYPE = 68
    SCHEMA = fields_schema(provider=_ID, first=integer(0, MAX_TIME), count=integer(1, MAX_WINDOWS))
    provider: bytes
    first: int
    count: int


@dataclass(frozen=True)
class WindowsAnswer(Message):
    """The report, signed by the observer; and the maintenance notices that it knows of."""

    TYPE = 69
    SCHEMA = fields_schema(report=_SIGNED, notices=_NOTICES)
    report: bytes
    notices: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Appoint(Message):
    """Ask a peer to observe: the terms that name it, as both parties signed them."""

    TYPE = 70
    SCHEMA = fields_schema(customer=bounded_bytes(MAX_TERMS_BYTES), provider=bounded_bytes(MAX_TERMS_BYTES))
    customer: bytes
    provider: bytes


@dataclass(frozen=True)
class Appointed(Message):
    """The observer probes the provider of this contract from now on."""

    TYPE = 71
    SCHEMA = fields_schema(contract=_ID)
    contract: bytes


KINDS: Final[tuple[type[Message], ...]] = (
    Hello,
    Refuse,
    Probe,
    ProbeAnswer,
    ProbeRecord,
    ProbeKept,
    WindowsQuery,
    WindowsAnswer,
    Appoint,
    Appointed,
)

ANSWERS: Final[Mapping[type[Message], type[Message]]] = {
    Probe: ProbeAnswer,
    ProbeRecord: ProbeKept,
    WindowsQuery: WindowsAnswer,
    Appoint: Appointed,
}
PROTOCOL: Final = RequestProtocol.of(KINDS, ANSWERS)
