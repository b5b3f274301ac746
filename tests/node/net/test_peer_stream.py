"""Our streams over a real connection keep trio's promises, and what they add to them."""

import hashlib
import secrets

import pytest
import trio
from trio.testing import check_half_closeable_stream

from sovereign_node.net.errors import StreamOpenError
from sovereign_protocols.yamux.errors import YamuxError

PROTOCOL = "/test/stream/1.0.0"
MIB = 1024 * 1024


@pytest.fixture
async def make_pair(connected):
    """Open a stream and give both ends: `near, far = await make_pair()`."""
    first, second = connected
    sender, receiver = trio.open_memory_channel(0)

    async def hand_over(stream):
        done = trio.Event()
        await sender.send((stream, done))
        await done.wait()

    second.set_handler(PROTOCOL, hand_over)
    held = []

    async def make():
        near = await first.open_stream(second.peer_id, PROTOCOL)
        far, done = await receiver.receive()
        held.append(done)
        return near, far

    yield make
    for done in held:
        done.set()


async def drain(stream) -> None:
    while await stream.receive_some(MIB):
        pass


async def test_is_a_trio_half_closeable_stream(make_pair):
    await check_half_closeable_stream(make_pair, None)


async def test_large_transfer_both_ways_at_once(make_pair):
    near, far = await make_pair()
    payload = secrets.token_bytes(24 * MIB)

    async def send(stream):
        await stream.send_all(payload)
        await stream.send_eof()

    async def receive(stream):
        digest = hashlib.sha256()
        while data := await stream.receive_some(MIB):
            digest.update(data)
        assert digest.digest() == hashlib.sha256(payload).digest()

    async with trio.open_nursery() as nursery:
        for end in (near, far):
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)


async def test_receive_into_and_send_parts(make_pair):
    near, far = await make_pair()
    parts = [b"head", secrets.token_bytes(100_000), bytearray(b"tail")]
    await near.send_parts(parts)
    target = bytearray(100_008)
    filled = 0
    while filled < len(target):
        filled += await far.receive_into(memoryview(target)[filled:])
    assert bytes(target) == b"".join(parts)
    await near.send_eof()
    assert await far.receive_into(memoryview(target)) == 0


async def test_reset_is_not_an_end(make_pair):
    near, far = await make_pair()
    await near.send_all(b"before")
    assert await far.receive_some(6) == b"before"
    await near.reset()
    with pytest.raises(trio.BrokenResourceError):
        await far.receive_some(1)
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"x")


async def test_an_end_and_a_reset_in_one_batch_wake_the_writer(make_pair):
    near, far = await make_pair()

    async def write() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(bytes(MIB))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while far.core.receive_credit:
                await trio.sleep(0.01)
            far.connection.yamux.finish(far.core)
            far.connection.yamux.reset(far.core)
            far.connection.flush()


async def test_after_a_goodbye_streams_may_end_and_none_begin(make_pair):
    near, far = await make_pair()
    near.connection.yamux.go_away()
    near.connection.flush()
    await near.send_all(b"question")
    assert await far.receive_some(100) == b"question"
    for end in (near, far):
        assert not end.connection.is_established
        with pytest.raises(YamuxError):
            end.connection.open_peer_stream()
    await far.send_all(b"answer")
    await far.send_eof()
    assert await near.receive_some(100) == b"answer"
    assert await near.receive_some(100) == b""
    assert not near.connection.is_closed
    await near.send_eof()
    with trio.fail_after(5):
        assert await far.receive_some(100) == b""
        for end in (near, far):
            await end.connection.event_closed.wait()


async def test_bytes_before_the_end_are_kept(make_pair, connected):
    near, far = await make_pair()
    await near.send_all(b"last words")
    await near.send_eof()
    await near.aclose()
    await connected[0].disconnect(connected[1].peer_id)
    assert await far.receive_some(100) == b"last words"
    assert await far.receive_some(100) == b""


async def test_lost_connection_is_not_an_end(make_pair, connected):
    near, far = await make_pair()
    await near.send_all(b"half")
    assert await far.receive_some(4) == b"half"
    await connected[0].disconnect(connected[1].peer_id)
    with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
        await far.receive_some(1)


async def test_cancelled_write_breaks_only_its_stream(make_pair):
    near, far = await make_pair()
    other_near, other_far = await make_pair()
    with trio.move_on_after(0.05) as scope:
        await near.send_all(bytes(64 * MIB))
    assert scope.cancelled_caught
    await near.aclose()
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
        await drain(far)
    await other_near.send_all(b"still here")
    assert await other_far.receive_some(100) == b"still here"


async def test_many_cancelled_writes_keep_the_connection(make_pair, connected):
    for attempt in range(20):
        near, _far = await make_pair()
        with trio.move_on_after(0.0005 * attempt):
            await near.send_all(bytes(4 * MIB))
        await near.aclose()
    near, far = await make_pair()
    await near.send_all(b"alive")
    assert await far.receive_some(5) == b"alive"
    assert len(connected[0].connections()) == 1


async def test_stalled_reader_holds_the_writer_and_not_the_memory(make_pair):
    near, far = await make_pair()
    sent = 0
    with trio.move_on_after(0.3):
        while True:
            await near.send_all(bytes(65536))
            sent += 65536
    assert sent <= MIB
    received = 0
    with trio.fail_after(5):
        while received < sent:
            received += len(await far.receive_some(MIB))


async def test_too_many_streams_are_refused_and_places_come_back(connected):
    first, second = connected
    release = trio.Event()

    async def hold(stream):
        await stream.send_all(b"x")
        await release.wait()

    second.set_handler("/test/hold/1.0.0", hold)
    streams, refused = [], 0
    for _ in range(70):
        try:
            streams.append(await first.open_stream(second.peer_id, "/test/hold/1.0.0", timeout_s=2))
        except StreamOpenError:
            refused += 1
    assert len(streams) <= 64
    assert refused >= 6
    release.set()
    for stream in streams:
        while await stream.receive_some(100):
            pass
        await stream.aclose()
    async with await first.open_stream(second.peer_id, "/test/hold/1.0.0") as stream:
        assert await stream.receive_some(100) == b"x"
