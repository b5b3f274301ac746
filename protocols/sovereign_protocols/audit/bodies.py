"""Signed bodies of audits.

Source: protocols/specs/audit.md, "Signed messages".
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from sovereign_crypto.schema import Check, byte_string, integer
from sovereign_crypto.statement import StatementType
from sovereign_protocols.market.offer import MAX_BYTES, MAX_TIME
from sovereign_protocols.settle.signed import NO_HASH, Body, malformed, schema_of

MAX_LEAF: Final = 2**32 - 1

_ID = byte_string(32)
_TIME = integer(0, MAX_TIME)
_SIZE = integer(0, MAX_BYTES)


@unique
class Method(StrEnum):
    """What a challenge asks for."""

    HASH = "hash"
    LEAF = "leaf"


@unique
class Result(StrEnum):
    """What an answer says."""

    HELD = "held"
    MISSING = "missing"


@unique
class Outcome(StrEnum):
    """What a verdict says."""

    PASSED = "passed"
    FAILED = "failed"


def _one_of(kind: type[StrEnum]) -> Check:
    names = {str(item) for item in kind}
    return lambda value: isinstance(value, str) and value in names


@dataclass(frozen=True)
class AuditBody(Body):
    """Base of all kinds: words of a fixed list travel as text."""

    def to_fields(self) -> dict[str, Any]:
        """See Body."""
        return {
            name: str(item) if isinstance(item, StrEnum) else item for name, item in super().to_fields().items()
        }


@dataclass(frozen=True)
class AuditChallenge(AuditBody):
    """A question about one chunk, signed by the auditor.

    Args:
        contract: id.
        provider: device key of who must answer, 32 bytes.
        auditor: device key of who asks, 32 bytes; it signs.
        chunk: id of the chunk.
        method: what is asked for.
        leaf: number of the leaf, 0 for a keyed hash.
        nonce: 32 fresh random bytes; the key of the hash.
        at: Unix seconds UTC.
    """

    contract: bytes
    provider: bytes
    auditor: bytes
    chunk: bytes
    method: str
    leaf: int
    nonce: bytes
    at: int

    TYPE = StatementType.AUDIT_CHALLENGE
    KIND = "challenge"
    SCHEMA = schema_of(
        contract=_ID,
        provider=_ID,
        auditor=_ID,
        chunk=_ID,
        method=_one_of(Method),
        leaf=integer(0, MAX_LEAF),
        nonce=_ID,
        at=_TIME,
    )

    def check(self) -> None:
        """See Body."""
        if self.method == Method.HASH and self.leaf:
            raise malformed("a keyed hash is over the whole chunk")


@dataclass(frozen=True)
class AuditAnswer(AuditBody):
    """The provider's answer, signed by it.

    Args:
        challenge: content hash of the challenge, 32 bytes.
        result: whether the chunk is there, with the bytes that its id names.
        size: of the chunk in bytes, 0 if it is missing.
        proof: keyed hash, or hash of the leaf; zero bytes if the chunk is missing.
        at: Unix seconds UTC.
    """

    challenge: bytes
    result: str
    size: int
    proof: bytes
    at: int

    TYPE = StatementType.AUDIT_ANSWER
    KIND = "answer"
    SCHEMA = schema_of(challenge=_ID, result=_one_of(Result), size=_SIZE, proof=_ID, at=_TIME)

    def check(self) -> None:
        """See Body."""
        if self.result == Result.MISSING and (self.size or self.proof != NO_HASH):
            raise malformed("nothing can be proven of a chunk that is missing")


@dataclass(frozen=True)
class AuditVerdict(AuditBody):
    """What the auditor concludes, signed by it.

    Args:
        contract: id.
        provider: device key, 32 bytes.
        chunk: id.
        challenge: content hash of the challenge, 32 bytes.
        answer: content hash of the answer, zero bytes if none came.
        outcome: passed or failed.
        size: bytes of the chunk.
        since_at: last audit that the chunk passed, or when it was placed: from then on nothing is owed for it.
        at: Unix seconds UTC.
    """

    contract: bytes
    provider: bytes
    chunk: bytes
    challenge: bytes
    answer: bytes
    outcome: str
    size: int
    since_at: int
    at: int

    TYPE = StatementType.AUDIT_CHALLENGE
    KIND = "verdict"
    SCHEMA = schema_of(
        contract=_ID,
        provider=_ID,
        chunk=_ID,
        challenge=_ID,
        answer=_ID,
        outcome=_one_of(Outcome),
        size=_SIZE,
        since_at=_TIME,
        at=_TIME,
    )

    def check(self) -> None:
        """See Body."""
        if self.since_at > self.at:
            raise malformed("a failure cannot reach into the future")
