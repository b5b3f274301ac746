"""A node that is full lets newcomers in and friends stay."""

from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net.crowd import Crowd
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


def fact(peer_id: str, opened_at: int, *, inbound: bool = True, streams: int = 0, moved: int = 0):
    """Stand in for a connection, as far as the crowd looks at it."""
    pipe = SimpleNamespace(remote=("192.0.2.1", 4001), bytes_received=moved, bytes_sent=0)
    closed = SimpleNamespace(is_set=lambda: False)
    return Known(
        peer_id=peer_id, opened_at=opened_at, inbound=inbound, is_idle=not streams, pipe=pipe, closed=closed
    )


class Known(SimpleNamespace):
    """Hashable by identity, as a connection is."""

    __hash__ = object.__hash__


WORKING = {"streams": 1, "moved": 1_000_000}


@pytest.mark.parametrize(
    ("others", "newcomer", "leaves"),
    [
        # A stranger goes before somebody whom we dialled, and one whom we dialled before a friend.
        ([fact("friend", 1), fact("dialled", 2, inbound=False), fact("stranger", 3)], fact("new", 9), "stranger"),
        ([fact("friend", 1), fact("dialled", 2, inbound=False)], fact("new", 9), "dialled"),
        ([fact("friend", 1, inbound=False)], fact("new", 9, inbound=False), "new"),
        # Who works stays, even if it is a stranger; held streams without bytes are no work.
        ([fact("busy", 1, **WORKING), fact("dialled", 2, inbound=False)], fact("new", 9), "dialled"),
        ([fact("busy", 1, **WORKING), fact("other", 2, streams=3)], fact("new", 9), "other"),
        ([fact("busy", 1, **WORKING), fact("friend", 2)], fact("new", 9), "new"),
        # But strangers that all work keep no friend out.
        ([fact("busy", 1, **WORKING), fact("friend", 2)], fact("new friend", 9), "busy"),
        ([fact("friend", 1, **WORKING), fact("old friend", 2)], fact("new friend", 9), "old friend"),
        ([fact("friend", 1, **WORKING), fact("old friend", 2, **WORKING)], fact("new friend", 9), "new friend"),
    ],
)
async def test_who_has_to_go(others, newcomer, leaves):
    crowd = Crowd(1)
    crowd.is_friend = lambda peer_id: "friend" in peer_id
    everyone = [*others, newcomer]
    assert crowd._least(everyone, newcomer).peer_id == leaves


async def test_work_that_is_over_is_forgotten():
    crowd = Crowd(1)
    worked, newcomer = fact("worked", 1, **WORKING), fact("new", 9)
    for _ in range(2):
        crowd.note_check(worked)
    assert crowd._least([worked, newcomer], newcomer) is worked
    crowd.forget(worked)
    assert crowd._least([worked, newcomer], newcomer) is newcomer


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
