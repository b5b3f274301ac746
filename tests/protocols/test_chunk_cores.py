"""Both state machines of the chunk protocol against each other and against peers that break the rules."""

from typing import Any

import pytest

from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.client.core import ClientCore
from sovereign_protocols.chunk.client.core import State as ClientState
from sovereign_protocols.chunk.endpoint import MAX_SEND_BYTES, Endpoint
from sovereign_protocols.chunk.messages import (
    Cancel,
    Chunk,
    Credit,
    Done,
    Failure,
    Get,
    Have,
    HaveReply,
    Head,
    HeadGet,
    Hello,
    HelloReply,
    ListReply,
    LogAccepted,
    LogEntry,
    LogGet,
    LogReply,
    Message,
    Missing,
    Ping,
    Put,
    RecoveryGet,
    Stored,
    encode_message,
)
from sovereign_protocols.chunk.server.core import ServerCore
from sovereign_protocols.chunk.server.core import State as ServerState
from sovereign_protocols.errors import ErrorCode, LocalProtocolError, RemoteError, RemoteProtocolError
from sovereign_protocols.framing import Payload

CONTRACT, KEY, OTHER = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
SMALL = bytes(4_184)
LARGE = bytes(4 * 1024**2 + 88)
WINDOW = 5_000_000


def hello(**changes: Any) -> Hello:
    values = {
        "version": 1,
        "clock_at": 0,
        "window_bytes": WINDOW,
        "certificate": b"c",
        "log_length": 2,
        "log_hash": KEY,
    }
    return Hello(**(values | changes))


def pass_on(source: Endpoint, target: Endpoint, now: float = 0.0) -> list[tuple[Message, bytes]]:
    for piece in source.data_to_send():
        assert len(piece) <= MAX_SEND_BYTES
        target.receive_data(bytes(piece), now)
    assert source.outgoing_bytes == 0
    events = []
    while (event := target.next_event()) is not None:  # type: ignore[attr-defined]
        events.append((event[0], event[1].to_bytes()))
    return events


def feed(core: Any, message: Message, payload: bytes = b"") -> list[tuple[Message, Payload]]:
    core.receive_data(encode_message(message, len(payload)) + payload, 0.0)
    events = []
    while (event := core.next_event()) is not None:
        events.append(event)
    return events


def open_session(*, known: int = 2) -> tuple[ClientCore, ServerCore]:
    client, server = ClientCore(0.0, window_bytes=WINDOW), ServerCore(0.0, window_bytes=WINDOW)
    client.hello(hello(), (b"first", b"second"))
    assert pass_on(client, server)[0][0] == hello()
    reply = HelloReply(1, 0, WINDOW, known)
    if known < 2:
        server.want_log(known, 2, reply)
        pass_on(server, client)
        entries = pass_on(client, server)
        assert [payload for _, payload in entries] == [b"first", b"second"][known:]
        server.accept(LogAccepted(2), window_bytes=WINDOW)
    else:
        server.accept(reply, window_bytes=WINDOW)
    pass_on(server, client)
    assert (client.state, server.state) == (ClientState.READY, ServerState.READY)
    return client, server


@pytest.mark.parametrize("known", [0, 1, 2])
def test_hello(known: int) -> None:
    open_session(known=known)


def test_refused_hello() -> None:
    client, server = ClientCore(0.0), ServerCore(0.0)
    client.hello(hello(), ())
    pass_on(client, server)
    server.fail(ErrorCode.IDENTITY)
    server.fail(ErrorCode.BUSY)
    assert pass_on(server, client) == [(Failure(None, ErrorCode.IDENTITY, {}), b"")]
    assert (client.state, server.state) == (ClientState.CLOSED, ServerState.CLOSED)
    with pytest.raises(LocalProtocolError):
        client.send(Ping(1))


def test_puts_and_their_window() -> None:
    client, server = open_session()
    assert client.can_send(len(LARGE))
    number = client.next_request_id()
    client.send(Put(number, CONTRACT, KEY), Payload([LARGE]))
    assert not client.can_send(len(LARGE))
    ((message, payload),) = pass_on(client, server)
    assert (message, payload) == (Put(number, CONTRACT, KEY), LARGE)
    assert server.held_bytes == len(LARGE)
    server.send(Stored((number,)))
    assert server.held_bytes == 0
    pass_on(server, client)
    assert client.can_send(len(LARGE))
    assert not client.is_pending(number)


