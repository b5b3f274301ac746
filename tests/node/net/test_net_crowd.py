"""A node that is full lets newcomers in and friends stay."""

import pytest
import trio

from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.listener import neighbourhood

ECHO = "/test/echo/1.0.0"


async def settled(ours, count: int) -> None:
    with trio.fail_after(5):
        while len(ours.connections()) != count:
            await trio.sleep(0.01)


@pytest.fixture
async def crowd(make_network):
    """A node with room for four, and four strangers that have taken it."""
    async with make_network(limits=NetworkLimits(connections=4)) as ours, trio.open_nursery() as nursery:
        ours.set_handler(ECHO, lambda stream: trio.sleep_forever())
        strangers = []

        async def run(task_status) -> None:
            async with make_network(listen=[]) as stranger:
                await stranger.connect(ours.peer_id, ours.addresses())
                task_status.started(stranger)
                await trio.sleep_forever()

        for _ in range(4):
            strangers.append(await nursery.start(lambda task_status: run(task_status)))
        await settled(ours, 4)
        with trio.fail_after(5):
            # Each is asked by identify who it is.
            while not all(item.is_idle for item in ours.table.all()):
                await trio.sleep(0.01)
        yield ours, strangers
        nursery.cancel_scope.cancel()


async def test_the_oldest_idle_stranger_goes(make_network, crowd):
    ours, strangers = crowd
    stream = await strangers[0].open_stream(ours.peer_id, ECHO)
    async with make_network(listen=[]) as newcomer:
        await newcomer.connect(ours.peer_id, ours.addresses())
        await settled(ours, 4)
        assert await newcomer.ping(ours.peer_id) < 5
        connected = {item.peer_id for item in ours.connections()}
        assert connected == {item.peer_id for item in (strangers[0], strangers[2], strangers[3], newcomer)}
    await stream.reset()


async def test_friends_and_those_we_dialled_stay(make_network, crowd):
    ours, strangers = crowd
    ours.crowd.is_friend = lambda peer_id: peer_id in {strangers[0].peer_id, strangers[1].peer_id}
    async with make_network() as dialled, make_network(listen=[]) as newcomer:
        await ours.connect(dialled.peer_id, dialled.addresses())
        await newcomer.connect(ours.peer_id, ours.addresses())
        await settled(ours, 4)
        assert await newcomer.ping(ours.peer_id) < 5
        stay = (strangers[0], strangers[1], dialled, newcomer)
        assert {item.peer_id for item in ours.connections()} == {item.peer_id for item in stay}


async def test_strangers_that_hold_streams_keep_no_friend_out(make_network, crowd):
    ours, strangers = crowd
    streams = [await stranger.open_stream(ours.peer_id, ECHO) for stranger in strangers]
    async with make_network(listen=[]) as friend:
        ours.crowd.is_friend = lambda peer_id: peer_id == friend.peer_id
        await friend.connect(ours.peer_id, ours.addresses())
        await settled(ours, 4)
        assert await friend.ping(ours.peer_id) < 5
    for stream in streams:
        await stream.reset()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        (None, "pipe"),
    ],
)
def test_neighbourhoods(host, name):
    assert neighbourhood(host) == name
