"""What libp2p's Yamux gets wrong, and ours and the guarded one do not."""

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import Yamux
from stock_libp2p import ScriptedConnection, frame, running_yamux, stock_host
from trio.testing import memory_stream_pair

from sovereign_node.net.pipes import Pipe
from sovereign_node.net.session import NoiseSession
from sovereign_node.net.stock_yamux import GuardedYamux
from sovereign_node.net.yamux_connection import YamuxConnection
from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.errors import StreamLimitError
from sovereign_protocols.yamux.events import Limits

DATA, UPDATE, PING = 0, 1, 2
SYN = 1
MIB = 1024 * 1024


class Secured:
    """An authenticated connection over a memory stream, for our muxer."""

    def __init__(self, stream, *, is_initiator: bool) -> None:
        keys = (b"a" * 32, b"b" * 32) if is_initiator else (b"b" * 32, b"a" * 32)
        self.is_initiator = is_initiator
        self.pipe = Pipe(stream, address="/memory", path="direct")
        self.session = NoiseSession(self.pipe, *keys)


@pytest.fixture
async def ours(nursery):
    """Both ends of our own connection, over memory streams."""
    connections = []
    for stream, is_initiator in zip(memory_stream_pair(), (True, False), strict=True):
        connection = YamuxConnection(
            Secured(stream, is_initiator=is_initiator),
            "peer",
            early=b"",
            limits=Limits(),
            budget=WindowBudget(16 * MIB),
        )
        nursery.start_soon(connection.start)
        connections.append(connection)
    yield connections
    for connection in connections:
        await connection.close()


async def arrives(muxer, connection) -> bool:
    """While a write of ours hangs, let the peer ping and then send data; say whether the data gets through."""
    await connection.deliver(frame(UPDATE, SYN, 1, 0))
    stream = await muxer.accept_stream()
    connection.writes_hang = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, b"a write that waits for the socket")
        await trio.testing.wait_all_tasks_blocked()
        await connection.deliver(frame(PING, SYN, 0, 1) + frame(DATA, 0, 1, 4, b"data"))
        await trio.testing.wait_all_tasks_blocked()
        received = bytes(muxer.stream_buffers[1])
        nursery.cancel_scope.cancel()
    return received == b"data"


async def test_reading_does_not_wait_for_writing():
    async with running_yamux() as (muxer, connection):
        assert not await arrives(muxer, connection)
    async with running_yamux(GuardedYamux) as (muxer, connection):
        assert await arrives(muxer, connection)


async def test_bulk_both_ways_and_new_streams_do_not_stop(ours):
    async def send(stream) -> None:
        await stream.send_all(bytes(8 * MIB))
        await stream.send_eof()

    async def drain(stream) -> None:
        while await stream.receive_some(MIB):
            pass

    near, far = ours
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                opened = near.open_peer_stream()
                near.flush()
                accepted = (await far.accept_stream()).stream
                for stream in (opened, accepted):
                    nursery.start_soon(send, stream)
                    nursery.start_soon(drain, stream)


async def buffered(kind) -> tuple[int, bool]:
    """Send 20 MiB on a stream with 256 KiB of window that nobody reads."""
    async with running_yamux(kind) as (muxer, connection):
        await connection.deliver(frame(UPDATE, SYN, 1, 0))
        held = 0
        for _ in range(20):
            await connection.deliver(frame(DATA, 0, 1, MIB, bytes(MIB)))
            await trio.testing.wait_all_tasks_blocked()
            held = max(held, sum(map(len, muxer.stream_buffers.values())))
        return held, muxer.is_closed or muxer.event_shutting_down.is_set()


async def test_windows_are_enforced():
    held, _ = await buffered(Yamux)
    assert held == 20 * MIB
    held, ended = await buffered(GuardedYamux)
    assert held <= 17 * MIB
    assert ended


async def test_a_stalled_reader_does_not_break_the_stream(autojump_clock, ours):
    connection = ScriptedConnection()
    muxer = Yamux(connection, "peer", is_initiator=True)
    stream = await muxer.open_stream()
    stream.send_window = 0
    with pytest.raises(MuxedStreamError):
        await stream.write(b"x")

    near, far = ours
    opened = near.open_peer_stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.send_all, bytes(MIB))
        accepted = (await far.accept_stream()).stream
        await trio.sleep(60)
        received = 0
        while received < MIB:
            received += len(await accepted.receive_some(MIB))


async def test_too_many_streams_raise_instead_of_waiting(autojump_clock, ours):
    muxer = Yamux(ScriptedConnection(), "peer", is_initiator=True)
    for _ in range(256):
        await muxer.open_stream()
    with trio.move_on_after(3600) as waited:
        await muxer.open_stream()
    assert waited.cancelled_caught

    for _ in range(256):
        ours[0].open_peer_stream()
    with pytest.raises(StreamLimitError):
        ours[0].open_peer_stream()


async def test_the_muxer_that_was_asked_for_is_used(make_network):
    class Mine(Yamux):
        pass

    async with make_network() as peer:
        async with stock_host(muxer_opt={"/yamux/1.0.0": Mine}) as stock:
            await peer.connect(str(stock.get_id()), [str(stock.get_addrs()[0])])
            (connection,) = stock.get_network().get_connections()
            assert type(connection.muxed_conn) is Yamux
        for stack, kind in (("fast", YamuxConnection), ("stock", GuardedYamux)):
            async with make_network(stack=stack) as ours:
                await peer.connect(ours.peer_id, ours.addresses())
                (connection,) = ours._host.get_network().get_connections()
                assert type(connection.muxed_conn) is kind
