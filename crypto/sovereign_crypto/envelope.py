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
from collections.abc import Iterator, Sequence
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
from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError

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


def open_pieces(
    purpose: Purpose, keys: Sequence[bytes], context: bytes, sealed: Sequence[Buffer], target: bytearray
) -> memoryview:
    """Do what :func:`open_sealed` does for an envelope that arrived in pieces, without the copies; for chunks.

    Args:
        purpose: the only purpose that is accepted here.
        keys: 32 bytes each; the commitment tells which one it is.
        context: the bytes given to :func:`seal`.
        sealed: the pieces of the envelope in order.
        target: room for the plaintext, which is written to its start.

    Returns:
        A view of the plaintext in ``target``.

    Raises:
        FormatError, AuthenticationError: as :func:`open_sealed`; ``target`` then holds nothing of the plaintext.
        ParameterError: ``target`` is too small, or a key or ``context`` is out of range.

    """
    size_bytes = sum(map(len, sealed))
    front = b"".join(_cut(sealed, 0, _BODY_AT))
    plaintext_bytes = size_bytes - OVERHEAD_BYTES
    if plaintext_bytes > len(target):
        raise ParameterError("the target is smaller than the plaintext")
    for key in keys:
        message_key = _open_front(purpose, key, context, front, size_bytes)
        if message_key.commits_to(front[_COMMITMENT_AT:]):
            break
    else:
        raise AuthenticationError("authentication failed")
    plaintext = memoryview(target)[:plaintext_bytes]
    body = _cut(sealed, _BODY_AT, size_bytes - TAG_BYTES)
    tag = b"".join(_cut(sealed, size_bytes - TAG_BYTES, size_bytes))
    message_key.decrypt_pieces(body, front + context, tag, plaintext)
    return plaintext


def _cut(pieces: Sequence[Buffer], start: int, stop: int) -> Iterator[memoryview]:
    """Yield what lies from ``start`` to ``stop`` of the joined pieces."""
    at = 0
    for piece in pieces:
        if at < stop and at + len(piece) > start:
            yield memoryview(piece)[max(0, start - at) : stop - at]
        at += len(piece)


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
    view = memoryview(sealed)
    return view, _open_front(purpose, key, context, bytes(view[:_BODY_AT]), len(view))


def _open_front(purpose: Purpose, key: bytes, context: bytes, front: bytes, size_bytes: int) -> MessageKey:
    """Check bytes 0 to 71 of an envelope and return its message key."""
    _check_inputs(key, context)
    if not OVERHEAD_BYTES <= size_bytes <= OVERHEAD_BYTES + MAX_PLAINTEXT_BYTES:
        raise FormatError("not the size of an envelope")
    header = front[:_HEADER_BYTES]
    if header != _MAGIC_VERSION_SUITE + purpose.to_bytes(2, "big"):
        raise FormatError("not an envelope of this version and purpose")
    return _message_key(key, header, front[_HEADER_BYTES:_COMMITMENT_AT], context)
