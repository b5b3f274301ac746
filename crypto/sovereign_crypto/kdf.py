"""Slow derivation of keys from passphrases, with a floor and a ceiling on its cost.

Parameters arrive inside key slots, so they are checked before anything is computed: a floor stops a
downgrade, a ceiling stops exhaustion.

Source: RFC 9106 (Argon2id); RFC 8018 (PBKDF2); ``crypto/specs/keyslot.md``.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from enum import IntEnum, unique

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sovereign_crypto.errors import ParameterError

KDF_SALT_BYTES = 32
OUTPUT_BYTES = 32
MAX_PASSPHRASE_BYTES = 1024

_MEMORY_KIB = range(19 * 1024, 1024 * 1024 + 1)
_PASSES = range(2, 10 + 1)
_LANES = range(1, 4 + 1)
_ITERATIONS = range(600_000, 10_000_000 + 1)


@unique
class KdfAlgorithm(IntEnum):
    """Numbers of the algorithms in a key slot."""

    NONE = 0
    ARGON2ID = 1
    PBKDF2_HMAC_SHA256 = 2


@dataclass(frozen=True)
class KdfParameters:
    """Algorithm and cost.

    Attributes:
        algorithm: which function.
        passes: Argon2id passes, or PBKDF2 iterations; 0 for none.
        memory_kib: Argon2id memory; 0 otherwise.
        lanes: Argon2id lanes; 0 otherwise.

    """

    algorithm: KdfAlgorithm
    passes: int = 0
    memory_kib: int = 0
    lanes: int = 0

    def check(self) -> None:
        """Refuse a cost outside the accepted range.

        Raises:
            ParameterError: too cheap, too expensive, or fields that the algorithm does not use.

        """
        if self.algorithm == KdfAlgorithm.ARGON2ID:
            accepted = self.passes in _PASSES and self.memory_kib in _MEMORY_KIB and self.lanes in _LANES
        elif self.algorithm == KdfAlgorithm.PBKDF2_HMAC_SHA256:
            accepted = self.passes in _ITERATIONS and self.memory_kib == 0 and self.lanes == 0
        else:
            accepted = self.passes == 0 and self.memory_kib == 0 and self.lanes == 0
        if not accepted:
            raise ParameterError("unsupported parameters of the key derivation")


# RFC 9106 section 4, second recommended option, with one lane.
DEFAULT_KDF = KdfParameters(KdfAlgorithm.ARGON2ID, passes=3, memory_kib=64 * 1024, lanes=1)
# Chosen on devices with at least 4 GiB of memory.
STRONG_KDF = KdfParameters(KdfAlgorithm.ARGON2ID, passes=3, memory_kib=256 * 1024, lanes=1)
DEFAULT_PBKDF2 = KdfParameters(KdfAlgorithm.PBKDF2_HMAC_SHA256, passes=1_000_000)
NO_KDF = KdfParameters(KdfAlgorithm.NONE)


def passphrase_bytes(passphrase: str) -> bytes:
    """Return the bytes that are derived from: Unicode NFC, UTF-8, never trimmed.

    Raises:
        ParameterError: not encodable, empty, or longer than 1024 bytes.

    """
    # NFC at most triples the number of characters and never shrinks it below a third, so longer
    # input cannot fit; this keeps normalization of hostile input cheap.
    if len(passphrase) > 4 * MAX_PASSPHRASE_BYTES:
        raise ParameterError("a passphrase has between 1 and 1024 bytes")
    try:
        encoded = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError("a passphrase is valid Unicode") from error
    if not 1 <= len(encoded) <= MAX_PASSPHRASE_BYTES:
        raise ParameterError("a passphrase has between 1 and 1024 bytes")
    return encoded


def derive_from_passphrase(passphrase: str, salt: bytes, parameters: KdfParameters) -> bytes:
    """Derive 32 bytes; takes about a quarter of a second and 64 MiB by default, so call it in a thread.

    Args:
        passphrase: see :func:`passphrase_bytes`.
        salt: 32 bytes.
        parameters: Argon2id or PBKDF2 within the accepted range.

    Raises:
        ParameterError: an argument is out of range; nothing was computed.

    """
    parameters.check()
    if len(salt) != KDF_SALT_BYTES:
        raise ParameterError("a key derivation salt has 32 bytes")
    secret = passphrase_bytes(passphrase)
    if parameters.algorithm == KdfAlgorithm.PBKDF2_HMAC_SHA256:
        return hashlib.pbkdf2_hmac("sha256", secret, salt, parameters.passes, OUTPUT_BYTES)
    if parameters.algorithm == KdfAlgorithm.ARGON2ID:
        return Argon2id(
            salt=bytes(salt),
            length=OUTPUT_BYTES,
            iterations=parameters.passes,
            lanes=parameters.lanes,
            memory_cost=parameters.memory_kib,
        ).derive(secret)
    raise ParameterError("a passphrase needs a key derivation function")
