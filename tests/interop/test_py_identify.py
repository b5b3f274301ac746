"""What a stock py-libp2p peer learns from our identify."""

from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr
from stock_libp2p import stock_host

from sovereign_crypto.signing import SigningKey
from sovereign_node.net.host import open_network


async def test_addresses_and_protocols_are_told() -> None:
    listen = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]
    async with open_network(SigningKey.generate(), listen=listen) as network, stock_host() as host:
        network.set_handler("/test/x/1.0.0", lambda stream: stream.aclose())
        info = info_from_p2p_addr(Multiaddr(network.addresses()[0]))
        await host.connect(info)
        stream = await host.new_stream(info.peer_id, [TProtocol("/ipfs/id/1.0.0")])
        told = parse_identify_response(await stream.read())
        await stream.close()
        addresses = [str(Multiaddr(raw)) for raw in told.listen_addrs]
        assert addresses == [address.partition("/p2p/")[0] for address in network.addresses()]
        assert "/test/x/1.0.0" in told.protocols
