"""Readers that do not read, on many streams and of many peers, cost no more memory than was set."""

from contextlib import AsyncExitStack

import pytest
import trio

from sovereign_node.config import Config, NetConfig, load_config
from sovereign_node.errors import NodeError
from sovereign_node.net.host import NetworkLimits

UNREAD = "/test/unread/1.0.0"
ECHO = "/test/echo/1.0.0"
MIB = 1024 * 1024


def budget_of(network):
    return network._swarm.upgrader._node_budget


async def flood(network, peer_id, streams: int) -> None:
    """Send on many streams what nobody reads, until each is full or broken."""

    async def fill(stream) -> None:
        with trio.move_on_after(0.5):
            try:
                while True:
                    await stream.send_all(bytes(65536))
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(fill, await network.open_stream(peer_id, UNREAD))


async def echo(stream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


async def test_slow_readers_hold_no_more_than_the_limits(make_network):
    limits = NetworkLimits.within(60, window_bytes=8 * MIB)
    most = 0
    async with AsyncExitStack() as exits:
        ours = await exits.enter_async_context(make_network(limits=limits))
        ours.set_handler(UNREAD, lambda _stream: trio.sleep_forever())
        ours.set_handler(ECHO, echo)
        others = [await exits.enter_async_context(make_network(listen=[])) for _ in range(6)]
        nursery = await exits.enter_async_context(trio.open_nursery())

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, budget_of(ours).buffered_bytes)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(watch)
        async with trio.open_nursery() as floods:
            for other in others:
                await other.connect(ours.peer_id, ours.addresses())
                floods.start_soon(flood, other, ours.peer_id, 16)
        held = [of_peer.buffered_bytes for of_peer in budget_of(ours)._holders]
        assert 6 * MIB < sum(held) == budget_of(ours).buffered_bytes
        assert max(held) <= 2 * MIB
        # What goes over a limit is dropped in the same step, so the loop never sees it.
        assert most <= 8 * MIB
        # Whoever reads is still served.
        stream = await others[-1].open_stream(ours.peer_id, ECHO)
        await stream.send_all(b"hello")
        assert await stream.receive_some(5) == b"hello"
        nursery.cancel_scope.cancel()


def test_the_limit_is_a_setting(tmp_path):
    assert (
        Config().net.receive_window_bytes
        == NetworkLimits().window_bytes
        == 4 * NetworkLimits().window_bytes_per_peer
    )
    path = tmp_path / "config.toml"
    path.write_text("[net]\nreceive_window_bytes = 1000\n")
    with pytest.raises(NodeError, match="receive_window_bytes"):
        load_config(path)
    path.write_text("[net]\nreceive_window_bytes = 8388608\n")
    assert load_config(path).net == NetConfig(receive_window_bytes=8 * MIB)
