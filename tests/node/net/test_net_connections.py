"""Connections that cross, freeze, or run over other pipes than TCP."""

import contextlib
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.host.ping import PingService
from stock_libp2p import stock_host
from trio.testing import memory_stream_pair

from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.errors import AddressError, DialError, StreamOpenError
from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.paths import is_immediate

ECHO = "/test/echo/1.0.0"


async def echo(stream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.send_eof()


async def ask(network, peer_id: str, payload: bytes = b"hello") -> None:
    async with await network.open_stream(peer_id, ECHO) as stream:
        await stream.send_all(payload)
        await stream.send_eof()
        received = b""
        while data := await stream.receive_some(65536):
            received += data
        assert received == payload


@pytest.mark.parametrize("stack", ["fast", "stock"])
async def test_simultaneous_dials_leave_usable_connections(make_network, stack):
    limits = NetworkLimits(ping_interval_s=0.1)
    async with make_network(stack=stack, limits=limits) as one, make_network(stack=stack, limits=limits) as other:
        for network in (one, other):
            network.set_handler(ECHO, echo)
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.connect, other.peer_id, other.addresses())
                nursery.start_soon(other.connect, one.peer_id, one.addresses())
            with trio.fail_after(5):
                for _ in range(5):
                    await ask(one, other.peer_id)
                    await ask(other, one.peer_id)
                if stack == "fast":
                    while max(len(one.connections()), len(other.connections())) > 1:
                        await trio.sleep(0.01)
                await ask(one, other.peer_id)
                await ask(other, one.peer_id)
            await one.disconnect(other.peer_id)
            with trio.fail_after(5):
                while one.connections() or other.connections():
                    await trio.sleep(0.01)


async def test_many_connects_at_once_make_one_connection(make_network):
    async with make_network() as one, make_network() as other:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one.connect, other.peer_id, other.addresses())
        assert len(one.connections()) == 1


@asynccontextmanager
async def freezable_proxy(address: str):
    """Forward TCP to an address until told to freeze; gives its own address and the switch."""
    target = parse_tcp(address)
    frozen = trio.Event()

    async def pump(source, sink) -> None:
        async for data in source:
            if frozen.is_set():
                await trio.sleep_forever()
            await sink.send_all(data)

    async def serve(client) -> None:
        upstream = await trio.open_tcp_stream(target.host, target.port)
        async with upstream, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, upstream)
            nursery.start_soon(pump, upstream, client)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            lambda task_status: trio.serve_tcp(serve, 0, host="127.0.0.1", task_status=task_status)
        )
        yield f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}", frozen
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stack", ["fast", "stock"])
async def test_frozen_peers_are_noticed(make_network, stack):
    limits = NetworkLimits(ping_interval_s=0.05, ping_timeout_s=0.1)
    async with (
        make_network(stack=stack, limits=limits) as one,
        make_network(stack=stack) as other,
        freezable_proxy(other.addresses()[0]) as (address, frozen),
    ):
        await one.connect(other.peer_id, [address])
        with trio.fail_after(3):
            while one.connections()[0].rtt_s is None:
                await trio.sleep(0.01)
        frozen.set()
        with trio.fail_after(3):
            while one.is_connected(other.peer_id):
                await trio.sleep(0.01)


async def test_whoever_waits_in_vain_makes_a_dead_connection_go(make_network):
    limits = NetworkLimits(ping_interval_s=60, ping_timeout_s=0.2)
    async with (
        make_network(limits=limits) as one,
        make_network() as other,
        freezable_proxy(other.addresses()[0]) as (address, frozen),
    ):
        await one.connect(other.peer_id, [address])
        assert await one.ping(other.peer_id) < 5
        frozen.set()
        with trio.fail_after(5):
            while one.is_connected(other.peer_id):
                with pytest.raises((StreamOpenError, DialError)):
                    await one.open_stream(other.peer_id, "/test/echo/1.0.0", timeout_s=0.1)
                with contextlib.suppress(StreamOpenError):
                    await one.ping(other.peer_id, timeout_s=0.1)
        # One that answers is left alone, whoever doubts it.
        await one.connect(other.peer_id, other.addresses())
        for _ in range(5):
            one.table.of(other.peer_id)[0].doubt()
            await trio.sleep(0.05)
        assert await one.ping(other.peer_id) < 5