def test_gets_and_their_window() -> None:
    client, server = open_session()
    client.send(Get(1, CONTRACT, (KEY, OTHER)))
    pass_on(client, server)
    server.send(Chunk(1, KEY), Payload([LARGE]))
    with pytest.raises(LocalProtocolError):
        server.send(Chunk(1, OTHER), Payload([LARGE]))
    assert pass_on(server, client) == [(Chunk(1, KEY), LARGE)]
    client.send(Credit(len(LARGE)))
    assert pass_on(client, server) == []
    assert server.get_credit_bytes == WINDOW
    server.send(Missing(1, (OTHER,)))
    server.send(Done(1, 1))
    pass_on(server, client)
    assert not client.is_pending(1)
    assert server.is_waiting


def test_small_messages_share_a_piece_and_large_ones_are_cut() -> None:
    client, _ = open_session()
    for number in range(1, 21):
        client.send(Have(number, CONTRACT, (KEY,) * 100))
    client.send(Put(21, CONTRACT, KEY), Payload([LARGE]))
    client.send(Ping(22))
    sizes = [len(piece) for piece in client.data_to_send()]
    assert max(sizes) == MAX_SEND_BYTES
    assert len(sizes) <= 8
    assert client.outgoing_bytes == 0


def test_buffers_are_sent_in_groups_that_are_not_joined() -> None:
    client, server = open_session()
    for number in range(1, 41):
        client.send(Put(number, CONTRACT, KEY), Payload([SMALL]))
    client.send(Put(41, CONTRACT, KEY), Payload([LARGE]))
    groups = []
    for parts in client.parts_to_send():
        groups.append(sum(map(len, parts)))
        assert parts[1] is SMALL or parts[-1] is LARGE
        for part in parts:
            server.receive_data(part, 0.0)
    assert client.outgoing_bytes == 0
    assert sum(groups) > 40 * len(SMALL) + len(LARGE)
    assert max(groups[:-1], default=0) < MAX_SEND_BYTES + len(LARGE)


def test_a_payload_that_grows_is_no_news() -> None:
    client, server = open_session()
    client.send(Put(1, CONTRACT, KEY), Payload([LARGE]))
    data = b"".join(client.data_to_send())
    assert server.receive_data(data[:3], 1.0)
    assert server.receive_data(data[3:1000], 2.0)
    assert not server.receive_data(data[1000:5000], 3.0)
    assert not server.receive_data(data[5000:-1], 4.0)
    deadline = server.deadline
    assert server.receive_data(data[-1:], 5.0)
    # The frame began with its first byte.
    assert deadline == pytest.approx(1.0 + limits.FRAME_GRACE_S + len(data) / limits.MIN_RATE_BYTES_PER_S)


@pytest.mark.parametrize(
    ("answer", "payload"),
    [
        (Done(9, 0), b""),
        (HaveReply(2, b""), b""),
        (Stored((1, 5)), b""),
        (Chunk(1, OTHER), SMALL),
        (Chunk(2, KEY), SMALL),
        (Missing(1, (OTHER,)), b""),
        (Head(1, KEY), b"head"),
        (Failure(9, ErrorCode.DENIED, {}), b""),
        (HelloReply(1, 0, WINDOW, 2), b""),
        (Ping(1), b""),
    ],
)
def test_answers_to_what_was_not_asked(answer: Message, payload: bytes) -> None:
    client, _ = open_session()
    client.send(Get(1, CONTRACT, (KEY,)))
    client.send(Put(2, CONTRACT, KEY), Payload([SMALL]))
    with pytest.raises(RemoteProtocolError) as caught:
        feed(client, answer, payload)
    assert caught.value.code is ErrorCode.UNEXPECTED


def test_a_chunk_twice_and_chunks_beyond_the_window() -> None:
    client, _ = open_session()
    client.send(Get(1, CONTRACT, (KEY, OTHER)))
    feed(client, Chunk(1, KEY), LARGE)
    with pytest.raises(RemoteProtocolError):
        feed(client, Chunk(1, KEY), SMALL)
    client, _ = open_session()
    client.send(Get(1, CONTRACT, (KEY, OTHER)))
    feed(client, Chunk(1, KEY), LARGE)
    with pytest.raises(RemoteProtocolError) as caught:
        feed(client, Chunk(1, OTHER), LARGE)
    assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("window_bytes", [0, limits.MIN_WINDOW_BYTES - 1, limits.MAX_WINDOW_BYTES + 1])
