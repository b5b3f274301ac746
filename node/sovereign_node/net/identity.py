"""Peer identities: Ed25519 and nothing else.

libp2p 0.8.1 accepts RSA and secp256k1 identities. Ours are Ed25519 everywhere, so a peer id is always a public
key and other key types only add code that a stranger may reach before it is authenticated.
"""

from typing import Any, Protocol

import base58
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from sovereign_node.net.errors import AddressError

# Identity multihash (code 0, 36 bytes) of a protobuf with key type 1 (Ed25519) and 32 bytes of key.
_ED25519_PREFIX = bytes.fromhex("002408011220")
_PEER_ID_BYTES = 38


class DeviceKey(Protocol):
    """What the network needs of a device's signing key."""

    @property
    def seed(self) -> bytes:
        """32 bytes of Ed25519 seed."""
        ...


def is_ed25519(peer_id: bytes) -> bool:
    """Say whether the binary peer id embeds an Ed25519 public key."""
    return len(peer_id) == _PEER_ID_BYTES and peer_id.startswith(_ED25519_PREFIX)


def key_pair_of(key: DeviceKey) -> Any:
    """Make libp2p's form of a device key."""
    return create_new_key_pair(key.seed)


def to_libp2p_id(peer_id: str) -> Any:
    """Read the base58 text of a peer id.

    Raises:
        AddressError: not base58, or not an Ed25519 identity.
    """
    try:
        raw = base58.b58decode(peer_id)
    except ValueError as error:
        raise AddressError(peer_id, "not a peer id") from error
    if not is_ed25519(raw):
        raise AddressError(peer_id, "not an Ed25519 peer id")
    return ID(raw)
