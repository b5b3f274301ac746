"""Signed deletions: the statement (type 0x26) without which nobody's chunk is marked for removal.

Body: contract, ids (at most 1,000), delete_after (seconds UTC, 0: as early as the contract's grace allows),
signed_at, nonce. Signed by a device, it never shortens the contract's grace; signed by the identity key it may.
Source: protocols/specs/chunk.md, "Deletion".
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.errors import CryptoError, SignatureError
from sovereign_crypto.schema import Check, byte_string, check_schema, integer, list_of
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType, parse_statement, sign_statement
from sovereign_protocols.chunk import limits
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError

_MAX_TIME: Final = 2**53
_SCHEMA: Final[dict[str, Check]] = {
    "v": integer(1, 1),
    "contract": byte_string(32),
    "ids": list_of(byte_string(32), limits.MAX_IDS),
    "delete_after": integer(0, _MAX_TIME),
    "signed_at": integer(0, _MAX_TIME),
    "nonce": byte_string(16),
}


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion whose signature holds.

    Args:
        contract_id: 32 bytes.
        chunk_ids: what to mark.
        delete_after_at: seconds UTC, 0 for the earliest allowed.
        signed_at: seconds UTC.
        signer: 32 bytes, who signed.
        statement_hash: 32 bytes.
    """

    contract_id: bytes
    chunk_ids: tuple[bytes, ...]
    delete_after_at: int
    signed_at: int
    signer: bytes
    statement_hash: bytes


def sign_deletion(
    key: SigningKey,
    contract_id: bytes,
    chunk_ids: Sequence[bytes],
    *,
    signed_at: int,
    delete_after_at: int = 0,
    nonce: bytes | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Return a deletion signed by a device or by the identity.

    Args:
        key: the signer.
        contract_id: 32 bytes.
        chunk_ids: 32 bytes each, at most 1,000.
        signed_at: seconds UTC, now; the provider accepts the statement for ten minutes.
        delete_after_at: seconds UTC, 0 for the earliest time that the provider allows this signer.
        nonce: 16 bytes, random if None.
        network_id: 32 bytes.
    """
    body = {
        "v": 1,
        "contract": contract_id,
        "ids": list(chunk_ids),
        "delete_after": delete_after_at,
        "signed_at": signed_at,
        "nonce": os.urandom(16) if nonce is None else nonce,
    }
    return sign_statement(StatementType.RETENTION, check_schema(body, _SCHEMA), key, network_id).raw


def parse_deletion(raw: bytes, *, network_id: bytes = NETWORK_ID_MAIN) -> Deletion:
    """Verify a deletion's form and signature; whether the signer may delete is for the caller to say.

    Raises:
        RemoteProtocolError: it is not a deletion, or not signed by the key it names.
    """
    try:
        statement = parse_statement(raw, expected=StatementType.RETENTION, network_id=network_id)
        body = check_schema(statement.body, _SCHEMA)
    except SignatureError as error:
        raise RemoteProtocolError(ErrorCode.SIGNATURE, "deletion") from error
    except CryptoError as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "deletion") from error
    return Deletion(
        contract_id=body["contract"],
        chunk_ids=tuple(body["ids"]),
        delete_after_at=body["delete_after"],
        signed_at=body["signed_at"],
        signer=statement.signer,
        statement_hash=statement.hash,
    )
