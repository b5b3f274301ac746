"""Hosts of ours, end to end over loopback."""

import hashlib
import secrets
from contextlib import AsyncExitStack, suppress
from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net.errors import DialError, ListenError, ProtocolNotSupportedError, StreamOpenError
from sovereign_node.net.host import open_network
from sovereign_node.net.network import Network
from sovereign_node.net.streams import PeerStream

ECHO = "/test/echo/1.0.0"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def new_key() -> SimpleNamespace:
    return SimpleNamespace(seed=secrets.token_bytes(32))


async def echo(stream: PeerStream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.send_eof()


@pytest.fixture(params=["fast", "stock"])
def stack(request):
    return request.param


@pytest.fixture
async def pair(stack):
    async with AsyncExitStack() as exits:
        first = await exits.enter_async_context(open_network(new_key(), listen=[LOOPBACK], stack=stack))
        second = await exits.enter_async_context(open_network(new_key(), listen=[LOOPBACK], stack=stack))
        second.set_handler(ECHO, echo)
        yield first, second


async def round_trip(network: Network, peer_id: str, size_bytes: int) -> None:
    payload = secrets.token_bytes(size_bytes)
    digest = hashlib.sha256()
    stream = await network.open_stream(peer_id, ECHO)

    async def send() -> None:
        await stream.send_all(payload)
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await stream.receive_some(65536):
            digest.update(data)
    await stream.aclose()
    assert digest.digest() == hashlib.sha256(payload).digest()


@pytest.mark.parametrize("size_bytes", [1, 65507, 65508, 300_000])
async def test_echo_with_half_close(pair, size_bytes):
    first, second = pair
    await first.connect(second.peer_id, second.addresses())
    await round_trip(first, second.peer_id, size_bytes)


async def test_peers_are_authenticated_on_both_sides(pair):
    first, second = pair
    seen = []

    async def note(stream: PeerStream) -> None:
        seen.append((stream.peer_id, stream.protocol_id))

    second.set_handler("/test/note/1.0.0", note)
    await first.connect(second.peer_id, second.addresses())
    async with await first.open_stream(second.peer_id, "/test/note/1.0.0") as stream:
        assert await stream.receive_some(1) == b""
    assert seen == [(first.peer_id, "/test/note/1.0.0")]


async def test_wrong_identity_is_refused(pair):
    first, second = pair
    async with open_network(new_key(), listen=[]) as stranger:
        with pytest.raises(DialError):
            await first.connect(stranger.peer_id, second.addresses())
    assert not first.is_connected(second.peer_id)


async def test_unknown_protocol(pair):
    first, second = pair
    first.add_addresses(second.peer_id, second.addresses())
    with pytest.raises(ProtocolNotSupportedError):
        await first.open_stream(second.peer_id, "/test/unknown/1.0.0")


async def test_not_connected_without_addresses(pair):
    first, second = pair
    with pytest.raises(DialError):
        await first.open_stream(second.peer_id, ECHO)


async def test_failing_handler_resets_its_stream_only(pair):
    first, second = pair

    async def fail(stream: PeerStream) -> None:
        await stream.receive_some(1)
        raise RuntimeError("deliberate")

    second.set_handler("/test/fail/1.0.0", fail)
    await first.connect(second.peer_id, second.addresses())
    stream = await first.open_stream(second.peer_id, "/test/fail/1.0.0")
    await stream.send_all(b"x")
    with trio.fail_after(3), suppress(trio.BrokenResourceError):
        assert await stream.receive_some(1) == b""
    await round_trip(first, second.peer_id, 1000)


async def test_taken_port_is_an_error(pair):
    first, _ = pair
    address = first.addresses()[0].partition("/p2p/")[0]
    with pytest.raises(ListenError):
        async with open_network(new_key(), listen=[address]):
            pass


async def test_watchers_hear_of_connections(pair):
    first, second = pair
    heard: list[tuple[str, bool]] = []
    gone = trio.Event()

    def watcher(peer_id: str, connected: bool) -> None:
        heard.append((peer_id, connected))
        if not connected:
            gone.set()

    stop = second.watch_connections(watcher)
    await first.connect(second.peer_id, second.addresses())
    await round_trip(first, second.peer_id, 10)
    assert [info.peer_id for info in first.connections()] == [second.peer_id]
    await first.disconnect(second.peer_id)
    with trio.fail_after(3):
        await gone.wait()
    assert heard == [(first.peer_id, True), (first.peer_id, False)]
    stop()
    with pytest.raises(StreamOpenError):
        await first.ping(second.peer_id)


async def test_ping_and_counters(pair):
    first, second = pair
    await first.connect(second.peer_id, second.addresses())
    assert 0 < await first.ping(second.peer_id) < 1
    (info,) = first.connections()
    assert info.rtt_s
    assert info.bytes_sent
    assert info.bytes_received
    assert info.path == "lan"
    assert not info.inbound
