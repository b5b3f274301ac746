"""Key slots ``SVK1``: the identity root seed, locked by a passphrase or another secret; 172 bytes.

======  ====  =============================================================================
offset  size  field
======  ====  =============================================================================
0       4     ``SVK1``
4       1     version, 1
5       1     slot type
6       1     key derivation: 0 none, 1 Argon2id, 2 PBKDF2-HMAC-SHA256
7       1     zero
8       4     passes or iterations
12      4     memory, KiB
16      4     lanes
20      32    salt, random, fresh at every rewrite
52      32    identity id
84      4     generation of the root
88      32    key commitment
120     4     length of what follows, 48
124     48    root seed under AES-256-GCM, and tag
======  ====  =============================================================================

Source: ``crypto/specs/keyslot.md``.
"""

import os
import struct
from dataclasses import dataclass
from enum import IntEnum, unique

from sovereign_crypto.aead import KEY_BYTES, MessageKey, derive_message_key
from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import AuthenticationError, FormatError, ParameterError, UnlockError
from sovereign_crypto.kdf import DEFAULT_KDF, NO_KDF, KdfAlgorithm, KdfParameters, derive_from_passphrase

SLOT_BYTES = 172
SEED_BYTES = 32
SECRET_BYTES = 32
IDENTITY_ID_BYTES = 32

_MAGIC_VERSION = b"SVK1\x01"
_HEADER = struct.Struct(">5sBBBIII32s32sI")
_COMMITMENT_AT, _LENGTH_AT, _SEALED_AT = 88, 120, 124
_SEALED_LENGTH = (SLOT_BYTES - _SEALED_AT).to_bytes(4, "big")


@unique
class SlotType(IntEnum):
    """What opens the slot."""

    PASSPHRASE = 1
    PASSPHRASE_AND_DEVICE_SECRET = 2
    RECOVERY = 3
    KEYRING = 4


_WITH_PASSPHRASE = {SlotType.PASSPHRASE, SlotType.PASSPHRASE_AND_DEVICE_SECRET}


@dataclass(frozen=True)
class SlotInfo:
    """What a slot says about itself, authenticated only by opening it.

    Attributes:
        type: what opens it.
        kdf: algorithm and cost, within the accepted range.
        salt: 32 bytes.
        identity_id: 32 bytes.
        generation: of the root seed inside.

    """

    type: SlotType
    kdf: KdfParameters
    salt: bytes
    identity_id: bytes
    generation: int

    def header(self) -> bytes:
        """Return bytes 0 to 87 of the slot."""
        kdf = self.kdf
        return _HEADER.pack(
            _MAGIC_VERSION,
            self.type,
            kdf.algorithm,
            0,
            kdf.passes,
            kdf.memory_kib,
            kdf.lanes,
            self.salt,
            self.identity_id,
            self.generation,
        )


def make_slot(
    passphrase: str,
    seed: bytes,
    identity_id: bytes,
    *,
    generation: int = 0,
    kdf: KdfParameters = DEFAULT_KDF,
    device_secret: bytes | None = None,
) -> bytes:
    """Lock the root seed with a passphrase; slow on purpose, call it in a thread.

    Args:
        passphrase: 1 to 1024 bytes after Unicode NFC.
        seed: the root seed, 32 bytes.
        identity_id: 32 bytes, bound to the slot.
        generation: of the root seed.
        kdf: algorithm and cost.
        device_secret: 32 bytes kept elsewhere, needed as well as the passphrase if given.

    Returns:
        172 bytes. A slot with only a passphrase must not leave the devices of its owner.

    Raises:
        ParameterError: an argument is out of range; nothing was computed.

    """
    with_secret = device_secret is not None
    slot_type = SlotType.PASSPHRASE_AND_DEVICE_SECRET if with_secret else SlotType.PASSPHRASE
    info = _new_info(slot_type, kdf, seed, identity_id, generation)
    return _lock(info, _passphrase_secret(info, passphrase, device_secret), seed)


def make_secret_slot(
    type: SlotType, secret: bytes, seed: bytes, identity_id: bytes, *, generation: int = 0
) -> bytes:
    """Lock the root seed with a random secret: that of a recovery kit, or one kept in a keyring.

    Args:
        type: ``RECOVERY`` or ``KEYRING``.
        secret: 32 random bytes.
        seed: the root seed, 32 bytes.
        identity_id: 32 bytes, bound to the slot.
        generation: of the root seed.

    Raises:
        ParameterError: an argument is out of range.

    """
    if type in _WITH_PASSPHRASE or len(secret) != SECRET_BYTES:
        raise ParameterError("a slot of this type is locked by 32 random bytes")
    return _lock(_new_info(type, NO_KDF, seed, identity_id, generation), secret, seed)


