"""Entries of an identity log: their fields, and the functions that make them.

Every entry is a statement of type 0x01 with the body ``{v, seq, prev, action, args, at}``.

Source: ``crypto/specs/identity.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from sovereign_crypto.certificate import MAX_CERTIFICATE_BYTES, NONCE_BYTES, IdentityAnchor
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import MalformedError
from sovereign_crypto.hpke import check_encryption_public_key
from sovereign_crypto.schema import Check, bounded_bytes, byte_string, check_schema, integer, list_of, mapping
from sovereign_crypto.signing import SigningKey, check_public_key
from sovereign_crypto.statement import NETWORK_ID_MAIN, Statement, StatementType, parse_statement, sign_statement

MAX_ENTRIES = 4096
MAX_ACTIVE_DEVICES = 64
MAX_ENTRY_BYTES = 65536
# A wrap with a post-quantum suite needs about 1200 bytes.
MAX_BOX_BYTES = 2048
GENESIS_PREV = bytes(32)


@unique
class Action(StrEnum):
    """What an entry does."""

    GENESIS = "genesis"
    ADD_DEVICE = "add-device"
    REVOKE_DEVICE = "revoke-device"
    PUK_ROTATE = "puk-rotate"
    ROOT_ROTATE = "root-rotate"
    RECOVERY_CHANGE = "recovery-change"


#: Signed by the recovery key; everything else by the identity key in force.
RECOVERY_ACTIONS = frozenset({Action.ROOT_ROTATE, Action.RECOVERY_CHANGE})

_BODY: Mapping[str, Check] = {
    "v": integer(1, 1),
    "seq": integer(0, MAX_ENTRIES - 1),
    "prev": byte_string(32),
    "action": lambda value: value in {str(action) for action in Action},
    "args": mapping,
    "at": integer(0, 2**53),
}
_ARGS: Mapping[Action, Mapping[str, Check]] = {
    Action.GENESIS: {
        "identity_key": byte_string(32),
        "recovery_key": byte_string(32),
        "recovery_encryption_key": byte_string(32),
        "nonce": byte_string(NONCE_BYTES),
        "user_key": byte_string(32),
    },
    Action.ADD_DEVICE: {"certificate": bounded_bytes(MAX_CERTIFICATE_BYTES)},
    Action.REVOKE_DEVICE: {"device_key": byte_string(32), "last_accepted": integer(0, 2**53)},
    Action.PUK_ROTATE: {
        "generation": integer(1, MAX_ENTRIES),
        "user_key": byte_string(32),
        "boxes": list_of(bounded_bytes(MAX_BOX_BYTES), MAX_ACTIVE_DEVICES),
    },
    Action.ROOT_ROTATE: {"identity_key": byte_string(32), "proof": byte_string(64)},
    Action.RECOVERY_CHANGE: {
        "recovery_key": byte_string(32),
        "recovery_encryption_key": byte_string(32),
        "proof": byte_string(64),
    },
}
_SIGNING_KEYS = ("identity_key", "recovery_key", "device_key")
_ENCRYPTION_KEYS = ("user_key", "recovery_encryption_key")


@dataclass(frozen=True)
class Position:
    """Where the next entry of a log goes.

    Attributes:
        seq: its number.
        prev: hash of the entry before it, 32 bytes.

    """

    seq: int
    prev: bytes


@dataclass(frozen=True)
class Entry:
    """One entry, its signature and its fields verified, its place in the log not yet.

    Attributes:
        position: number and previous hash.
        action: what it does.
        args: fields of the action.
        at: Unix seconds, as the writer says.
        statement: the signed bytes.

    """

    position: Position
    action: Action
    args: Mapping[str, Any]
    at: int
    statement: Statement


def parse_entry(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> Entry:
    """Verify signature and fields of one entry.

    Raises:
        FormatError: not a statement of this type.
        SignatureError: the signature does not hold.
        MalformedError: the body breaks the schema, or holds an unacceptable key.

    """
    statement = parse_statement(
        raw, expected=StatementType.IDENTITY_ENTRY, network_id=network_id, max_bytes=MAX_ENTRY_BYTES
    )
    body = check_schema(statement.body, _BODY)
    action = Action(body["action"])
    args = check_schema(body["args"], _ARGS[action])
    for name in _SIGNING_KEYS:
        if name in args:
            check_public_key(args[name])
    for name in _ENCRYPTION_KEYS:
        if name in args:
            check_encryption_public_key(args[name])
    if (body["seq"] == 0) != (action == Action.GENESIS):
        raise MalformedError("the genesis entry, and only it, has number 0")
    return Entry(Position(body["seq"], body["prev"]), action, args, body["at"], statement)


def rotation_proof_input(identity_id: bytes, position: Position, new_public: bytes) -> bytes:
    """Return what a new identity or recovery key signs to prove that its owner holds it."""
    number = position.seq.to_bytes(4, "big")
    return Domain.IDENTITY_ROTATE.prefix + identity_id + number + position.prev + new_public


def _build(
    key: SigningKey, position: Position, action: Action, args: Mapping[str, Any], at: int, network_id: bytes
) -> bytes:
    body = {
        "v": 1,
        "seq": position.seq,
        "prev": position.prev,
        "action": str(action),
        "args": dict(args),
        "at": at,
    }
    raw = sign_statement(StatementType.IDENTITY_ENTRY, body, key, network_id).raw
    parse_entry(raw, network_id)  # what others would refuse is never handed out
    return raw


def build_genesis(
    identity_key: SigningKey,
    anchor: IdentityAnchor,
    *,
    recovery_enc_pk: bytes,
    user_pk: bytes,
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make entry 0.

    Args:
        identity_key: first identity key; its public half is ``anchor.identity_pk``.
        anchor: first keys and nonce.
        recovery_enc_pk: X25519 key of the recovery kit, 32 bytes.
        user_pk: X25519 user key of generation 0, 32 bytes.
        at: Unix seconds.
        network_id: 32 bytes.

    Raises:
        FormatError: a key is not acceptable.

    """
    args = {
        "identity_key": anchor.identity_pk,
        "recovery_key": anchor.recovery_pk,
        "recovery_encryption_key": recovery_enc_pk,
        "nonce": anchor.nonce,
        "user_key": user_pk,
    }
    return _build(identity_key, Position(0, GENESIS_PREV), Action.GENESIS, args, at, network_id)


