"""Where peers may be reached, as far as this node was told since its start."""

from collections.abc import Sequence

from sovereign_node.net.addresses import split_peer_id

_MAX_PEERS = 4096
_MAX_ADDRESSES_PER_PEER = 16


class AddressBook:
    """Remembers addresses, newest first, at most 16 each for 4096 peers."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}

    def add(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Remember addresses of a peer, with or without its id at their end."""
        fresh = [split_peer_id(address)[0] for address in addresses]
        known = self._known.pop(peer_id, [])
        self._known[peer_id] = list(dict.fromkeys([*fresh, *known]))[:_MAX_ADDRESSES_PER_PEER]
        if len(self._known) > _MAX_PEERS:
            del self._known[next(iter(self._known))]

    def of(self, peer_id: str) -> list[str]:
        """List the addresses of a peer, without its id."""
        return list(self._known.get(peer_id, []))