def inspect_slot(slot: bytes) -> SlotInfo:
    """Read the header of a slot without opening it.

    Raises:
        FormatError: not a key slot.
        ParameterError: the cost of its key derivation is outside the accepted range.

    """
    if len(slot) != SLOT_BYTES or slot[_LENGTH_AT:_SEALED_AT] != _SEALED_LENGTH:
        raise FormatError("not a key slot")
    magic, kind, algorithm, zero, passes, memory_kib, lanes, salt, identity_id, generation = _HEADER.unpack(
        slot[:_COMMITMENT_AT]
    )
    if magic != _MAGIC_VERSION or zero != 0:
        raise FormatError("not a key slot of this version")
    try:
        slot_type, kdf_algorithm = SlotType(kind), KdfAlgorithm(algorithm)
    except ValueError as error:
        raise FormatError("key slot of an unknown type") from error
    if (slot_type in _WITH_PASSPHRASE) == (kdf_algorithm == KdfAlgorithm.NONE):
        raise FormatError("key slot type and key derivation do not fit")
    kdf = KdfParameters(kdf_algorithm, passes, memory_kib, lanes)
    kdf.check()
    return SlotInfo(slot_type, kdf, salt, identity_id, generation)


def open_slot(
    slot: bytes,
    passphrase: str,
    *,
    device_secret: bytes | None = None,
    identity_id: bytes | None = None,
) -> bytes:
    """Return the 32-byte root seed of a slot with a passphrase; call it in a thread.

    Args:
        slot: 172 bytes.
        passphrase: as typed.
        device_secret: 32 bytes, if the slot needs it.
        identity_id: refuse a slot of any other identity.

    Raises:
        FormatError: not a key slot.
        ParameterError: the cost of its key derivation is outside the accepted range.
        UnlockError: anything else; does not tell what was wrong.

    """
    info = _inspect_for(slot, identity_id)
    if info.type not in _WITH_PASSPHRASE:
        raise UnlockError
    try:
        secret = _passphrase_secret(info, passphrase, device_secret)
    except ParameterError as error:
        raise UnlockError from error
    return _unlock(info, secret, slot)


def open_secret_slot(slot: bytes, secret: bytes, *, identity_id: bytes | None = None) -> bytes:
    """Return the 32-byte root seed of a slot that a random secret locks.

    Raises:
        FormatError: not a key slot.
        ParameterError: the cost of its key derivation is outside the accepted range.
        UnlockError: anything else; does not tell what was wrong.

    """
    info = _inspect_for(slot, identity_id)
    if info.type in _WITH_PASSPHRASE or len(secret) != SECRET_BYTES:
        raise UnlockError
    return _unlock(info, secret, slot)


def _new_info(
    slot_type: SlotType, kdf: KdfParameters, seed: bytes, identity_id: bytes, generation: int
) -> SlotInfo:
    if len(seed) != SEED_BYTES or len(identity_id) != IDENTITY_ID_BYTES:
        raise ParameterError("a root seed and an identity id have 32 bytes each")
    if not 0 <= generation < 2**32:
        raise ParameterError("a generation fits in 32 bits")
    kdf.check()
    return SlotInfo(slot_type, kdf, os.urandom(32), identity_id, generation)


def _passphrase_secret(info: SlotInfo, passphrase: str, device_secret: bytes | None) -> bytes:
    needed = info.type == SlotType.PASSPHRASE_AND_DEVICE_SECRET
    if needed != (device_secret is not None) or (device_secret is not None and len(device_secret) != KEY_BYTES):
        raise ParameterError("a device secret has 32 bytes and belongs to a slot that needs one")
    return derive_from_passphrase(passphrase, info.salt, info.kdf) + (device_secret or b"")


def _inspect_for(slot: bytes, identity_id: bytes | None) -> SlotInfo:
    info = inspect_slot(slot)
    if identity_id is not None and identity_id != info.identity_id:
        raise UnlockError
    return info


def _message_key(info: SlotInfo, secret: bytes) -> MessageKey:
    return derive_message_key(secret, info.salt, Domain.KEYSLOT.prefix + info.header())


def _lock(info: SlotInfo, secret: bytes, seed: bytes) -> bytes:
    message_key = _message_key(info, secret)
    front = info.header() + message_key.commitment + _SEALED_LENGTH
    return front + message_key.encrypt(seed, front)


def _unlock(info: SlotInfo, secret: bytes, slot: bytes) -> bytes:
    message_key = _message_key(info, secret)
    commitment = slot[_COMMITMENT_AT:_LENGTH_AT]
    try:
        return message_key.decrypt(slot[_SEALED_AT:], slot[:_SEALED_AT], commitment)
    except AuthenticationError as error:
        raise UnlockError from error
