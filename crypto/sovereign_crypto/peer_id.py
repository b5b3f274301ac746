"""libp2p peer identifiers of Ed25519 keys, as text, without libp2p.

A peer id embeds the key: base58btc(multihash(identity, protobuf PublicKey{Ed25519, key})). Other key
types and hashed keys are refused, because a device is certified by exactly this key.

Source: https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from functools import lru_cache
from typing import Final

import base58

from sovereign_crypto.errors import FormatError
from sovereign_crypto.signing import check_public_key

# 00 identity hash | 24 length 36 | 08 01 field 1 = Ed25519 | 12 20 field 2 = 32 bytes
_PREFIX = bytes.fromhex("002408011220")
# 38 bytes that start with one zero byte give 52 characters, the first of them "1".
_TEXT_LENGTH = 52
#: Both ways take 0.05 ms of long arithmetic, and a node meets the same few peers all day.
_KNOWN_PEERS: Final = 4096


def peer_id_from_public_key(public: bytes) -> str:
    """Return the peer id ("12D3Koo...") of a 32-byte Ed25519 public key.

    Raises:
        FormatError: ``public`` is not an acceptable key.

    """
    return _text_of(bytes(public))


@lru_cache(_KNOWN_PEERS)
def _text_of(public: bytes) -> str:
    check_public_key(public)
    return base58.b58encode(_PREFIX + public).decode("ascii")


@lru_cache(_KNOWN_PEERS)
def public_key_from_peer_id(text: str) -> bytes:
    """Return the 32-byte Ed25519 public key inside a peer id.

    Raises:
        FormatError: not the canonical text of an Ed25519 peer id with an acceptable key.

    """
    # The length test bounds the quadratic base58 arithmetic.
    if len(text) != _TEXT_LENGTH or not text.isascii():
        raise FormatError("not an Ed25519 peer id")
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise FormatError("not an Ed25519 peer id") from error
    public = raw[len(_PREFIX) :]
    if not raw.startswith(_PREFIX) or base58.b58encode(raw).decode("ascii") != text:
        raise FormatError("not an Ed25519 peer id")
    check_public_key(public)
    return public
