"""The sealed envelope ``SVE1``: the only way in which data at rest is encrypted.

======  ====  ==========================================
offset  size  field
======  ====  ==========================================
0       4     ``SVE1``
4       1     version, 1
5       1     suite, 1: HKDF-SHA256, AES-256-GCM
6       2     purpose
8       32    salt, random
40      32    key commitment
72      n     ciphertext
72 + n  16    tag
======  ====  ==========================================

Source: ``crypto/specs/envelope.md``.
"""

import os
from enum import IntEnum, unique

from sovereign_crypto.aead import (
    COMMITMENT_BYTES,
    KEY_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Buffer,
    MessageKey,
    derive_message_key,
)
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import FormatError, ParameterError

_MAGIC_VERSION_SUITE = b"SVE1\x01\x01"
_HEADER_BYTES = 8
_COMMITMENT_AT = _HEADER_BYTES + SALT_BYTES
_BODY_AT = _COMMITMENT_AT + COMMITMENT_BYTES

OVERHEAD_BYTES = _BODY_AT + TAG_BYTES
# A full 4 MiB container and room for a larger directory; far below any limit of GCM.
MAX_PLAINTEXT_BYTES = 4 * 1024 * 1024 + 256 * 1024
MAX_CONTEXT_BYTES = 1024


@unique
class Purpose(IntEnum):
    """What is inside; part of the key derivation, so one kind never opens as another."""

    CHUNK = 1
    INDEX = 2
    HEAD = 3
    LOCAL_SECRET = 4
    RECOVERY = 5
    PROJECT = 6
    HISTORY_LINK = 7
    MEMBERSHIP = 8


def _check_inputs(key: bytes, context: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ParameterError("an envelope key has 32 bytes")
    if len(context) > MAX_CONTEXT_BYTES:
        raise ParameterError("an envelope context has at most 1024 bytes")


def _message_key(key: bytes, header: bytes, salt: bytes, context: bytes) -> MessageKey:
    return derive_message_key(key, salt, Domain.ENVELOPE.prefix + header + context)


def _prepare(purpose: Purpose, key: bytes, context: bytes, size_bytes: int) -> tuple[MessageKey, bytes]:
    """Return the message key and bytes 0 to 71 of a new envelope."""
    _check_inputs(key, context)
    if size_bytes > MAX_PLAINTEXT_BYTES:
        raise ParameterError("plaintext is larger than an envelope may hold")
    header = _MAGIC_VERSION_SUITE + purpose.to_bytes(2, "big")
    salt = os.urandom(SALT_BYTES)
    message_key = _message_key(key, header, salt, context)
    return message_key, header + salt + message_key.commitment


def seal(purpose: Purpose, key: bytes, context: bytes, plaintext: Buffer) -> bytes:
    """Encrypt ``plaintext`` under a key that exists for this message only.

    Args:
        purpose: what it is.
        key: 32 bytes, the long-lived key of that purpose.
        context: at most 1024 bytes that the opener must know, such as a project id; not stored.
        plaintext: at most 4.25 MiB.

    Returns:
        ``len(plaintext) + OVERHEAD_BYTES`` bytes.

    Raises:
        ParameterError: an argument is out of range.

    """
    message_key, front = _prepare(purpose, key, context, len(plaintext))
    return front + message_key.encrypt(plaintext, front + context)


def seal_buffer(purpose: Purpose, key: bytes, context: bytes, plaintext: Buffer) -> bytearray:
    """Do what :func:`seal` does, but without the copy that immutable bytes cost; for chunks."""
    message_key, front = _prepare(purpose, key, context, len(plaintext))
    sealed = bytearray(len(plaintext) + OVERHEAD_BYTES)
    sealed[:_BODY_AT] = front
    message_key.encrypt_into(plaintext, front + context, memoryview(sealed)[_BODY_AT:])
    return sealed


def open_sealed(purpose: Purpose, key: bytes, context: bytes, sealed: Buffer) -> bytes:
    """Return the plaintext of an envelope.

    Args:
        purpose: the only purpose that is accepted here.
        key: 32 bytes.
        context: the bytes given to :func:`seal`.
        sealed: the whole envelope.

    Raises:
        FormatError: not an envelope of this version, suite and purpose, or of an impossible size.
        AuthenticationError: wrong key or context, or altered bytes; nothing is returned.
        ParameterError: ``key`` or ``context`` is out of range.

    """
    view, message_key = _open_header(purpose, key, context, sealed)
    associated_data = bytes(view[:_BODY_AT]) + context
    return message_key.decrypt(view[_BODY_AT:], associated_data, view[_COMMITMENT_AT:_BODY_AT])


def commitment_matches(purpose: Purpose, key: bytes, context: bytes, sealed: Buffer) -> bool:
    """Tell whether ``key`` and ``context`` are those of the envelope, without decrypting it.

    Meant for finding the epoch of a sealed thing; says nothing about whether the content is intact.

    Raises:
        FormatError: not an envelope of this version, suite and purpose, or of an impossible size.
        ParameterError: ``key`` or ``context`` is out of range.

    """
    view, message_key = _open_header(purpose, key, context, sealed)
    return message_key.commits_to(view[_COMMITMENT_AT:_BODY_AT])


def _open_header(purpose: Purpose, key: bytes, context: bytes, sealed: Buffer) -> tuple[memoryview, MessageKey]:
    _check_inputs(key, context)
    view = memoryview(sealed)
    if not OVERHEAD_BYTES <= len(view) <= OVERHEAD_BYTES + MAX_PLAINTEXT_BYTES:
        raise FormatError("not the size of an envelope")
    header = bytes(view[:_HEADER_BYTES])
    if header != _MAGIC_VERSION_SUITE + purpose.to_bytes(2, "big"):
        raise FormatError("not an envelope of this version and purpose")
    return view, _message_key(key, header, bytes(view[_HEADER_BYTES:_COMMITMENT_AT]), context)
