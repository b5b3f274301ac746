"""DHT messages over memory streams."""

import pytest
import trio
from trio.testing import memory_stream_pair

from sovereign_protocols.errors import ConnectionLostError
from sovereign_protocols.kad import shell
from sovereign_protocols.kad.errors import KadMessageError
from sovereign_protocols.kad.messages import Message, MessageType, encode_frame

PING = Message(MessageType.PING)
ANNOUNCE = Message(MessageType.ADD_PROVIDER, b"key")


def answer(request: Message) -> Message | None:
    return None if request.type is MessageType.ADD_PROVIDER else request


async def serve(stream: trio.abc.HalfCloseableStream, timeout_s: float = 5) -> None:
    await shell.serve(stream, answer, idle_timeout_s=timeout_s, write_timeout_s=timeout_s)
    await stream.aclose()


@pytest.mark.parametrize(("request_", "expected"), [(PING, PING), (ANNOUNCE, None)])
async def test_a_question_and_its_answer(request_, expected):
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        assert await shell.ask(ours, request_) == expected


async def test_several_requests_on_one_stream_even_in_one_piece():
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        await ours.send_all(encode_frame(PING) * 3 + encode_frame(ANNOUNCE))
        await ours.send_all(encode_frame(PING))
        await ours.send_eof()
        received = b""
        while data := await ours.receive_some():
            received += data
    assert received == encode_frame(PING) * 4


async def test_silence_ends_the_stream(autojump_clock):
    _, theirs = memory_stream_pair()
    with pytest.raises(trio.TooSlowError):
        await serve(theirs)
    assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_a_byte_now_and_then_does_not_keep_a_stream(autojump_clock):
    ours, theirs = memory_stream_pair()

    async def drip() -> None:
        for byte in encode_frame(Message(MessageType.FIND_NODE, bytes(100))):
            await trio.sleep(1)
            await ours.send_all(bytes([byte]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(trio.TooSlowError):
            await serve(theirs)
        nursery.cancel_scope.cancel()


async def test_who_does_not_take_answers_is_dropped(autojump_clock):
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, encode_frame(PING))
        with pytest.raises(trio.TooSlowError):
            await serve(theirs)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", encode_frame(PING)[:1], encode_frame(PING) * (shell.MAX_REQUESTS_PER_STREAM + 1)]
)
async def test_broken_rules(data):
    ours, theirs = memory_stream_pair()
    await ours.send_all(data)
    await ours.send_eof()
    with pytest.raises(KadMessageError):
        await serve(theirs)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", ConnectionLostError),
        (encode_frame(PING)[:1], ConnectionLostError),
        (encode_frame(ANNOUNCE), KadMessageError),
        (b"\xff\xff\xff", KadMessageError),
    ],
)
async def test_bad_answers(reply, error):
    ours, theirs = memory_stream_pair()
    await theirs.send_all(reply)
    await theirs.send_eof()
    with pytest.raises(error):
        await shell.ask(ours, PING)


async def test_a_refused_announcement_is_seen():
    ours, theirs = memory_stream_pair()
    await theirs.send_all(encode_frame(PING)[:1])
    await theirs.send_eof()
    assert await shell.ask(ours, ANNOUNCE) is None
