"""Our Noise records: what goes in comes out, in batches, and nothing else does."""

import secrets

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from sovereign_node.net.pipes import Pipe
from sovereign_node.net.session import (
    BATCH_BYTES,
    MESSAGE_BYTES,
    RECORD_BYTES,
    TAG_BYTES,
    NoiseSession,
    SessionError,
)

KEYS = (b"1" * 32, b"2" * 32)


def make_pair() -> tuple[NoiseSession, NoiseSession]:
    near, far = (Pipe(stream, address="/memory", path="direct") for stream in memory_stream_pair())
    return NoiseSession(near, *KEYS), NoiseSession(far, *reversed(KEYS))


async def carry(parts) -> bytes:
    near, far = make_pair()
    total = sum(map(len, parts))
    received = bytearray()

    async def receive() -> None:
        while len(received) < total:
            received.extend(await far.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await near.transmit(near.seal(parts))
    return bytes(received)


@pytest.mark.parametrize(
    "sizes",
    [[1], [MESSAGE_BYTES], [MESSAGE_BYTES + 1], [12, MESSAGE_BYTES - 12], [12, BATCH_BYTES - 12], [5, 0, 7] * 9],
)
async def test_parts_arrive_joined(sizes):
    parts = [secrets.token_bytes(size) for size in sizes]
    assert await carry(parts) == b"".join(parts)


def lengths_on_the_wire(sealed: bytes) -> list[int]:
    lengths = []
    while sealed:
        length = int.from_bytes(sealed[:2], "big")
        lengths.append(length)
        sealed = sealed[2 + length :]
    return lengths


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 140_000), min_size=1, max_size=6))
def test_records_are_as_few_as_can_be(sizes):
    near, _ = make_pair()
    sealed = bytes(near.seal([bytes(size) for size in sizes]))
    lengths = lengths_on_the_wire(sealed)
    assert len(lengths) == -(-sum(sizes) // MESSAGE_BYTES)
    assert all(length == MESSAGE_BYTES + TAG_BYTES <= RECORD_BYTES for length in lengths[:-1])


async def test_records_split_anywhere_arrive_whole():
    near, far = make_pair()
    sealed = bytes(near.seal([b"first"])) + bytes(near.seal([bytes(70_000)])) + bytes(near.seal([b"last"]))
    stream = near.pipe.stream
    received = bytearray()

    async def send() -> None:
        for start in range(0, len(sealed), 997):
            await stream.send_all(sealed[start : start + 997])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while len(received) < 70_009:
            received += await far.receive()
    assert bytes(received) == b"first" + bytes(70_000) + b"last"


async def test_end_between_records_is_an_end():
    near, far = make_pair()
    await near.close()
    assert not await far.receive()


@pytest.mark.parametrize("cut", [1, 2, 10, 22])
async def test_end_within_a_record_is_an_error(cut):
    near, far = make_pair()
    sealed = bytes(near.seal([b"hello"]))
    await near.pipe.stream.send_all(sealed[:cut])
    await near.pipe.stream.send_eof()
    with pytest.raises(SessionError):
        await far.receive()


@pytest.mark.parametrize("position", [2, 5, 22])
async def test_forged_records_are_an_error(position):
    near, far = make_pair()
    sealed = bytearray(near.seal([b"hello"]))
    sealed[position] ^= 1
    await near.pipe.stream.send_all(bytes(sealed))
    with pytest.raises(SessionError):
        await far.receive()


@pytest.mark.parametrize("record", [b"\x00\x00", b"\x00\x0f" + bytes(15)])
async def test_records_too_short_for_a_tag_are_an_error(record):
    near, far = make_pair()
    await near.pipe.stream.send_all(record)
    with pytest.raises(SessionError):
        await far.receive()


async def test_replayed_records_are_an_error():
    near, far = make_pair()
    sealed = bytes(near.seal([b"once"]))
    await near.pipe.stream.send_all(sealed + sealed)
    with pytest.raises(SessionError):
        await far.receive()


async def test_sending_on_a_lost_connection_is_an_error():
    near, far = make_pair()
    await far.close()
    with pytest.raises(SessionError):
        await near.transmit(near.seal([b"x"]))


async def test_an_idle_session_is_small():
    near, far = make_pair()
    await near.transmit(near.seal([b"x"]))
    await far.receive()
    assert len(far._inbox) < 10_000
    assert len(far._plaintext) < 10_000
    assert len(near._outbuffer) < 100


async def open_tcp_pair() -> tuple[NoiseSession, NoiseSession]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialled = await trio.testing.open_stream_to_socket_listener(listener)
        accepted = await listener.accept()
    near, far = (Pipe.over_tcp(stream, address="/ip4/127.0.0.1", path="direct") for stream in (dialled, accepted))
    return NoiseSession(near, *KEYS), NoiseSession(far, *reversed(KEYS))


async def test_sockets_carry_more_than_they_hold():
    near, far = await open_tcp_pair()
    payload = secrets.token_bytes(24 * 1024 * 1024)
    received = bytearray()

    async def send() -> None:
        for start in range(0, len(payload), BATCH_BYTES):
            await near.transmit(near.seal([payload[start : start + BATCH_BYTES]]))
        await near.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await far.receive():
            received += data
    assert received == payload
    await far.close()


async def test_a_steady_sender_leaves_others_their_turn():
    near, far = await open_tcp_pair()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for _ in range(20):
            await near.transmit(near.seal([b"x"]))
        nursery.cancel_scope.cancel()
    assert turns >= 10
    await near.close()
    await far.close()


@pytest.mark.parametrize("action", ["receive", "transmit"])
async def test_closing_ends_who_waits_for_a_socket(action, autojump_clock):
    near, far = await open_tcp_pair()

    async def use_for_ever() -> None:
        while True:
            await (near.receive() if action == "receive" else near.transmit(near.seal([bytes(BATCH_BYTES)])))

    async def wait() -> None:
        with pytest.raises(SessionError):
            await use_for_ever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await near.close()
    with pytest.raises(SessionError):
        await near.receive()
    await far.close()


async def test_a_cancelled_socket_can_be_read_later():
    near, far = await open_tcp_pair()
    with trio.move_on_after(0) as scope:
        await far.receive()
    assert scope.cancelled_caught
    await near.transmit(near.seal([b"later"]))
    assert await far.receive() == b"later"
    with trio.CancelScope() as scope:
        scope.cancel()
        await near.transmit(near.seal([b"never"]))
    assert scope.cancelled_caught
    await near.close()
    assert not await far.receive()
    await far.close()
