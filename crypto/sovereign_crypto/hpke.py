"""Key wraps ``SVW1``: a 32-byte secret for one X25519 key, with its whole context bound.

======  ====  =============================================================
offset  size  field
======  ====  =============================================================
0       4     ``SVW1``
4       1     version, 1
5       1     HPKE suite, 1: DHKEM(X25519), HKDF-SHA256, AES-256-GCM
6       2     purpose
8       16    recipient tag
24      2     length of what follows, 80
26      80    HPKE encapsulated key, ciphertext, tag
======  ====  =============================================================

HPKE base mode says nothing about the sender: use an unwrapped key only after a signed statement that
names this very wrap has been verified.

Source: RFC 9180; ``crypto/specs/keys.md``, section "Wraps".
"""

import hashlib
import hmac
import os
from enum import IntEnum, unique
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError

SECRET_BYTES = 32
PUBLIC_KEY_BYTES = 32
WRAP_BYTES = 106
MAX_CONTEXT_BYTES = 1024

_MAGIC_VERSION_SUITE = b"SVW1\x01\x01"
_TAG_AT, _LENGTH_AT, _BOX_AT = 8, 24, 26
_BOX_LENGTH = (WRAP_BYTES - _BOX_AT).to_bytes(2, "big")
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@unique
class WrapPurpose(IntEnum):
    """What the wrapped secret is; bound to the wrap."""

    EPOCH_KEY = 1
    PROJECT_SECRET = 2
    USER_KEY = 3
    RECOVERY = 4
    PROVISION = 5
    PROJECT_KEYS = 6


class EncryptionKey:
    """An X25519 key pair. Its representation never shows the secret part."""

    __slots__ = ("_key", "_public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise FormatError("an X25519 private key has 32 bytes")
        self._key = X25519PrivateKey.from_private_bytes(bytes(secret))
        self._public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """Make a key pair from 32 fresh random bytes."""
        return cls(os.urandom(SECRET_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key pair whose private key is these 32 bytes.

        Raises:
            FormatError: ``seed`` is not 32 bytes long.

        """
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._public

    def open_box(self, box: bytes, info: bytes) -> bytes:
        """Open an HPKE single-shot ciphertext.

        Raises:
            AuthenticationError: another recipient or context, or altered bytes.

        """
        try:
            return _SUITE.decrypt(box, self._key, info)
        except InvalidTag as error:
            raise AuthenticationError("authentication failed") from error

    def __repr__(self) -> str:
        return f"EncryptionKey(public={self._public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("an encryption key is not picklable")


def check_encryption_public_key(public: bytes) -> None:
    """Refuse bytes that are not a usable X25519 public key.

    Raises:
        FormatError: wrong length, or a point of small order, with which every shared secret is zero.

    """
    if len(public) != PUBLIC_KEY_BYTES:
        raise FormatError("an X25519 public key has 32 bytes")
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(bytes(public)))
    except ValueError as error:
        raise FormatError("not a usable X25519 public key") from error


# Any scalar finds small-order points: clamping makes it a multiple of the cofactor.
_PROBE = X25519PrivateKey.from_private_bytes(bytes(31) + b"\1")


def _check_contexts(context: bytes, tag_context: bytes) -> None:
    if max(len(context), len(tag_context)) > MAX_CONTEXT_BYTES:
        raise ParameterError("a wrap context has at most 1024 bytes")


def recipient_tag(purpose: WrapPurpose, public: bytes, tag_context: bytes) -> bytes:
    """Return the 16 bytes by which a recipient finds his wrap among others.

    Args:
        purpose: what is wrapped.
        public: X25519 key of the recipient, 32 bytes.
        tag_context: what recipient and sender both know before the wrap is opened.

    """
    separated = Domain.WRAP_TAG.prefix + purpose.to_bytes(2, "big") + public + tag_context
    return hashlib.sha256(separated).digest()[:16]


def wrap(
    purpose: WrapPurpose, recipient: bytes, secret: bytes, *, context: bytes, tag_context: bytes | None = None
) -> bytes:
    """Encrypt a 32-byte secret to one recipient.

    Args:
        purpose: what the secret is.
        recipient: X25519 public key, 32 bytes, verified to be his.
        secret: 32 bytes.
        context: at most 1024 bytes; bound to the wrap, not stored in it.
        tag_context: what the recipient tag is computed over; ``context`` by default.

    Returns:
        106 bytes.

    Raises:
        FormatError: ``recipient`` is not a usable key.
        ParameterError: another argument is out of range.

    """
    tag_context = context if tag_context is None else tag_context
    _check_contexts(context, tag_context)
    check_encryption_public_key(recipient)
    if len(secret) != SECRET_BYTES:
        raise ParameterError("a wrapped secret has 32 bytes")
    tag = recipient_tag(purpose, recipient, tag_context)
    header = _MAGIC_VERSION_SUITE + purpose.to_bytes(2, "big") + tag
    box = _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(bytes(recipient)), _info(header, context))
    return header + _BOX_LENGTH + box


def unwrap(
    purpose: WrapPurpose, key: EncryptionKey, wrapped: bytes, *, context: bytes, tag_context: bytes | None = None
) -> bytes:
    """Return the 32-byte secret of a wrap.

    Args:
        purpose: the only purpose that is accepted here.
        key: the recipient.
        wrapped: 106 bytes.
        context: the bytes given to :func:`wrap`.
        tag_context: the bytes given to :func:`wrap`.

    Raises:
        FormatError: not a wrap of this version, suite and purpose.
        AuthenticationError: another recipient or context, or altered bytes.
        ParameterError: a context is too long.

    """
    tag_context = context if tag_context is None else tag_context
    _check_contexts(context, tag_context)
    header = _header(purpose, wrapped)
    if not hmac.compare_digest(header[_TAG_AT:], recipient_tag(purpose, key.public, tag_context)):
        raise AuthenticationError("authentication failed")
    return key.open_box(bytes(wrapped[_BOX_AT:]), _info(header, context))


def is_wrap_for(purpose: WrapPurpose, public: bytes, wrapped: bytes, tag_context: bytes) -> bool:
    """Tell by its tag whether a wrap is meant for the key ``public``.

    Raises:
        FormatError: not a wrap of this version, suite and purpose.

    """
    tag = _header(purpose, wrapped)[_TAG_AT:]
    return hmac.compare_digest(tag, recipient_tag(purpose, public, tag_context))


def _header(purpose: WrapPurpose, wrapped: bytes) -> bytes:
    if len(wrapped) != WRAP_BYTES or wrapped[:_TAG_AT] != _MAGIC_VERSION_SUITE + purpose.to_bytes(2, "big"):
        raise FormatError("not a key wrap of this version and purpose")
    if wrapped[_LENGTH_AT:_BOX_AT] != _BOX_LENGTH:
        raise FormatError("key wrap has a wrong length")
    return bytes(wrapped[:_LENGTH_AT])


def _info(header: bytes, context: bytes) -> bytes:
    return Domain.WRAP.prefix + header + context
