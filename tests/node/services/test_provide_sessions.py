"""Streams of the chunk service that end, stall or misbehave."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from chunk_service_rig import NOW, Device, MemoryPeerStream, Person, Rig, stream_pair
from chunk_service_world import CONTRACT, chunk, refused

from sovereign_node.services import chunk_session
from sovereign_node.services.chunk_admission import Admission, TokenBucket
from sovereign_protocols.chunk.client import open_chunk_client
from sovereign_protocols.chunk.messages import (
    Credit,
    Done,
    Failure,
    Get,
    Hello,
    HelloReply,
    LogAccepted,
    LogEntry,
    Message,
    Ping,
    Put,
    UsageGet,
    UsageReply,
    decode_message,
    encode_message,
)
from sovereign_protocols.errors import ConnectionLostError, ErrorCode
from sovereign_protocols.framing import FrameDecoder, Payload


async def test_a_broken_stream_ends_every_call(rig: Rig, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    client_end, server_end = stream_pair(device.peer_id)
    block = trio.Event()

    async def never(*_arguments: object) -> None:
        await block.wait()

    lost: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.service.handle, server_end)
        async with open_chunk_client(client_end, device.credentials, clock_at=NOW) as client:
            monkeypatch.setattr(chunk_session, "_in_thread", never)

            async def expect_loss(name: str, call: Callable[[], Awaitable[object]]) -> None:
                with pytest.raises(ConnectionLostError):
                    await call()
                lost.append(name)

            async with trio.open_nursery() as calls:
                for seed in range(8):
                    calls.start_soon(expect_loss, "put", partial(client.put, CONTRACT, *chunk(seed, 4_000_000)))
                for _ in range(70):
                    calls.start_soon(expect_loss, "usage", partial(client.usage, CONTRACT))
                calls.start_soon(expect_loss, "get", client.get(CONTRACT, [bytes(32)]).__anext__)
                await trio.testing.wait_all_tasks_blocked()
                await server_end.aclose()
            with pytest.raises(ConnectionLostError):
                await client.ping()
        nursery.cancel_scope.cancel()
    assert sorted(set(lost)) == ["get", "put", "usage"]
    assert len(lost) == 79


async def test_cancelled_calls_do_not_leak(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = [chunk(seed, 4_000_000) for seed in range(6)]
    async with rig.connect(alice.add_device()) as client:
        for _ in range(5):
            with trio.move_on_after(0.001):
                async with trio.open_nursery() as nursery:
                    for item in items:
                        nursery.start_soon(client.put, CONTRACT, *item)
                    for _ in range(80):
                        nursery.start_soon(client.usage, CONTRACT)
        async with trio.open_nursery() as nursery:
            for item in items:
                nursery.start_soon(client.put, CONTRACT, *item)
        for _ in range(70):
            await client.ping()
        assert await client.have(CONTRACT, [key for key, _ in items]) == [True] * 6


async def test_a_dropped_download_frees_the_window(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 2_000_000) for seed in range(12))
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, list(items.items()))
    async with rig.connect(alice.add_device(), window_bytes=5_000_000) as client:
        for _ in range(3):
            async for key, data in client.get(CONTRACT, list(items)):
                assert items[key] == data
                break
        download = client.get(CONTRACT, list(items))
        await anext(download)
        download.close()
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items


async def test_chunks_are_unpacked_in_the_thread_that_verified_them(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 300_000) for seed in range(9))
    bad, bad_data = chunk(9, 300_000)
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, [*items.items(), (bad, bad_data[:-1] + b"\x00")], verified=True)
    main, seen = threading.get_ident(), []

    def unpack(key: bytes, payload: Payload) -> int:
        assert threading.get_ident() != main
        seen.append(key)
        if key == list(items)[4]:
            raise LookupError
        assert b"".join(payload.pieces) == items[key]
        return len(payload)

    async with rig.connect(alice.add_device()) as client:
        download = client.get_unpacked(CONTRACT, [bad, *items], unpack)
        found, failed = {}, 0
        while True:
            try:
                key, size = await anext(download)
                found[key] = size
            except LookupError:
                failed += 1
            except StopAsyncIteration:
                break
        assert failed == 1
        assert found == {key: len(data) for key, data in items.items() if key != list(items)[4]}
        assert sorted(seen) == sorted(items)
        assert download.corrupt == [bad]


async def test_leaving_a_download_waits_for_what_is_being_unpacked(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    items = dict(chunk(seed, 300_000) for seed in range(12))
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, list(items.items()))
    started, go_on, ended = threading.Event(), threading.Event(), []

    def unpack(key: bytes, _payload: Payload) -> None:
        started.set()
        go_on.wait()
        ended.append(key)

    async with rig.connect(alice.add_device()) as client:
        download = client.get_unpacked(CONTRACT, list(items), unpack)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, download)
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()
        assert not ended
        async with trio.open_nursery() as nursery:
            nursery.start_soon(download.aclose)
            nursery.cancel_scope.cancel()
            trio.lowlevel.current_trio_token().run_sync_soon(go_on.set)
        count = len(ended)
        assert 1 <= count <= 2
        assert {key: data async for key, data in client.get(CONTRACT, list(items))} == items
        assert len(ended) == count


async def test_too_many_streams_of_one_peer(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    async with AsyncExitStack() as stack:
        for _ in range(4):
            client = await stack.enter_async_context(rig.connect(device))
            await client.ping()
        with refused(ErrorCode.BUSY):
            async with rig.connect(device):
                pass
    async with rig.connect(device) as client:
        await client.ping()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, stream: MemoryPeerStream, server_end: MemoryPeerStream) -> None:
        self.stream = stream
        self.server_end = server_end
        self.decoder = FrameDecoder(decode_message, max_payload_bytes=10**7)

    async def send(self, message: Message, payload: bytes = b"") -> None:
        await self.stream.send_all(encode_message(message, len(payload)) + payload)

    async def receive(self) -> Message | None:
        while (frame := self.decoder.next_frame()) is None:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.decoder.receive_data(data)
        return frame[0]


@asynccontextmanager
async def raw_client(rig: Rig, device: Device, *, hello: bool = True) -> AsyncIterator[Raw]:
    client_end, server_end = stream_pair(device.peer_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.service.handle, server_end)
        raw = Raw(client_end, server_end)
        if hello:
            log = device.person.log
            await raw.send(Hello(1, rig.now, 5_000_000, device.certificate, len(log.entries), log.head[1]))
            reply = await raw.receive()
            assert isinstance(reply, HelloReply)
            missing = log.entries[reply.log_length :]
            for position, entry in enumerate(missing):
                await raw.send(LogEntry(len(missing) - position - 1), entry)
            if missing:
                assert isinstance(await raw.receive(), LogAccepted)
        yield raw
        await client_end.aclose()


def misbehaviours() -> dict[str, tuple[list[tuple[Message, bytes]], ErrorCode]]:
    key, data = chunk(1, 4_000_000)
    puts = [(Put(number, CONTRACT, key), data) for number in range(5)]
    return {
        "second hello": ([(Hello(1, NOW, 5_000_000, None, 0, None), b"")], ErrorCode.UNEXPECTED),
        "server's message": ([(Done(1, 0), b"")], ErrorCode.UNEXPECTED),
        "log entry": ([(LogEntry(0), b"x")], ErrorCode.UNEXPECTED),
        "repeated id": ([(Ping(1), b""), (Ping(1), b"")], ErrorCode.REPLAY),
        "falling id": ([(Ping(9), b""), (Ping(3), b"")], ErrorCode.REPLAY),
        "window exceeded": (puts, ErrorCode.TOO_LARGE),
        "too many requests": ([(Ping(number), b"") for number in range(500)], ErrorCode.BUSY),
        "credit for nothing": ([(Credit(1), b"")], ErrorCode.MALFORMED),
        "size that no chunk has": ([(Put(1, CONTRACT, key), bytes(5_000))], ErrorCode.SIZE_CLASS),
        "too small": ([(Put(1, CONTRACT, key), bytes(100))], ErrorCode.SIZE_CLASS),
        "too large": ([(Put(1, CONTRACT, key), bytes(4 * 1024**2 + 89))], ErrorCode.TOO_LARGE),
        "payload where none may be": ([(Ping(1), b"x")], ErrorCode.TOO_LARGE),
    }


@pytest.mark.parametrize("name", list(misbehaviours()))
async def test_a_client_that_breaks_the_rules_is_told_and_left(
    rig: Rig, alice: Person, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sign(alice, CONTRACT)
    sent, code = misbehaviours()[name]
    release = trio.Event()
    in_thread = chunk_session._in_thread

    async def slowly(*arguments: Any) -> Any:
        await release.wait()
        return await in_thread(*arguments)

    with trio.fail_after(5):
        async with raw_client(rig, alice.add_device()) as raw, trio.open_nursery() as nursery:
            monkeypatch.setattr(chunk_session, "_in_thread", slowly)

            async def send() -> None:
                with suppress(trio.BrokenResourceError):
                    await raw.stream.send_all(
                        b"".join(encode_message(message, len(payload)) + payload for message, payload in sent)
                    )

            nursery.start_soon(send)
            last = None
            while (message := await raw.receive()) is not None:
                last = message
            assert last == Failure(None, code, {})
            release.set()
    assert rig.store.contracts() == [] or rig.store.usage(CONTRACT).chunks == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff" * 8, ErrorCode.TOO_LARGE),
        (b"\x00\x01\x00\x01\x00\x00\x00\x00", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x01\xff\xff\xff\xff", ErrorCode.TOO_LARGE),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00\xa0", ErrorCode.MALFORMED),
    ],
)
async def test_garbage_instead_of_hello(rig: Rig, alice: Person, data: bytes, code: ErrorCode) -> None:
    async with raw_client(rig, alice.add_device(), hello=False) as raw:
        await raw.stream.send_all(data)
        assert await raw.receive() == Failure(None, code, {})
        assert await raw.receive() is None


async def test_hello_must_come_in_time(rig: Rig, alice: Person, autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with raw_client(rig, alice.add_device(), hello=False) as raw:
        assert await raw.receive() == Failure(None, ErrorCode.TIMEOUT, {})
    assert 9.9 < trio.current_time() - began < 10.1


async def test_slow_loris(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    key, data = chunk(1, 100_000)
    async with raw_client(rig, alice.add_device()) as raw:
        mock_clock.autojump_threshold = 0
        began = trio.current_time()
        frame = encode_message(Put(1, CONTRACT, key), len(data)) + data
        with suppress(trio.BrokenResourceError):
            for position in range(len(frame)):
                await raw.stream.send_all(frame[position : position + 1])
                await trio.sleep(1)
        allowed = 10 + len(frame) / (16 * 1024)
        assert allowed - 1 < trio.current_time() - began < allowed + 3


async def test_an_idle_stream_is_closed_but_not_one_that_waits(
    rig: Rig, alice: Person, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sign(alice, CONTRACT)
    in_thread = chunk_session._in_thread

    async def slowly(*arguments: Any) -> Any:
        mock_clock.jump(1_000)
        await trio.testing.wait_all_tasks_blocked()
        return await in_thread(*arguments)

    async with raw_client(rig, alice.add_device()) as raw:
        monkeypatch.setattr(chunk_session, "_in_thread", slowly)
        await raw.send(UsageGet(1, CONTRACT))
        assert isinstance(await raw.receive(), UsageReply)
        mock_clock.autojump_threshold = 0
        answered = trio.current_time()
        assert await raw.receive() == Failure(None, ErrorCode.TIMEOUT, {})
        assert trio.current_time() - answered < 601


async def test_a_reader_that_stalls_is_reset(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    device = alice.add_device()
    rig.store.set_quota(CONTRACT, 10**9)
    rig.store.put_many(CONTRACT, [chunk(1, 4_000_000)])
    async with raw_client(rig, device) as raw:

        async def stall(_data: object) -> None:
            mock_clock.autojump_threshold = 0
            await trio.sleep_forever()

        raw.server_end.send_all = stall  # type: ignore[method-assign]
        await raw.send(Get(1, CONTRACT, (chunk(1)[0], chunk(1, 4_000_000)[0])))
        assert await raw.receive() is None


async def test_memory_is_shared_among_streams(rig: Rig, alice: Person) -> None:
    rig.sign(alice, CONTRACT)
    rig.service.admission = Admission(max_held_bytes=1)
    items = [chunk(seed, 4_000_000) for seed in range(8)]
    device = alice.add_device()
    async with rig.connect(device) as first, rig.connect(device) as second, trio.open_nursery() as nursery:
        for position, item in enumerate(items):
            nursery.start_soon((first, second)[position % 2].put, CONTRACT, *item)
    assert rig.store.usage(CONTRACT).chunks == 8


def test_token_bucket() -> None:
    bucket = TokenBucket(2.0, 3.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True] * 3 + [False]
    assert bucket.take(100.5)
    assert not bucket.take(100.5)
    paced = TokenBucket(2.0, 1.0)
    assert [paced.delay_s(100.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert paced.delay_s(200.0) == 0.0


async def test_requests_are_paced(rig: Rig, alice: Person, mock_clock: trio.testing.MockClock) -> None:
    rig.sign(alice, CONTRACT)
    async with rig.connect(alice.add_device()) as client:
        mock_clock.autojump_threshold = 0
        began = trio.current_time()
        for _ in range(600):
            await client.ping()
        assert 0.9 < trio.current_time() - began < 1.1
