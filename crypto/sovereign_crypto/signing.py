"""Ed25519 signatures, made and verified by PyNaCl alone.

One verifier for the whole project: implementations disagree about small-order and non-canonical
points, and a key that one accepts and another refuses lets its owner deny a signature later.

Source: RFC 8032; ``crypto/specs/statements.md``.
"""

import os
from functools import lru_cache
from typing import Final, Self

import nacl.bindings
import nacl.exceptions
import nacl.signing

from sovereign_crypto.errors import FormatError, SignatureError

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
#: Keys that were found good; a node meets the same few in every message.
_KNOWN_KEYS: Final = 4096


class SigningKey:
    """An Ed25519 key pair. Its representation never shows the secret part."""

    __slots__ = ("_key", "_public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise FormatError("an Ed25519 seed has 32 bytes")
        self._key = nacl.signing.SigningKey(bytes(seed))
        self._public = bytes(self._key.verify_key)

    @classmethod
    def generate(cls) -> Self:
        """Make a key pair from 32 fresh random bytes."""
        return cls(os.urandom(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key pair of a 32-byte seed.

        Raises:
            FormatError: ``seed`` is not 32 bytes long.

        """
        return cls(seed)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return bytes(self._key)

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message``."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SigningKey(public={self._public.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not picklable")


def check_public_key(public: bytes) -> None:
    """Refuse bytes that are not a canonical Ed25519 point of the prime-order group.

    Args:
        public: 32 bytes received from anywhere.

    Raises:
        FormatError: wrong length, identity, small order, mixed order, or non-canonical encoding.

    """
    if len(public) != PUBLIC_KEY_BYTES:
        raise FormatError("an Ed25519 public key has 32 bytes")
    _check_point(bytes(public))


@lru_cache(_KNOWN_KEYS)
def _check_point(public: bytes) -> None:
    # A refusal is raised, so it is never remembered: nobody can fill the memory with bad keys.
    if not nacl.bindings.crypto_core_ed25519_is_valid_point(public):
        raise FormatError("not a valid Ed25519 public key")


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Return if ``signature`` over ``message`` holds for ``public``, raise otherwise.

    Args:
        public: 32 bytes.
        message: the exact bytes that were signed.
        signature: 64 bytes.

    Raises:
        FormatError: ``public`` is not an acceptable key.
        SignatureError: the signature has the wrong length or does not hold.

    """
    check_public_key(public)
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError("an Ed25519 signature has 64 bytes")
    try:
        nacl.signing.VerifyKey(bytes(public)).verify(message, bytes(signature))
    except nacl.exceptions.BadSignatureError as error:
        raise SignatureError("signature does not hold") from error
