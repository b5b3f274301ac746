"""The signed statement ``SVS1``: anything that one party must be able to show to a third.

==========  ====  =======================================
offset      size  field
==========  ====  =======================================
0           4     ``SVS1``
4           1     version, 1
5           1     type
6           2     zero
8           4     body length n
12          n     body, a map in the strict CBOR subset
12 + n      32    public key of the signer
44 + n      64    Ed25519 signature
==========  ====  =======================================

Signature input: domain string and zero byte, network id, bytes 0 to 11, body, public key. It is
verified over the bytes that were received, never over a new encoding of them.

Source: ``crypto/specs/statements.md``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, unique
from functools import cached_property
from typing import Any

from sovereign_crypto import cbor
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import FormatError, MalformedError, ParameterError
from sovereign_crypto.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, verify

_MAGIC_VERSION = b"SVS1\x01"
_HEADER_BYTES = 12

OVERHEAD_BYTES = _HEADER_BYTES + PUBLIC_KEY_BYTES + SIGNATURE_BYTES
DEFAULT_MAX_BYTES = 65536
NETWORK_ID_BYTES = 32
NETWORK_ID_MAIN = hashlib.sha256(b"sovereign network 1").digest()


@unique
class StatementType(IntEnum):
    """Type numbers; a type is accepted only where it is expected."""

    IDENTITY_ENTRY = 0x01
    DEVICE_CERTIFICATE = 0x02
    MEMBERSHIP = 0x10
    SNAPSHOT = 0x11
    HEAD = 0x12
    OFFER = 0x20
    CONTRACT = 0x21
    ACCEPTANCE = 0x22
    PUT_RECEIPT = 0x23
    USAGE = 0x24
    PAYMENT = 0x25
    RETENTION = 0x26
    AUDIT_CHALLENGE = 0x27
    AUDIT_ANSWER = 0x28
    PEER_RECORD = 0x30
    CAPABILITY = 0x31
    RECOVERY_RECORD = 0x32
    AUDIT_CHECKPOINT = 0x40


@dataclass(frozen=True)
class Statement:
    """A statement whose signature has been verified, or that was just made."""

    type: StatementType
    body: dict[Any, Any]
    signer: bytes
    raw: bytes = field(repr=False)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the whole statement, signature included: this very signed copy."""
        return hashlib.sha256(self.raw).digest()

    @cached_property
    def content_hash(self) -> bytes:
        """SHA-256 of header and body: the same for every signer of the same content."""
        return hashlib.sha256(self.raw[: -(PUBLIC_KEY_BYTES + SIGNATURE_BYTES)]).digest()

    @property
    def signature(self) -> bytes:
        """The 64 bytes of the signature."""
        return self.raw[-SIGNATURE_BYTES:]


def _check_network_id(network_id: bytes) -> None:
    if len(network_id) != NETWORK_ID_BYTES:
        raise ParameterError("a network id has 32 bytes")


def _signature_input(content: bytes, signer: bytes, network_id: bytes) -> bytes:
    return Domain.STATEMENT.prefix + network_id + content + signer


def sign_statement(
    type: StatementType,
    body: Mapping[Any, Any],
    key: SigningKey,
    network_id: bytes = NETWORK_ID_MAIN,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Statement:
    """Encode and sign ``body``.

    Args:
        type: what is stated.
        body: a map of the CBOR subset.
        key: the signer.
        network_id: 32 bytes; a statement of one network means nothing in another.
        max_bytes: largest size of the whole statement.

    Raises:
        MalformedError: ``body`` is outside the subset, or the statement would be too long.
        ParameterError: ``network_id`` is not 32 bytes long.

    """
    _check_network_id(network_id)
    encoded = cbor.encode(dict(body))
    if len(encoded) + OVERHEAD_BYTES > max_bytes:
        raise MalformedError("statement is too long")
    content = _MAGIC_VERSION + bytes((type, 0, 0)) + len(encoded).to_bytes(4, "big") + encoded
    signature = key.sign(_signature_input(content, key.public, network_id))
    # Decoded again, so that the caller's nested lists are not shared and tuples are lists as for readers.
    return Statement(type, cbor.decode(encoded, max_bytes=max_bytes), key.public, content + key.public + signature)


def parse_statement(
    raw: bytes | bytearray | memoryview,
    *,
    expected: StatementType,
    network_id: bytes = NETWORK_ID_MAIN,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Statement:
    """Check layout, type, signer key, signature and encoding, in this order.

    Args:
        raw: one statement, nothing after it.
        expected: the only type accepted here.
        network_id: 32 bytes.
        max_bytes: refuse longer input before looking at it.

    Raises:
        FormatError: not a statement, another type, or an unacceptable signer key.
        SignatureError: the signature does not hold in this network.
        MalformedError: the body is not a map of the strict CBOR subset.
        ParameterError: ``network_id`` is not 32 bytes long.

    """
    _check_network_id(network_id)
    if len(raw) > max_bytes:
        raise FormatError("statement is too long")
    data = bytes(raw)
    content, signer, signature = _split(data)
    if data[5] != expected:
        raise FormatError(f"statement of type {data[5]:#04x}, expected {expected:#04x}")
    verify(signer, _signature_input(content, signer, network_id), signature)
    body = cbor.decode(content[_HEADER_BYTES:], max_bytes=max_bytes)
    if not isinstance(body, dict):
        raise MalformedError("the body of a statement is a map")
    return Statement(expected, body, signer, data)


def sign_same_content(raw: bytes, key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> bytes:
    """Sign the content of a statement as a second party.

    Nothing of ``raw`` is verified but its layout: parse it first, and agree with its body.

    Args:
        raw: the statement of the first party.
        key: the second signer.
        network_id: 32 bytes.

    Returns:
        A second statement with the same header and body, so with the same ``content_hash``.

    Raises:
        FormatError: ``raw`` is not laid out as a statement.
        ParameterError: ``network_id`` is not 32 bytes long.

    """
    _check_network_id(network_id)
    content, _signer, _signature = _split(bytes(raw))
    return content + key.public + key.sign(_signature_input(content, key.public, network_id))


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return content (header and body), signer, signature; check the layout only."""
    if len(data) < OVERHEAD_BYTES or data[:5] != _MAGIC_VERSION or data[6:8] != b"\0\0":
        raise FormatError("not a signed statement")
    body_length = int.from_bytes(data[8:12], "big")
    if len(data) != OVERHEAD_BYTES + body_length:
        raise FormatError("statement length does not match its body")
    end = _HEADER_BYTES + body_length
    return data[:end], data[end : end + PUBLIC_KEY_BYTES], data[end + PUBLIC_KEY_BYTES :]
