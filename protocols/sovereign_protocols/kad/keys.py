"""Kad ids, and how our 32-byte keys are written on the wire.

A record key is ``/sov/`` and the base64url form of the 32 bytes without padding: 48 characters, under the
50 bytes above which py-libp2p refuses a FIND_NODE for it. A provider key is the SHA-256 multihash of the
32 bytes, because js-libp2p reads provider keys as content ids.
"""

import base64
import binascii
import hashlib

from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_protocols.kad.errors import InvalidRecordError, KadMessageError

KEY_BYTES = 32
KAD_ID_BITS = 256
RECORD_PREFIX = b"/sov/"
RECORD_KEY_BYTES = len(RECORD_PREFIX) + 43
_SHA256_MULTIHASH_PREFIX = bytes.fromhex("1220")
# Identity multihash (0x00) of 36 bytes (0x24): protobuf PublicKey{Type: Ed25519, Data: 32 bytes}.
_ED25519_PEER_ID_PREFIX = bytes.fromhex("002408011220")
PEER_ID_BYTES = len(_ED25519_PEER_ID_PREFIX) + 32


def kad_id(key: bytes) -> int:
    """Return the place of a key in the id space.

    Args:
        key: the key as it is on the wire; for a peer, the bytes of its id.

    Returns:
        SHA-256 of the key as a big-endian integer of 256 bits.
    """
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def record_wire_key(key: bytes) -> bytes:
    """Write a record key for the wire.

    Args:
        key: 32 bytes.

    Returns:
        48 bytes of ASCII.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("a DHT key has 32 bytes")
    return RECORD_PREFIX + base64.urlsafe_b64encode(key).rstrip(b"=")


def parse_record_key(wire_key: bytes) -> bytes:
    """Read a record key from the wire.

    Args:
        wire_key: the key of a PUT_VALUE or GET_VALUE.

    Returns:
        32 bytes.

    Raises:
        InvalidRecordError: another namespace, or not the one form that ``record_wire_key`` gives.
    """
    if not wire_key.startswith(RECORD_PREFIX):
        raise InvalidRecordError("namespace")
    if len(wire_key) != RECORD_KEY_BYTES:
        raise InvalidRecordError("key")
    try:
        key = base64.b64decode(wire_key[len(RECORD_PREFIX) :] + b"=", altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise InvalidRecordError("key") from error
    # The last character carries two unused bits: four spellings would otherwise name one key.
    if record_wire_key(key) != wire_key:
        raise InvalidRecordError("key")
    return key


def provider_wire_key(key: bytes) -> bytes:
    """Write a provider key for the wire.

    Args:
        key: 32 bytes.

    Returns:
        34 bytes: the SHA-256 multihash whose digest is the key.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("a DHT key has 32 bytes")
    return _SHA256_MULTIHASH_PREFIX + key


def parse_provider_key(wire_key: bytes) -> bytes:
    """Read a provider key from the wire.

    Args:
        wire_key: the key of an ADD_PROVIDER or GET_PROVIDERS.

    Returns:
        32 bytes.

    Raises:
        KadMessageError: not a SHA-256 multihash.
    """
    if len(wire_key) != 2 + KEY_BYTES or not wire_key.startswith(_SHA256_MULTIHASH_PREFIX):
        raise KadMessageError("provider key is not a SHA-256 multihash")
    return wire_key[2:]


def is_peer_id(data: bytes) -> bool:
    """Tell whether bytes are the id of a peer with an Ed25519 key, the only kind we talk to.

    Args:
        data: the bytes of a peer id.
    """
    return len(data) == PEER_ID_BYTES and data.startswith(_ED25519_PEER_ID_PREFIX)


def peer_id_bytes(peer_id: str) -> bytes:
    """Turn the text of a peer id into its bytes.

    Args:
        peer_id: base58, ``12D3Koo...``.

    Returns:
        38 bytes: the identity multihash of the public key.

    Raises:
        sovereign_crypto.errors.FormatError: not such an id.
    """
    return _ED25519_PEER_ID_PREFIX + public_key_from_peer_id(peer_id)


def peer_id_text(data: bytes) -> str:
    """Turn the bytes of a peer id into its text.

    Args:
        data: 38 bytes for which ``is_peer_id`` holds.

    Returns:
        Base58, ``12D3Koo...``.
    """
    return peer_id_from_public_key(data[len(_ED25519_PEER_ID_PREFIX) :])
