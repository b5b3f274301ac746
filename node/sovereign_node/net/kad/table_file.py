"""The routing table as data that survives a restart."""

from collections.abc import Iterable
from typing import Any

from sovereign_crypto.errors import FormatError
from sovereign_node.net.kad.caller import PeerAddresses
from sovereign_protocols.kad.keys import peer_id_bytes
from sovereign_protocols.kad.messages import MAX_ADDRESSES

VERSION = 1
MAX_CONTACTS = 128


def snapshot(contacts: Iterable[PeerAddresses]) -> dict[str, Any]:
    """Write contacts as data for JSON.

    Args:
        contacts: the peers of the routing table.
    """
    peers = [{"peer_id": peer.peer_id, "addresses": list(peer.addresses)} for peer in contacts]
    return {"version": VERSION, "contacts": peers[-MAX_CONTACTS:]}


def parse(data: object) -> list[PeerAddresses]:
    """Read what ``snapshot`` wrote; a table that cannot be read is an empty one.

    Args:
        data: decoded JSON.
    """
    if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("contacts"), list):
        return []
    found = (_contact(item) for item in data["contacts"][:MAX_CONTACTS])
    return [contact for contact in found if contact is not None]


def _contact(item: object) -> PeerAddresses | None:
    if not isinstance(item, dict):
        return None
    peer_id, addresses = item.get("peer_id"), item.get("addresses")
    if not isinstance(peer_id, str) or not isinstance(addresses, list):
        return None
    try:
        peer_id_bytes(peer_id)
    except FormatError:
        return None
    texts = tuple(address for address in addresses[:MAX_ADDRESSES] if isinstance(address, str))
    return PeerAddresses(peer_id, texts)
