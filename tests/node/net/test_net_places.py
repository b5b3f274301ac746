"""A node never has more connections than its router bears, and work goes on while others come."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from sovereign_node.net.errors import NetError
from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.places import Places

SINK = "/test/sink/1.0.0"
TOTAL = 60
STRANGERS = 70
NOBODY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


@pytest.mark.parametrize("total", [16, 60, 400])
def test_the_total_is_shared_out(total):
    limits = NetworkLimits.within(total)
    assert limits.total == total
    assert min(limits.dials, limits.handshakes) >= 2
    assert limits.connections >= total * 0.7


async def test_dials_wait_for_a_place(autojump_clock):
    connections = 0
    places = Places(3, 2, connections=lambda: connections, handshakes=lambda: 1)
    dialling = 0

    async def dial(seconds: float) -> None:
        nonlocal dialling
        async with places.dial():
            dialling += 1
            await trio.sleep(seconds)
            dialling -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(dial, 10.0)
        await trio.sleep(1)
        assert (dialling, places.taken, places.is_full) == (2, 3, True)
        connections = 2
        await trio.sleep(10)
        # Both are over, but what is open takes the places.
        assert (dialling, places.taken) == (0, 3)
        connections = 1
        places.note_freed()
        await trio.sleep(1)
        assert (dialling, places.taken) == (1, 3)
    assert places.taken == 2


class DeafHosts:
    """Addresses where connections are made and nothing ever comes."""

    def __init__(self) -> None:
        self.open = 0
        self.addresses: list[str] = []

    async def take(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            async with stream:
                while await stream.receive_some():
                    pass
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1

    @asynccontextmanager
    async def listening(self):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self.take, 0)
            port = listeners[0].socket.getsockname()[1]
            self.addresses = [f"/ip4/127.0.0.{number}/tcp/{port}" for number in range(1, 9)]
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_the_total_holds_whoever_comes_and_a_transfer_goes_on(make_network):
    deaf = DeafHosts()
    async with AsyncExitStack() as exits:
        ours = await exits.enter_async_context(make_network(limits=NetworkLimits.within(TOTAL)))
        provider = await exits.enter_async_context(make_network())
        await exits.enter_async_context(deaf.listening())
        strangers = [await exits.enter_async_context(make_network(listen=[])) for _ in range(STRANGERS)]
        nursery = await exits.enter_async_context(trio.open_nursery())
        most = {"connections": 0, "dials": 0}
        received = 0

        async def sink(stream) -> None:
            nonlocal received
            while data := await stream.receive_some(65536):
                received += len(data)

        async def transfer() -> None:
            async with await ours.open_stream(provider.peer_id, SINK) as stream:
                while True:
                    await stream.send_all(bytes(8192))
                    await trio.sleep(0.005)

        async def count() -> None:
            while True:
                inbound = sum(stranger.is_connected(ours.peer_id) for stranger in strangers)
                most["connections"] = max(
                    most["connections"], inbound + deaf.open + len(ours.table.of(provider.peer_id))
                )
                most["dials"] = max(most["dials"], deaf.open)
                assert ours.places.taken <= TOTAL
                await trio.sleep(0.002)

        async def come(stranger) -> None:
            for _ in range(3):
                try:
                    await stranger.connect(ours.peer_id, ours.addresses(), timeout_s=2)
                except NetError:
                    await trio.sleep(0.05)

        async def dial_deaf() -> None:
            while True:
                try:
                    await ours.connect(NOBODY, deaf.addresses, timeout_s=1)
                except NetError:
                    await trio.sleep(0)

        provider.set_handler(SINK, sink)
        await ours.connect(provider.peer_id, provider.addresses())
        ours.crowd.is_friend = lambda peer_id: peer_id == provider.peer_id
        (working,) = ours.table.of(provider.peer_id)
        for task in (transfer, count, dial_deaf, dial_deaf):
            nursery.start_soon(task)
        async with trio.open_nursery() as comers:
            for stranger in strangers:
                comers.start_soon(come, stranger)
        before = received
        await trio.sleep(0.3)
        assert received > before
        assert ours.table.of(provider.peer_id) == [working]
        nursery.cancel_scope.cancel()
    limits = NetworkLimits.within(TOTAL)
    # The other end learns a moment later that a dial was given up.
    assert 0 < most["dials"] <= limits.dials + 4
    # Those who came did not keep each other out either.
    assert limits.connections - 5 <= most["connections"] <= TOTAL
