"""Multiaddrs between their text, which the node uses, and their bytes, which the DHT carries."""

from collections.abc import Iterable
from functools import lru_cache

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from sovereign_node.net.addresses import split_peer_id
from sovereign_protocols.kad.messages import MAX_ADDRESS_BYTES, usable_addresses


@lru_cache(maxsize=4096)
def _to_bytes(text: str) -> bytes | None:
    try:
        return bytes(Multiaddr(text).to_bytes())
    except (MultiaddrError, ValueError):
        return None


@lru_cache(maxsize=4096)
def _to_text(data: bytes) -> str | None:
    # py-multiaddr raises whatever its per-protocol codecs raise on hostile bytes; all are ValueError,
    # LookupError or its own root.
    try:
        return str(Multiaddr(data))
    except (MultiaddrError, ValueError, LookupError):
        return None


def addresses_to_wire(addresses: Iterable[str], *, keep_peer_id: bool = False) -> tuple[bytes, ...]:
    """Encode addresses for a message, without the peer id at their end, which a message of the DHT has already.

    Args:
        addresses: multiaddr texts; what cannot be encoded is left out.
        keep_peer_id: whether to leave the peer id where it is.

    Returns:
        At most 16 binary multiaddrs of at most 128 bytes.
    """
    encoded = (_to_bytes(address if keep_peer_id else split_peer_id(address)[0]) for address in addresses)
    return usable_addresses([address for address in encoded if address])


def addresses_to_text(peer_id: str, addresses: Iterable[bytes]) -> list[str]:
    """Decode addresses from a message.

    Args:
        peer_id: base58 text of the peer to which they are said to lead.
        addresses: binary multiaddrs.

    Returns:
        Multiaddr texts that end in ``/p2p/PEER``; those that end in another peer are left out.
    """
    found = []
    for data in addresses:
        text = _to_text(data) if len(data) <= MAX_ADDRESS_BYTES else None
        if text is None or text == "/":
            continue
        transport, named = split_peer_id(text)
        if transport and named in (None, peer_id):
            found.append(f"{transport}/p2p/{peer_id}")
    return list(dict.fromkeys(found))
