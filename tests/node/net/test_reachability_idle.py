"""What a node sends and receives when nothing happens."""

from contextlib import AsyncExitStack

import pytest
import trio

from sovereign_node.net.kad import Kademlia
from sovereign_node.net.reachability import Reachability
from sovereign_node.net.reachability_server import ReachabilityServer

PEERS = 10
# The bar is set for 30 peers.
BAR_PEERS = 30
BAR_BITS_PER_S = 20_000
SETTLE_S = 8.0
MEASURED_S = 22.0
# Every check of life is four packets with their acknowledgements, which the pipes do not see: 52 bytes each for
# Ethernet-less TCP/IP with timestamps; both ends check every 10 s.
HEADER_BYTES_PER_PEER_PER_S = 2 * 4 * 52 / 10


class AcceptAll:
    """Takes every record: there are none."""

    def validate(self, *_arguments) -> None:
        return None

    def select(self, *_arguments) -> int:
        return 0


def carried(network) -> int:
    return sum(info.bytes_received + info.bytes_sent for info in network.connections())


@pytest.mark.slow
async def test_an_idle_node_is_quiet(make_network):
    async with AsyncExitStack() as exits:
        node = await exits.enter_async_context(make_network())
        peers = [await exits.enter_async_context(make_network()) for _ in range(PEERS)]
        nursery = await exits.enter_async_context(trio.open_nursery())
        for network in (node, *peers):
            ReachabilityServer(network).install()
            await nursery.start(Kademlia(network, validator=AcceptAll()).run)
        for peer in peers:
            await node.connect(peer.peer_id, peer.addresses())
        await nursery.start(Reachability(node).run)
        await trio.sleep(SETTLE_S)
        before = carried(node)
        await trio.sleep(MEASURED_S)
        per_peer_bytes_per_s = (carried(node) - before) / MEASURED_S / PEERS + HEADER_BYTES_PER_PEER_PER_S
        assert len(node.connections()) == PEERS
        nursery.cancel_scope.cancel()
    assert per_peer_bytes_per_s * BAR_PEERS * 8 < BAR_BITS_PER_S
