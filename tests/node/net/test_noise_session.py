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


async def carry(parts) -> list[bytes]:
    near, far = make_pair()
    total = sum(map(len, parts))
    received: list[bytes] = []

    async def receive() -> None:
        while sum(map(len, received)) < total:
            received.extend(await far.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await near.transmit(near.seal(parts))
    return received


@pytest.mark.parametrize(
    "sizes",
    [[1], [MESSAGE_BYTES], [MESSAGE_BYTES + 1], [12, MESSAGE_BYTES - 12], [12, BATCH_BYTES - 12], [5, 0, 7] * 9],
)
async def test_parts_are_joined_into_full_records(sizes):
    parts = [secrets.token_bytes(size) for size in sizes]
    messages = await carry(parts)
    assert b"".join(messages) == b"".join(parts)
    assert all(len(message) == MESSAGE_BYTES for message in messages[:-1])


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
            for message in await far.receive():
                received += message
    assert bytes(received) == b"first" + bytes(70_000) + b"last"


async def test_end_between_records_is_an_end():
    near, far = make_pair()
    await near.close()
    assert await far.receive() == []


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
    assert len(near._outbuffer) < 100
