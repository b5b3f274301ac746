"""Signed acts on a contract: notices that announce something, and the close that both parties sign.

Source: protocols/specs/market.md, "Acts".
"""

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from sovereign_crypto.schema import Check, byte_string, check_schema, integer
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    Statement,
    StatementType,
    sign_same_content,
    sign_statement,
)
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.statements import read_statement

VERSION: Final = 1
MAX_ACT_BYTES: Final = 1024
NO_HASH: Final = bytes(32)


@unique
class ActKind(StrEnum):
    """What an act says."""

    EXIT = "exit"
    RENEWAL = "renewal"
    MAINTENANCE = "maintenance"
    OVERDUE = "overdue"
    FINAL = "final"
    DELETION = "deletion"
    CLOSE = "close"


_SCHEMA: Final[dict[str, Check]] = {
    "v": integer(VERSION, VERSION),
    "kind": lambda value: value in {str(kind) for kind in ActKind},
    "contract": byte_string(32),
    "terms": byte_string(32),
    "issued_at": integer(0, MAX_TIME),
    "effective_at": integer(0, MAX_TIME),
    "until_at": integer(0, MAX_TIME),
    "evidence": byte_string(32),
}


@dataclass(frozen=True)
class Act:
    """One act.

    Args:
        kind: what it says.
        contract: id, 32 bytes.
        terms: hash of the revision in force, 32 bytes.
        issued_at: Unix seconds UTC.
        effective_at: when it begins to count, Unix seconds UTC; the earliest deletion in a deletion notice.
        until_at: end of a maintenance, else 0.
        evidence: hash of the signed message that it rests on, for a close the last statement; else zero bytes.
    """

    kind: ActKind
    contract: bytes
    terms: bytes
    issued_at: int
    effective_at: int
    until_at: int = 0
    evidence: bytes = NO_HASH

    def to_body(self) -> dict[str, Any]:
        """Give the body of the statement."""
        body = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        return body | {"v": VERSION, "kind": str(self.kind)}


@dataclass(frozen=True)
class SignedAct:
    """An act whose signature was verified; who the signer is, the caller checks.

    Args:
        act: the content.
        content_hash: the same for both signatures of a close, 32 bytes.
        statement_hash: of this signed copy, 32 bytes.
        signer: device key, 32 bytes.
        raw: the statement.
    """

    act: Act
    content_hash: bytes
    statement_hash: bytes
    signer: bytes
    raw: bytes = field(repr=False)


def _read(statement: Statement) -> SignedAct:
    body = dict(check_schema(statement.body, _SCHEMA))
    del body["v"]
    act = Act(**(body | {"kind": ActKind(body["kind"])}))
    if act.kind is not ActKind.MAINTENANCE and act.until_at:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "only a maintenance has an end")
    return SignedAct(act, statement.content_hash, statement.hash, statement.signer, statement.raw)


def sign_act(act: Act, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> SignedAct:
    """Sign an act.

    Raises:
        FormatError: a field is outside its bounds.
        RemoteProtocolError: the fields contradict each other.
    """
    return _read(
        sign_statement(StatementType.ACCEPTANCE, act.to_body(), device_key, network_id, max_bytes=MAX_ACT_BYTES)
    )


def parse_act(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> SignedAct:
    """Verify an act.

    Raises:
        RemoteProtocolError: code signature or malformed.
    """
    return read_statement(
        raw, _read, expected=StatementType.ACCEPTANCE, network_id=network_id, max_bytes=MAX_ACT_BYTES
    )


def countersign_act(signed: SignedAct, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> SignedAct:
    """Sign the same act as the other party: a close counts with both signatures."""
    return parse_act(sign_same_content(signed.raw, device_key, network_id), network_id)
