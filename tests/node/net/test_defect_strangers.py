"""What a stranger can do to a plain libp2p host, and cannot do to ours."""

import secrets
from contextlib import suppress
from types import SimpleNamespace

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr
from stock_libp2p import info_of, stock_host

from sovereign_node.net import negotiate
from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.errors import DialError
from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.identity import key_pair_of
from sovereign_node.net.streams import receive_exactly

NOT_UTF8 = b"\x05\xff\xfe\xfd\xfc\n"
PLAINTEXT = "/plaintext/2.0.0"


async def offered(address: str, protocol_id: str) -> bytes:
    """Propose a security protocol on a bare socket and give the answer."""
    tcp = parse_tcp(address)
    async with await trio.open_tcp_stream(tcp.host, tcp.port) as socket:
        await socket.send_all(
            negotiate.encode_message(b"/multistream/1.0.0") + negotiate.encode_message(protocol_id.encode())
        )
        answers = []
        for _ in range(2):
            length = (await receive_exactly(socket, 1))[0]
            answers.append(await receive_exactly(socket, length))
        return answers[1].strip()


async def test_plaintext_is_not_offered(make_network):
    async with stock_host() as stock, make_network() as ours:
        assert await offered(str(stock.get_addrs()[0]), PLAINTEXT) == PLAINTEXT.encode()
        assert await offered(ours.addresses()[0], PLAINTEXT) == b"na"
        assert await offered(ours.addresses()[0], "/noise") == b"/noise"


async def test_plaintext_is_not_taken(make_network):
    """A listener that offers nothing else gets no connection from us."""

    async def serve(socket):
        face = SimpleNamespace(
            peer_id="", protocol_id="", send_all=socket.send_all, receive_some=socket.receive_some
        )
        with pytest.raises(trio.BrokenResourceError):
            await negotiate.accept(face, (PLAINTEXT,), (PLAINTEXT,))

    async with make_network() as ours, make_network() as claimed, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            lambda task_status: trio.serve_tcp(serve, 0, host="127.0.0.1", task_status=task_status)
        )
        port = listener.socket.getsockname()[1]
        with pytest.raises(DialError):
            await ours.connect(claimed.peer_id, [f"/ip4/127.0.0.1/tcp/{port}"])
        nursery.cancel_scope.cancel()


async def open_raw_stream(ours, peer_id):
    """Open a stream on which nothing is negotiated yet."""
    (connection,) = ours.table.of(peer_id)
    return await connection.open_stream()


async def test_six_bytes_do_not_stop_the_host(make_network):
    async with make_network() as attacker:
        with pytest.RaisesGroup(UnicodeDecodeError, flatten_subgroups=True):
            async with stock_host() as stock:
                await attacker.connect(str(stock.get_id()), [str(stock.get_addrs()[0])])
                stream = await open_raw_stream(attacker, str(stock.get_id()))
                await stream.send_all(NOT_UTF8)
                await trio.sleep(3)

        for stack in ("fast", "stock"):
            async with make_network(stack=stack) as ours:
                await attacker.connect(ours.peer_id, ours.addresses())
                stream = await open_raw_stream(attacker, ours.peer_id)
                await stream.send_all(NOT_UTF8)
                with trio.fail_after(3), pytest.raises(trio.BrokenResourceError):
                    await receive_exactly(stream, 100)
                assert await attacker.ping(ours.peer_id)


async def test_handler_errors_do_not_stop_the_host(make_network):
    async def fail(stream):
        raise RuntimeError("deliberate")

    async with make_network() as peer:
        with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
            async with stock_host() as stock:
                stock.set_stream_handler("/test/fail/1.0.0", fail)
                await peer.connect(str(stock.get_id()), [str(stock.get_addrs()[0])])
                await peer.open_stream(str(stock.get_id()), "/test/fail/1.0.0")
                await trio.sleep(3)

        async with make_network() as ours:
            ours.set_handler("/test/fail/1.0.0", fail)
            await peer.connect(ours.peer_id, ours.addresses())
            stream = await peer.open_stream(ours.peer_id, "/test/fail/1.0.0")
            with trio.fail_after(3), pytest.raises(trio.BrokenResourceError):
                await stream.receive_some(1)
            assert await peer.ping(ours.peer_id)


async def test_inbound_places_come_back(make_network):
    config = ConnectionConfig(max_connections=3, min_connections=0, low_watermark=0, high_watermark=3)
    async with stock_host(connection_config=config) as stock, make_network() as peer:
        refused = 0
        for _ in range(4):
            try:
                await peer.connect(str(stock.get_id()), [str(stock.get_addrs()[0])], timeout_s=1)
            except DialError:
                refused += 1
            await peer.disconnect(str(stock.get_id()))
        assert refused == 1

    async with make_network(limits=NetworkLimits(connections=3)) as ours, make_network() as peer:
        for _ in range(8):
            await peer.connect(ours.peer_id, ours.addresses())
            await peer.disconnect(ours.peer_id)
            with trio.fail_after(3):
                while ours.connections():
                    await trio.sleep(0.01)


def test_our_own_key_stays_in_the_peer_store():
    key_pair = key_pair_of(SimpleNamespace(seed=secrets.token_bytes(32)))
    own = ID.from_pubkey(key_pair.public_key)

    def survives(store: PeerStore) -> bool:
        store.add_key_pair(own, key_pair)
        for number in range(1001):
            store.add_addrs(ID(number.to_bytes(34, "big")), [info_address], 120)
        return own in store.peer_data_map

    info_address = Multiaddr("/ip4/127.0.0.1/tcp/1")
    assert not survives(PeerStore())
    assert survives(PeerStore(max_records=10**9, max_peers=10**9))


async def test_known_peers_are_not_dialled_unasked(make_network):
    async with stock_host() as seen, make_network() as ours:
        swarm = ours._host.get_network()
        swarm.peerstore.add_addrs(seen.get_id(), info_of(seen).addrs, 120)
        assert not swarm.auto_connector._started
        await swarm.auto_connector.maybe_connect()
        assert not ours.connections()


@pytest.mark.parametrize("stack", ["fast", "stock"])
async def test_other_key_types_are_refused(make_network, stack):
    async with make_network(stack=stack) as ours:
        stranger = new_host(key_pair=create_secp256k1())
        async with stranger.run([]):
            # The stranger's own handshake is over before ours refuses it.
            with suppress(BaseLibp2pError):
                await stranger.connect(info_from(ours))
            await stranger.close()
        assert not ours.connections()


def info_from(network):
    return info_from_p2p_addr(Multiaddr(network.addresses()[0]))