def build_add_device(
    identity_key: SigningKey,
    position: Position,
    certificate: bytes,
    *,
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make the entry that adds a device, or renews the certificate of an active one.

    Args:
        identity_key: in force.
        position: ``log.next_position``.
        certificate: complete, with both signatures.
        at: Unix seconds.
        network_id: 32 bytes.

    """
    args = {"certificate": certificate}
    return _build(identity_key, position, Action.ADD_DEVICE, args, at, network_id)


def build_revoke_device(
    identity_key: SigningKey,
    position: Position,
    device_pk: bytes,
    *,
    last_accepted: int,
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make the entry that ends a device for good.

    Args:
        identity_key: in force.
        position: ``log.next_position``.
        device_pk: Ed25519 key of the device, 32 bytes.
        last_accepted: highest sequence number of its statements that still counts.
        at: Unix seconds.
        network_id: 32 bytes.

    """
    args = {"device_key": device_pk, "last_accepted": last_accepted}
    return _build(identity_key, position, Action.REVOKE_DEVICE, args, at, network_id)


def build_puk_rotate(
    identity_key: SigningKey,
    position: Position,
    *,
    generation: int,
    user_pk: bytes,
    boxes: Sequence[bytes] = (),
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make the entry that brings the next user key into force.

    Args:
        identity_key: in force.
        position: ``log.next_position``.
        generation: one more than the generation in force.
        user_pk: X25519 public key, 32 bytes.
        boxes: the private key wrapped to each active device, at most 64.
        at: Unix seconds.
        network_id: 32 bytes.

    """
    args = {"generation": generation, "user_key": user_pk, "boxes": list(boxes)}
    return _build(identity_key, position, Action.PUK_ROTATE, args, at, network_id)


def build_root_rotate(
    recovery_key: SigningKey,
    position: Position,
    identity_id: bytes,
    new_identity_key: SigningKey,
    *,
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make the entry that replaces the identity key; all devices must be added anew after it.

    Args:
        recovery_key: in force.
        position: ``log.next_position``, or the one after the last entry that is to stay.
        identity_id: 32 bytes.
        new_identity_key: from the new root seed.
        at: Unix seconds.
        network_id: 32 bytes.

    """
    proof = new_identity_key.sign(rotation_proof_input(identity_id, position, new_identity_key.public))
    args = {"identity_key": new_identity_key.public, "proof": proof}
    return _build(recovery_key, position, Action.ROOT_ROTATE, args, at, network_id)


def build_recovery_change(
    recovery_key: SigningKey,
    position: Position,
    identity_id: bytes,
    new_recovery_key: SigningKey,
    new_recovery_enc_pk: bytes,
    *,
    at: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make the entry that replaces the recovery kit.

    Args:
        recovery_key: in force.
        position: ``log.next_position``.
        identity_id: 32 bytes.
        new_recovery_key: Ed25519 key of the new kit.
        new_recovery_enc_pk: X25519 public key of the new kit, 32 bytes.
        at: Unix seconds.
        network_id: 32 bytes.

    """
    proof = new_recovery_key.sign(rotation_proof_input(identity_id, position, new_recovery_key.public))
    args = {
        "recovery_key": new_recovery_key.public,
        "recovery_encryption_key": new_recovery_enc_pk,
        "proof": proof,
    }
    return _build(recovery_key, position, Action.RECOVERY_CHANGE, args, at, network_id)
