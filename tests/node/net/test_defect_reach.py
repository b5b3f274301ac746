"""Where a plain libp2p host cannot be reached, or cannot reach, and ours can."""

import socket
import time

import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from multiaddr import Multiaddr
from stock_libp2p import info_of, stock_host

from sovereign_node.net.errors import DialError, ListenError
from sovereign_node.net.host import NetworkLimits


def free_port() -> int:
    """A port on which nobody listens; refused at once on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_all_addresses_are_tried(make_network):
    dead = [f"/ip4/127.0.0.1/tcp/{free_port()}" for _ in range(2)]
    async with make_network() as target:
        live = target.addresses()[0]
        async with stock_host() as stock:
            stock.get_network().retry_config = RetryConfig(max_retries=0)
            target_id = info_of_network(target).peer_id
            addresses = [Multiaddr(address) for address in (*dead, live)]
            with pytest.raises(SwarmException):
                await stock.connect(PeerInfo(target_id, addresses))
        async with make_network() as ours:
            await ours.connect(target.peer_id, [*dead, live])
            assert ours.is_connected(target.peer_id)


def info_of_network(network):
    return info_from_p2p_addr(Multiaddr(network.addresses()[0]))


async def test_connecting_has_no_fixed_delay(make_network):
    async with stock_host() as target, stock_host() as stock, make_network() as ours:
        started = time.perf_counter()
        await stock.connect(info_of(target))
        stock_s = time.perf_counter() - started
        started = time.perf_counter()
        await ours.connect(str(target.get_id()), [str(target.get_addrs()[0])])
        assert stock_s >= 0.25
        assert time.perf_counter() - started < stock_s


async def test_silent_peer_has_a_deadline(make_network):
    """A plain host waits 120 s for a peer that accepts TCP and says nothing."""
    async with make_network() as ours, make_network() as nobody, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            lambda task_status: trio.serve_tcp(hold, 0, host="127.0.0.1", task_status=task_status)
        )
        address = f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}"
        with trio.fail_after(2), pytest.raises(DialError) as caught:
            await ours.connect(nobody.peer_id, [address], timeout_s=0.2)
        assert caught.value.causes == {address: "no answer in time"}
        nursery.cancel_scope.cancel()


HANDSHAKE_S = 0.6


async def hold(stream) -> None:
    await trio.sleep_forever()


async def test_silent_stranger_is_let_go(make_network):
    limits = NetworkLimits(handshake_timeout_s=0.2)
    async with make_network(limits=limits) as ours:
        port = int(ours.addresses()[0].split("/")[4])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stranger:
            with trio.fail_after(2):
                assert await stranger.receive_some(1) == b""


async def test_strangers_of_one_network_share_eight_places(make_network):
    async with make_network() as ours, make_network() as friend:
        port = int(ours.addresses()[0].split("/")[4])
        waiting = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(8)]
        with trio.fail_after(2):
            # Those who came just now are given their time.
            async with await trio.open_tcp_stream("127.0.0.1", port) as early:
                assert await early.receive_some(1) == b""
        await trio.sleep(HANDSHAKE_S)
        ninth = await trio.open_tcp_stream("127.0.0.1", port)
        # It takes the place of the one that has been silent for longest.
        with trio.fail_after(2):
            assert await waiting[0].receive_some(1) == b""
        # And whoever has something to say gets in while all places are taken.
        await friend.connect(ours.peer_id, ours.addresses(), timeout_s=1)
        with trio.fail_after(2):
            assert await waiting[1].receive_some(1) == b""
        with trio.move_on_after(0.1) as scope:
            await ninth.receive_some(1)
        assert scope.cancelled_caught
        for stream in (*waiting, ninth):
            await stream.aclose()


async def test_a_crowd_does_not_keep_a_lone_visitor_out(make_network):
    limits = NetworkLimits(handshakes=16)
    async with make_network(limits=limits) as ours, make_network() as friend:
        port = int(ours.addresses()[0].split("/")[4])
        # Every address of 127.0.0.0/8 is this machine.
        crowd = [
            await trio.open_tcp_stream("127.0.0.1", port, local_address=f"127.0.{number % 4 + 1}.1")
            for number in range(16)
        ]
        await friend.connect(ours.peer_id, ours.addresses(), timeout_s=1)
        with trio.fail_after(2):
            assert await crowd[0].receive_some(1) == b""
        for stream in crowd:
            await stream.aclose()


async def test_a_second_node_on_the_port_is_an_error(make_network):
    async with stock_host() as first:
        address = first.get_transport_addrs()[0]
        async with stock_host(listen=[address]) as second:
            assert second.get_transport_addrs()[0].value_for_protocol("tcp") == address.value_for_protocol("tcp")
    async with make_network() as first:
        address = first.addresses()[0].partition("/p2p/")[0]
        with pytest.raises(ListenError):
            async with make_network(listen=[address]):
                pass


async def test_a_taken_port_is_an_error(make_network):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        async with stock_host(listen=[Multiaddr(address)]) as stock:
            assert stock.get_addrs() == []
        with pytest.raises(ListenError):
            async with make_network(listen=[address]):
                pass


async def test_ipv6_peers_have_an_address(make_network):
    listeners = await trio.open_tcp_listeners(0, host="::1")
    near = await trio.open_tcp_stream("::1", listeners[0].socket.getsockname()[1])
    assert TrioTCPStream(near).get_remote_address() is None
    await near.aclose()
    await listeners[0].aclose()
    async with make_network(listen=["/ip6/::1/tcp/0"]) as ours, make_network() as peer:
        await peer.connect(ours.peer_id, ours.addresses())
        assert ours.connections()[0].address.startswith("/ip6/::1/tcp/")


async def test_closing_does_not_take_its_time_per_connection(make_network):
    async with make_network() as hub, trio.open_nursery() as nursery:
        ours = await nursery.start(run_until_cancelled, make_network)
        for _ in range(5):
            peer = await nursery.start(run_until_cancelled, make_network)
            await hub.connect(peer[0].peer_id, peer[0].addresses())
        del ours
        started = time.perf_counter()
        await hub.shut_down()
        assert time.perf_counter() - started < 0.2 * 5
        nursery.cancel_scope.cancel()


async def run_until_cancelled(make_network, task_status) -> None:
    async with make_network() as network:
        task_status.started((network,))
        await trio.sleep_forever()
