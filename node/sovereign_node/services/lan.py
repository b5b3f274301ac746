"""Meet peers of the local network: announce this node by mDNS and let found ones into the DHT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_crypto.errors import FormatError
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.mdns import Mdns
from sovereign_node.net.network import Network
from sovereign_node.services.peer_finder import PeerFinder

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

MAX_WAITING = 64


class Lan:
    """Discovery on the local network.

    Args:
        network: whose addresses are announced.
        kademlia: joins through found peers.
        finder: remembers their addresses.
    """

    def __init__(self, network: Network, kademlia: Kademlia, finder: PeerFinder) -> None:
        self._network = network
        self._kademlia = kademlia
        self._finder = finder
        self._found, self._waiting = trio.open_memory_channel[tuple[str, list[str]]](MAX_WAITING)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce and listen until cancelled."""
        task_status.started()
        mdns = Mdns(self._network.peer_id, self._network.addresses, self._note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mdns.run)
            async for peer_id, addresses in self._waiting:
                await self._finder.learn(peer_id, addresses, source="lan")
                self._network.add_addresses(peer_id, addresses)
                await self._kademlia.bootstrap(addresses)

    def _note(self, peer_id: str, addresses: Sequence[str]) -> None:
        try:
            public_key_from_peer_id(peer_id)
            self._found.send_nowait((peer_id, list(addresses)))
        except (FormatError, trio.WouldBlock):
            log.info("lan_peer_ignored", peer_id=peer_id)


def is_only_on_loopback(listen: Sequence[str]) -> bool:
    """Tell whether nobody on the local network could reach a node that listens on these multiaddrs."""
    return all(address.startswith(("/ip4/127.", "/ip6/::1/")) for address in listen)