class MemoryTransport:
    """Pipes within the process, dialled as `/memory/NUMBER`."""

    path = "relay"

    def __init__(self, hub: dict, number: int) -> None:
        self._hub = hub
        self._address = f"/memory/{number}"

    def can_dial(self, address: str) -> bool:
        return address.startswith("/memory/")

    async def dial(self, address: str, peer_id: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if address not in self._hub:
            raise OSError("nobody listens there")
        near, far = memory_stream_pair()
        await self._hub[address].send(far)
        return near

    def addresses(self) -> list[str]:
        return [self._address]

    async def serve(self, accept) -> None:
        sender, receiver = trio.open_memory_channel(0)
        self._hub[self._address] = sender
        async with trio.open_nursery() as nursery:
            async for stream in receiver:
                nursery.start_soon(accept, stream, "/memory/0")


@pytest.mark.parametrize("stack", ["fast", "stock"])
async def test_other_pipes_run_the_same_upgrade(make_network, stack):
    hub: dict = {}
    async with (
        make_network(stack=stack, listen=[], transports=[MemoryTransport(hub, 1)]) as one,
        make_network(stack=stack, listen=[]) as other,
    ):
        other.add_transport(MemoryTransport(hub, 2))
        other.set_handler(ECHO, echo)
        await trio.testing.wait_all_tasks_blocked()
        assert other.addresses() == [f"/memory/2/p2p/{other.peer_id}"]
        await one.connect(other.peer_id, other.addresses())
        await ask(one, other.peer_id, bytes(300_000))
        assert [info.path for info in one.connections()] == ["relay"]
        async with make_network(listen=[]) as nobody:
            with pytest.raises(DialError):
                await other.connect(nobody.peer_id, ["/memory/9"])


async def test_dialling_oneself_is_an_error(make_network):
    async with make_network() as one:
        with pytest.raises(DialError):
            await one.connect(one.peer_id, one.addresses())


@pytest.mark.parametrize("peer_id", ["", "not base58 0OIl", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"])
async def test_malformed_peer_ids(make_network, peer_id):
    async with make_network() as one:
        with pytest.raises(AddressError):
            one.add_addresses(peer_id, ["/ip4/127.0.0.1/tcp/1"])


async def test_dial_reports_each_cause(make_network):
    async with make_network() as one, make_network() as other:
        addresses = ["/ip4/127.0.0.1/udp/1/quic-v1", "nonsense"]
        with pytest.raises(DialError) as caught:
            await one.connect(other.peer_id, addresses)
        assert set(caught.value.causes) == set(addresses)


async def test_errors_of_the_body_come_out_bare(make_network):
    with pytest.raises(KeyError):
        async with make_network():
            raise KeyError("ours")


async def test_libp2p_services_are_served(make_network):
    async with make_network() as ours, stock_host() as stock:
        ours.set_handler(ECHO, echo)
        await ours.connect(str(stock.get_id()), [str(stock.get_addrs()[0])])
        with trio.fail_after(5):
            ours_id = ours._host.get_id()
            while not (
                stock.get_peerstore().has_peer(ours_id) and ECHO in stock.get_peerstore().get_protocols(ours_id)
            ):
                await trio.sleep(0.01)
        assert await PingService(stock).ping(ours_id, 1)


async def test_strangers_do_not_fill_the_peer_store(make_network):
    async with make_network() as ours:
        store = ours._host.get_peerstore()
        before = len(store.peer_ids())
        for _ in range(5):
            async with make_network() as peer:
                await peer.connect(ours.peer_id, ours.addresses())
                await peer.ping(ours.peer_id)
        with trio.fail_after(3):
            while ours.connections():
                await trio.sleep(0.01)
        assert len(store.peer_ids()) <= before + 1


async def test_direct_connections_are_preferred(make_network):
    hub: dict = {}
    async with (
        make_network(transports=[MemoryTransport(hub, 1)]) as one,
        make_network(transports=[MemoryTransport(hub, 2)]) as other,
    ):
        other.set_handler(ECHO, echo)
        await trio.testing.wait_all_tasks_blocked()
        await one.connect(other.peer_id, ["/memory/2"])
        await one._dialer.dial(other.peer_id, other.addresses()[:1], timeout_s=3)
        assert {info.path for info in one.connections()} == {"relay", "lan"}
        assert is_immediate(one._preferred(other.peer_id, ECHO).pipe.path)
        await ask(one, other.peer_id)


async def test_a_peer_that_objects_gets_smaller_frames(make_network):
    async with make_network() as one, make_network() as other:
        other.set_handler(ECHO, echo)
        await one.connect(other.peer_id, other.addresses())
        with trio.fail_after(3):
            while not other.is_connected(one.peer_id):
                await trio.sleep(0.01)
            await other.table.of(one.peer_id)[0].muxed_conn.close(1)
            while one.connections():
                await trio.sleep(0.01)
            await one.connect(other.peer_id, other.addresses())
        (connection,) = one.table.of(other.peer_id)
        assert connection.muxed_conn.yamux._limits.max_frame_bytes < 65536
        await ask(one, other.peer_id, bytes(300_000))
