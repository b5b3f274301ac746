"""Messages of `/sovereign/audit/1.0.0`.

Source: protocols/specs/audit.md, "Messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.merkle import LEAF_BYTES, MAX_PATH_NODES
from sovereign_crypto.schema import bounded_bytes, byte_string, list_of
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol, fields_schema
from sovereign_protocols.settle.signed import MAX_SIGNED_BYTES

PROTOCOL_ID: Final = "/sovereign/audit/1.0.0"

_SIGNED = bounded_bytes(MAX_SIGNED_BYTES)
_ID = byte_string(32)


@dataclass(frozen=True)
class Challenge(Message):
    """A question, signed by the caller."""

    TYPE = 80
    SCHEMA = fields_schema(challenge=_SIGNED)
    challenge: bytes


@dataclass(frozen=True)
class Answer(Message):
    """The answer, signed; with the leaf and its path if one was asked for."""

    TYPE = 81
    SCHEMA = fields_schema(answer=_SIGNED, leaf=bounded_bytes(LEAF_BYTES), path=list_of(_ID, MAX_PATH_NODES))
    answer: bytes
    leaf: bytes = b""
    path: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class VerdictNote(Message):
    """What the caller concluded, with what it rests on; the answer is empty if none came."""

    TYPE = 82
    SCHEMA = fields_schema(verdict=_SIGNED, challenge=_SIGNED, answer=_SIGNED)
    verdict: bytes
    challenge: bytes
    answer: bytes = b""


@dataclass(frozen=True)
class VerdictKept(Message):
    """The verdict with this statement hash is stored durably."""

    TYPE = 83
    SCHEMA = fields_schema(hash=_ID)
    hash: bytes


KINDS: Final[tuple[type[Message], ...]] = (Hello, Refuse, Challenge, Answer, VerdictNote, VerdictKept)

ANSWERS: Final[Mapping[type[Message], type[Message]]] = {Challenge: Answer, VerdictNote: VerdictKept}
PROTOCOL: Final = RequestProtocol.of(KINDS, ANSWERS)