def test_windows_have_bounds(window_bytes: int) -> None:
    client = ClientCore(0.0)
    client.hello(hello(), ())
    with pytest.raises(RemoteProtocolError):
        feed(client, HelloReply(1, 0, window_bytes, 2))
    with pytest.raises(RemoteProtocolError):
        feed(ServerCore(0.0), hello(window_bytes=window_bytes))


def test_several_answers_to_one_request() -> None:
    client, server = open_session()
    client.send(HeadGet(1, CONTRACT, KEY))
    client.send(LogGet(2, 0))
    client.send(RecoveryGet(3, KEY))
    pass_on(client, server)
    server.send(Head(1, KEY), Payload([b"head"]))
    server.send(LogReply(2, 1), Payload([b"one"]))
    assert not server.is_waiting
    server.send(LogReply(2, 0), Payload([b"two"]))
    server.send(Done(1, 1))
    server.send(Failure(3, ErrorCode.RATE, {"wait": 1}))
    assert len(pass_on(server, client)) == 5
    assert not any(client.is_pending(number) for number in (1, 2, 3))
    assert server.is_waiting


def test_too_long_a_log() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        feed(ServerCore(0.0), hello(log_length=limits.MAX_LOG_ENTRIES + 1))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_log_entries_count_down() -> None:
    server = ServerCore(0.0)
    feed(server, hello())
    server.want_log(0, 2, HelloReply(1, 0, WINDOW, 0))
    with pytest.raises(RemoteProtocolError):
        feed(server, LogEntry(0), b"entry")


def test_a_stranger() -> None:
    server = ServerCore(0.0)
    feed(server, hello(certificate=None))
    server.accept(HelloReply(1, 0, WINDOW, 2), window_bytes=WINDOW, is_stranger=True)
    assert feed(server, RecoveryGet(1, KEY))[0][0] == RecoveryGet(1, KEY)
    with pytest.raises(RemoteProtocolError) as caught:
        feed(server, Have(2, CONTRACT, (KEY,)))
    assert caught.value.code is ErrorCode.UNEXPECTED


def test_our_own_mistakes_are_ours() -> None:
    client, server = open_session()
    with pytest.raises(LocalProtocolError):
        server.send(Stored((1,)))
    with pytest.raises(LocalProtocolError):
        server.send(ListReply(4, ()))
    with pytest.raises(LocalProtocolError):
        server.accept(HelloReply(1, 0, WINDOW, 0), window_bytes=WINDOW)
    with pytest.raises(LocalProtocolError):
        client.hello(hello(), ())


def test_deadlines() -> None:
    server = ServerCore(100.0)
    assert server.deadline == 110.0
    _, server = open_session()
    assert server.deadline == limits.IDLE_TIMEOUT_S
    frame = encode_message(Put(1, CONTRACT, KEY), len(SMALL)) + SMALL
    server.receive_data(frame[:4], 50.0)
    assert 60.0 <= server.deadline < 60.1
    server.receive_data(frame[4:100], 55.0)
    assert server.deadline == 60.0 + len(frame) / limits.MIN_RATE_BYTES_PER_S
    server.receive_data(frame[100:] + frame[:20], 58.0)
    assert 68.0 < server.deadline < 69.0
    server.restart_clock(80.0)
    assert 90.0 < server.deadline < 91.0
    client, server = open_session()
    client.send(Get(1, CONTRACT, (KEY,)))
    client.send(Cancel(1))
    assert [type(message) for message, _ in pass_on(client, server)] == [Get, Cancel]
    assert server.deadline == client.deadline == float("inf")


def test_errors_carry_data() -> None:
    assert str(RemoteProtocolError(ErrorCode.BUSY)) == "busy"
    assert str(RemoteProtocolError(ErrorCode.BUSY, "why")) == "busy: why"
    assert RemoteError(ErrorCode.GRACE, {"earliest": 1}).data == {"earliest": 1}
