"""Signed bodies of settlement: one dataclass per kind, one way to sign and to parse them.

Source: protocols/specs/settle.md, "Signed messages".
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar

from sovereign_crypto.schema import Check, check_schema
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    Statement,
    StatementType,
    sign_same_content,
    sign_statement,
)
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.prices import GB
from sovereign_protocols.statements import read_statement

VERSION: Final = 1
MAX_SIGNED_BYTES: Final = 1024
NO_HASH: Final = bytes(32)


def schema_of(**fields: Check) -> Mapping[str, Check]:
    """Make the read-only schema of a kind."""
    return MappingProxyType(fields)


def is_byte_seconds(value: object) -> bool:
    """Accept [byte-seconds div 10^9, byte-seconds mod 10^9]: the sum outgrows 64 bits."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(part) is int for part in value)
        and 0 <= value[0] < 2**62
        and 0 <= value[1] < GB
    )


@dataclass(frozen=True)
class Body:
    """Base of all kinds; a field named `byte_seconds` travels as two integers."""

    TYPE: ClassVar[StatementType]
    KIND: ClassVar[str]
    SCHEMA: ClassVar[Mapping[str, Check]]

    def check(self) -> None:
        """Refuse fields that contradict each other.

        Raises:
            RemoteProtocolError: code malformed.
        """

    def to_fields(self) -> dict[str, Any]:
        """Give the body of the statement."""
        found = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        if "byte_seconds" in found:
            found["byte_seconds"] = list(divmod(found["byte_seconds"], GB))
        return found | {"v": VERSION, "kind": self.KIND}


Kind = TypeVar("Kind", bound=Body)


@dataclass(frozen=True)
class Signed(Generic[Kind]):
    """A body with one verified signature; whether the signer may sign it, the caller checks.

    Args:
        body: the content.
        content_hash: the same for every signer, 32 bytes.
        statement_hash: of this signed copy, 32 bytes.
        signer: device key, 32 bytes.
        raw: the statement.
    """

    body: Kind
    content_hash: bytes
    statement_hash: bytes
    signer: bytes
    raw: bytes = field(repr=False)


def malformed(detail: str) -> RemoteProtocolError:
    """Make the error for contradicting fields."""
    return RemoteProtocolError(ErrorCode.MALFORMED, detail)


def _read(statement: Statement, kind: type[Kind]) -> Signed[Kind]:
    fields = dict(statement.body)
    if fields.pop("v", None) != VERSION or fields.pop("kind", None) != kind.KIND:
        raise malformed(f"not a {kind.KIND}")
    values = dict(check_schema(fields, kind.SCHEMA))
    if "byte_seconds" in values:
        values["byte_seconds"] = values["byte_seconds"][0] * GB + values["byte_seconds"][1]
    body = kind(**values)
    body.check()
    return Signed(body, statement.content_hash, statement.hash, statement.signer, statement.raw)


def sign_body(body: Kind, key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> Signed[Kind]:
    """Sign a body.

    Raises:
        FormatError: a field is outside its bounds.
        RemoteProtocolError: the fields contradict each other.
    """
    statement = sign_statement(body.TYPE, body.to_fields(), key, network_id, max_bytes=MAX_SIGNED_BYTES)
    return _read(statement, type(body))


def parse_signed(raw: bytes, kind: type[Kind], network_id: bytes = NETWORK_ID_MAIN) -> Signed[Kind]:
    """Verify a signed body of one kind.

    Raises:
        RemoteProtocolError: code signature or malformed.
    """
    return read_statement(
        raw,
        lambda statement: _read(statement, kind),
        expected=kind.TYPE,
        network_id=network_id,
        max_bytes=MAX_SIGNED_BYTES,
    )


def countersign(signed: Signed[Kind], key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> Signed[Kind]:
    """Sign the same body as the other party; the caller agrees with it."""
    return parse_signed(sign_same_content(signed.raw, key, network_id), type(signed.body), network_id)
