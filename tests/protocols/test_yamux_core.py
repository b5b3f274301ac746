"""The Yamux core against its vectors, its limits, and a model of two sides talking."""

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.core import Yamux
from sovereign_protocols.yamux.errors import (
    GoneAwayError,
    StreamFinishedError,
    StreamLimitError,
    StreamResetError,
    YamuxViolationError,
)
from sovereign_protocols.yamux.events import (
    Limits,
    PeerGoneAway,
    PingAnswered,
    StreamOpened,
    StreamReadable,
    StreamReset,
)
from sovereign_protocols.yamux.frames import (
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    PROTOCOL_ID,
    Flag,
    FrameType,
    GoAwayCode,
    Header,
    decode_header,
)
from sovereign_protocols.yamux.outbox import MAX_CONTROL_BYTES
from sovereign_protocols.yamux.stream import TRANSITIONS, ReceiveBuffer, StreamState, Trigger

VECTORS = sorted((Path(__file__).parents[2] / "protocols" / "vectors" / "yamux").glob("*.json"))
MIB = 1024 * 1024
ROOM = 4 * 65519


def make(*, initiator: bool, limits: Limits | None = None, budget: WindowBudget | None = None) -> Yamux:
    return Yamux(initiator=initiator, limits=limits or Limits(), budget=budget or WindowBudget(16 * MIB))


def output(core: Yamux, room: int = ROOM) -> bytes:
    sent = bytearray()
    while core.has_output:
        for part in core.next_batch(room, lambda stream: None):
            sent += part
    return bytes(sent)


def pair(limits: Limits | None = None) -> tuple[Yamux, Yamux]:
    return make(initiator=True, limits=limits), make(initiator=False, limits=limits)


def exchange(one: Yamux, other: Yamux) -> list:
    """Carry bytes both ways until nothing is left; gives the events of both."""
    events = []
    while one.has_output or other.has_output:
        events += other.receive_data(output(one))
        events += one.receive_data(output(other))
    return events


def open_pair(limits: Limits | None = None):
    one, other = pair(limits)
    near = one.open_stream()
    (opened,) = exchange(one, other)
    return one, other, near, opened.stream


def describe(event) -> str:
    match event:
        case StreamOpened(stream):
            return f"opened {stream.stream_id}"
        case StreamReadable(stream):
            return f"readable {stream.stream_id}"
        case StreamReset(stream):
            return f"reset {stream.stream_id}"
        case PeerGoneAway(code):
            return f"away {code}"
        case PingAnswered(value):
            return f"pong {value}"


def decode_bytes(entry: str | dict) -> bytes:
    if isinstance(entry, str):
        return bytes.fromhex(entry)
    return bytes.fromhex(entry["hex"]) + bytes(entry["zeros"])


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("piece", [1, 7, 10**9])
def test_vectors(path, piece):
    case = json.loads(path.read_text())
    received = b"".join(map(decode_bytes, case["receive"]))
    if piece == 1 and len(received) > 1000:
        piece = 4099
    core = make(initiator=False)
    events = []

    def feed():
        for start in range(0, len(received), piece):
            events.extend(core.receive_data(received[start : start + piece]))

    if case["expect"] == "violation":
        with pytest.raises(YamuxViolationError):
            feed()
        return
    feed()
    names = [describe(event) for event in events]
    assert list(dict.fromkeys(names)) == case["events"]
    assert output(core).hex() == case["answer"]


@given(st.integers(0, 3), st.integers(0, 15), st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_header_round_trip(kind, flags, stream_id, length):
    stream_id = stream_id if kind <= FrameType.WINDOW_UPDATE else 0
    header = Header(kind, flags, stream_id, length)
    assert decode_header(header.encode()) == (kind, flags, stream_id, length)


def test_data_flows_both_ways_and_ends():
    one, other, near, far = open_pair()
    one.send(near, [b"question ", bytearray(b"and"), memoryview(b" more"), b""])
    other.send(far, [b"answer"])
    events = exchange(one, other)
    assert {describe(event) for event in events} == {"readable 1"}
    assert other.read(far, 8, 0.0) == b"question"
    assert other.read(far, 100, 0.0) == b" and more"
    assert other.read(far, 100, 0.0) == b""
    target = bytearray(100)
    assert one.read_into(near, memoryview(target), 0.0) == 6
    assert target[:6] == b"answer"
    one.finish(near)
    one.finish(near)
    exchange(one, other)
    assert far.peer_finished
    assert far.state is StreamState.REMOTE_CLOSED
    other.finish(far)
    exchange(one, other)
    assert (near.state, far.state) == (StreamState.CLOSED, StreamState.CLOSED)
    assert not one.streams
    assert not other.streams
    with pytest.raises(StreamFinishedError):
        one.send(near, [b"x"])


def test_fin_in_the_frame_of_the_last_data():
    core = make(initiator=False)
    syn = Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode()
    (opened,) = core.receive_data(syn)
    frame = Header(FrameType.DATA, Flag.FIN, 1, 3).encode() + b"end"
    for at in range(len(frame)):
        assert not opened.stream.peer_finished
        core.receive_data(frame[at : at + 1])
    assert opened.stream.peer_finished
    assert core.read(opened.stream, 10, 0.0) == b"end"


def test_writer_waits_for_credit_and_reader_gives_it():
    one, other, near, far = open_pair()
    drained = []
    one.send(near, [bytes(MIB)])
    batch = one.next_batch(ROOM, drained.append)
    other.receive_data(b"".join(map(bytes, batch)))
    other.receive_data(output(one))
    assert near.send_credit == 0
    assert far.received.size_bytes == 256 * 1024
    assert not one.has_output
    total = 0
    while data := other.read(far, 65536, 0.0):
        total += len(data)
        one.receive_data(output(other))
        other.receive_data(output(one))
    assert total == MIB
    assert far.window > 256 * 1024
    assert not near.pending_bytes


def test_windows_grow_only_when_read_fast_and_within_the_budget():
    slow_one, slow_other, near, far = open_pair()
    for second in range(10):
        slow_one.send(near, [bytes(128 * 1024)])
        exchange(slow_one, slow_other)
        while slow_other.read(far, MIB, float(second)):
            pass
        exchange(slow_one, slow_other)
    # The first half window was read at once; from then on one each second is slow.
    assert far.window == 512 * 1024

    budget = WindowBudget(1024 * 1024)
    other = make(initiator=False, budget=budget)
    one = make(initiator=True)
    near = one.open_stream()
    far = exchange(one, other)[0].stream
    for _ in range(100):
        one.send(near, [bytes(128 * 1024)])
        exchange(one, other)
        while other.read(far, MIB, 0.0):
            pass
        exchange(one, other)
    assert far.window == 512 * 1024
    assert budget.promised_bytes == far.window


def test_batches_fill_records_and_carry_tails():
    one, _, near, _ = open_pair()
    near.send_credit = 10 * MIB
    one.send(near, [bytes(MIB)])
    sizes = []
    while one.has_output:
        sizes.append(sum(map(len, one.next_batch(ROOM, lambda stream: None))))
    assert sizes[:-1] == [ROOM] * 3
    assert ROOM < sizes[-1] < ROOM + 4096


def test_streams_take_turns():
    one, other = pair()
    streams = [one.open_stream() for _ in range(3)]
    exchange(one, other)
    one.send(streams[0], [bytes(200_000)])
    one.send(streams[1], [b"small"])
    one.send(streams[2], [bytes(200_000)])
    order = []
    for _ in range(4):
        batch = one.next_batch(100_000, lambda stream: None)
        order += [decode_header(part)[2] for part in batch if len(part) == HEADER_BYTES]
    assert order[:4] == [1, 3, 5, 1]


def test_control_frames_go_first():
    one, _other, near, _ = open_pair()
    one.send(near, [bytes(200_000)])
    one.ping()
    batch = one.next_batch(ROOM, lambda stream: None)
    assert decode_header(batch[0])[0] == FrameType.PING


def test_withdraw_takes_back_what_has_not_gone_out():
    one, other, near, far = open_pair()
    one.send(near, [bytes(300_000)])
    batch = one.next_batch(ROOM, lambda stream: None)
    gone = len(batch[1])
    assert one.withdraw(near) == 300_000 - gone
    assert not output(one)
    other.receive_data(b"".join(map(bytes, batch)))
    assert far.received.size_bytes == gone


def test_finish_with_bytes_waiting_is_an_error():
    one, _, near, _ = open_pair()
    one.send(near, [b"x"])
    with pytest.raises(StreamFinishedError):
        one.finish(near)


def test_reset_breaks_both_ends():
    one, other, near, far = open_pair()
    one.send(near, [b"x"])
    one.reset(near)
    one.reset(near)
    assert [describe(event) for event in exchange(one, other)] == ["reset 1"]
    for core, stream in ((one, near), (other, far)):
        with pytest.raises(StreamResetError):
            core.send(stream, [b"x"])
        with pytest.raises(StreamResetError):
            core.finish(stream)
        assert not core.streams


def test_data_for_an_abandoned_stream_is_answered_with_a_reset():
    one, other, near, far = open_pair()
    one.send(near, [b"unread"])
    exchange(one, other)
    other.finish(far)
    other.abandon(far)
    one.send(near, [b"too late"])
    names = [describe(event) for event in exchange(one, other)]
    assert "reset 1" in names
    assert near.state is StreamState.RESET
    assert near.peer_finished


def test_second_fin_breaks_the_stream_only():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN | Flag.FIN, 1, 0).encode())
    events = core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.FIN, 1, 0).encode())
    assert [describe(event) for event in events] == ["reset 1"]
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.ACK, 1, 0).encode())


def test_data_after_fin_breaks_the_stream_only():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN | Flag.FIN, 1, 0).encode())
    events = core.receive_data(Header(FrameType.DATA, Flag.FIN, 1, 4).encode() + b"late")
    assert [describe(event) for event in events] == ["reset 1"]


def test_stream_reset_within_its_own_frame():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode())
    stream = core.streams[1]
    core.receive_data(Header(FrameType.DATA, Flag.FIN, 1, 4).encode() + b"ab")
    core.reset(stream)
    assert core.receive_data(b"cd") == []
    assert not stream.received.size_bytes


def test_fin_of_a_frame_whose_stream_has_ended():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode())
    core.reset(core.streams[1])
    assert core.receive_data(Header(FrameType.DATA, Flag.FIN, 1, 4).encode() + b"late") == []
    assert core.receive_data(Header(FrameType.DATA, Flag.FIN, 1, 0).encode()) == []


def test_data_with_rst_for_an_abandoned_stream():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode())
    core.abandon(core.streams[1])
    events = core.receive_data(Header(FrameType.DATA, Flag.RST, 1, 1).encode() + b"x")
    assert [describe(event) for event in events] == ["reset 1"]


def test_spec_and_code_agree():
    text = (Path(__file__).parents[2] / "protocols" / "specs" / "yamux.md").read_text()
    for state in StreamState:
        cells = (TRANSITIONS.get((state, trigger)) for trigger in Trigger)
        row = " | ".join([state.name, *(cell.name if cell else "-" for cell in cells)])
        assert f"| {row} |" in text
    limits = Limits()
    for number in (
        limits.max_inbound_streams,
        limits.max_outbound_streams,
        limits.max_window_bytes,
        limits.max_refresh_bytes,
        limits.max_frame_bytes,
        MAX_CONTROL_BYTES,
        INITIAL_WINDOW_BYTES,
    ):
        assert f"{number}" in text
    assert f"`{PROTOCOL_ID}`" in text


def test_limits_of_streams():
    one, other = pair(Limits(max_inbound_streams=2, max_outbound_streams=3))
    streams = [one.open_stream() for _ in range(3)]
    with pytest.raises(StreamLimitError):
        one.open_stream()
    exchange(one, other)
    assert [stream.state for stream in streams] == [StreamState.OPEN, StreamState.OPEN, StreamState.RESET]
    one.open_stream()


def test_goodbye():
    one, other, near, far = open_pair()
    one.go_away()
    one.go_away()
    assert [describe(event) for event in exchange(one, other)] == ["away 0"]
    for core in (one, other):
        with pytest.raises(GoneAwayError):
            core.open_stream()
        assert not core.is_drained
    one.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 2, 0).encode())
    assert decode_header(output(one)) == (FrameType.WINDOW_UPDATE, Flag.RST, 2, 0)
    other.finish(far)
    one.finish(near)
    exchange(one, other)
    assert one.is_drained
    assert other.is_drained


def test_ping_and_unasked_answers():
    one, other = pair()
    value = one.ping()
    assert exchange(one, other) == [PingAnswered(value)]
    assert one.receive_data(Header(FrameType.PING, Flag.ACK, 0, 77).encode()) == []
    assert one.receive_data(Header(FrameType.PING, 0, 0, 77).encode()) == []


def test_answers_that_nobody_reads_are_bounded():
    core = make(initiator=False)
    flood = Header(FrameType.PING, Flag.SYN, 0, 1).encode() * 2000
    core.receive_data(flood)
    core.receive_data(flood)
    with pytest.raises(YamuxViolationError):
        core.receive_data(flood)


def test_sending_zero_credit_and_small_joins():
    one, other, near, far = open_pair()
    for byte in range(5):
        one.send(near, [bytes([byte])])
        exchange(one, other)
    assert other.read(far, 3, 0.0) == bytes([0, 1, 2])
    assert other.read(far, 9, 0.0) == bytes([3, 4])


def test_sending_on_a_finished_stream_whose_peer_is_open():
    one, _other, near, _far = open_pair()
    one.finish(near)
    with pytest.raises(StreamFinishedError):
        one.send(near, [b"x"])


def test_a_full_node_lets_no_window_grow():
    node = WindowBudget(300_000)
    peer = WindowBudget(16 * MIB, node)
    peer.promise(100_000)
    assert not peer.grow(200_000)
    assert peer.grow(100_000)
    assert node.promised_bytes == peer.promised_bytes == 200_000


def test_an_empty_payload_of_a_finished_frame():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode())
    stream = core.streams[1]
    core.receive_data(Header(FrameType.DATA, Flag.FIN, 1, 2).encode() + b"a")
    core.receive_data(b"b")
    core.finish(stream)
    assert not core.streams


def test_ids_run_out():
    core = make(initiator=True)
    core._next_id = 2**32 + 1
    with pytest.raises(StreamLimitError):
        core.open_stream()


def test_what_a_closed_connection_left_counts_until_it_is_read():
    node = WindowBudget(64 * MIB)
    core = make(initiator=False, budget=WindowBudget(16 * MIB, node))
    for stream_id in (1, 3):
        core.receive_data(Header(FrameType.DATA, Flag.SYN, stream_id, 5).encode() + b"12345")
    read, forgotten = core.streams.values()
    assert (node.promised_bytes, node.buffered_bytes) == (512 * 1024, 10)
    core.close()
    core.close()
    assert (node.promised_bytes, node.buffered_bytes) == (0, 10)
    assert core.read(read, 100, 0.0) == b"12345"
    assert node.buffered_bytes == 5
    del forgotten
    assert node.buffered_bytes == 0


def test_the_largest_stream_goes_when_memory_is_over_the_limit():
    core = make(initiator=False, budget=WindowBudget(300_000))
    core.receive_data(Header(FrameType.DATA, Flag.SYN, 1, 200_000).encode() + bytes(200_000))
    events = core.receive_data(Header(FrameType.DATA, Flag.SYN, 3, 150_000).encode() + bytes(150_000))
    assert "reset 1" in [describe(event) for event in events]
    assert list(core.streams) == [3]


def test_a_shed_stream_has_no_clean_end():
    core = make(initiator=False, budget=WindowBudget(300_000))
    core.receive_data(Header(FrameType.DATA, Flag.SYN | Flag.FIN, 1, 200_000).encode() + bytes(200_000))
    first = core.streams[1]
    core.finish(first)
    assert first.peer_finished
    assert first.state is StreamState.CLOSED
    core.receive_data(Header(FrameType.DATA, Flag.SYN, 3, 150_000).encode() + bytes(150_000))
    assert not first.peer_finished
    assert not first.received.size_bytes
    assert list(core.streams) == [3]


def test_the_peer_that_holds_most_pays_for_a_full_node():
    node = WindowBudget(400_000)
    modest = make(initiator=False, budget=WindowBudget(MIB, node))
    greedy = make(initiator=False, budget=WindowBudget(MIB, node))
    shed = []
    greedy.on_shed = lambda: shed.extend(map(describe, greedy.take_events()))
    for stream_id in (1, 3):
        greedy.receive_data(Header(FrameType.DATA, Flag.SYN, stream_id, 190_000).encode() + bytes(190_000))
    assert not shed
    # Greedy is silent now; what modest receives must still not go over the limit.
    modest.receive_data(Header(FrameType.DATA, Flag.SYN, 1, 30_000).encode() + bytes(30_000))
    assert list(modest.streams) == [1]
    assert shed == ["reset 1"]
    assert list(greedy.streams) == [3]
    assert decode_header(output(greedy)[-HEADER_BYTES:]) == (FrameType.WINDOW_UPDATE, Flag.RST, 1, 0)
    assert node.buffered_bytes == 220_000


def test_nobody_makes_a_node_hold_more_than_its_limit():
    node = WindowBudget(4 * MIB)
    cores = [make(initiator=False, budget=WindowBudget(MIB, node)) for _ in range(20)]
    most = 0
    for stream_id in range(1, 64, 2):
        for number, core in enumerate(cores):
            size = 250_000 - 1000 * number
            core.receive_data(Header(FrameType.DATA, Flag.SYN, stream_id, size).encode() + bytes(size))
            held = sum(stream.received.size_bytes for item in cores for stream in item.streams.values())
            assert held == node.buffered_bytes
            most = max(most, held)
    assert 3 * MIB < most <= 4 * MIB


def test_a_node_full_of_what_closed_connections_left_takes_no_more():
    node = WindowBudget(400_000)
    closed = make(initiator=False, budget=WindowBudget(MIB, node))
    closed.receive_data(Header(FrameType.DATA, Flag.SYN, 1, 200_000).encode() + bytes(200_000))
    left = closed.streams[1]
    closed.close()
    fresh = make(initiator=False, budget=WindowBudget(MIB, node))
    for stream_id in (1, 3, 5):
        fresh.receive_data(Header(FrameType.DATA, Flag.SYN, stream_id, 90_000).encode() + bytes(90_000))
        assert node.buffered_bytes <= 400_000
    assert node.buffered_bytes == sum(stream.received.size_bytes for stream in (left, *fresh.streams.values()))


def test_tiny_frames_take_no_more_memory_than_their_bytes():
    core = make(initiator=False)
    core.receive_data(Header(FrameType.WINDOW_UPDATE, Flag.SYN, 1, 0).encode())
    frame = Header(FrameType.DATA, 0, 1, 2).encode() + b"xy"
    before = tracemalloc_bytes(lambda: None)
    grown = tracemalloc_bytes(lambda: [core.receive_data(frame * 500) for _ in range(200)])
    assert core.streams[1].received.size_bytes == 200_000
    assert grown - before < 2 * 200_000


def tracemalloc_bytes(act) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_small_pieces_are_joined_and_large_ones_are_not_copied():
    budget = WindowBudget(MIB)
    buffer = ReceiveBuffer(budget)
    large = bytes(100_000)
    for piece in (b"a", b"b", large, b"c", b"dd", b"e"):
        buffer.append(piece)
    assert not buffer.is_bulk
    assert buffer.take(1000) == b"ab"
    assert buffer.is_bulk
    assert buffer.take(10**6) is large
    assert buffer.take(3) == b"cdd"
    assert buffer.take(10) == b"e"
    buffer.append(large)
    target = bytearray(60_000)
    assert buffer.take_into(memoryview(target)) == 60_000
    assert buffer.take_into(memoryview(target)) == 40_000
    assert buffer.size_bytes == budget.buffered_bytes == 0


def test_every_state_has_a_way_out():
    for state in StreamState:
        if state not in (StreamState.CLOSED, StreamState.RESET):
            assert (state, Trigger.RESET) in TRANSITIONS


def test_violation_carries_its_code():
    assert YamuxViolationError("x").code == GoAwayCode.PROTOCOL_ERROR


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_random_bytes_give_events_or_a_violation(pieces):
    core = make(initiator=False)
    try:
        for piece in pieces:
            core.receive_data(piece)
    except YamuxViolationError:
        pass


FRAMES = st.builds(
    lambda kind, flags, stream_id, size: (
        Header(kind, flags, stream_id, size).encode() + (bytes(size) if kind == 0 else b"")
    ),
    st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    st.sampled_from([0, 0, 1, 2, 4, 8, 5, 3]),
    st.sampled_from([0, 1, 2, 3, 5, 7]),
    st.integers(0, 70),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=60), st.integers(1, 50))
def test_random_frames_keep_the_books_straight(frames, piece):
    budget = WindowBudget(16 * MIB)
    core = make(initiator=False, budget=budget)
    core.open_stream()
    received = b"".join(frames)
    try:
        for start in range(0, len(received), piece):
            core.receive_data(received[start : start + piece])
    except YamuxViolationError:
        pass
    open_bytes = sum(stream.received.size_bytes for stream in core.streams.values())
    assert budget.buffered_bytes == open_bytes
    assert budget.promised_bytes == sum(stream.window for stream in core.streams.values())
    for stream in list(core.streams.values()):
        core.abandon(stream)
        core.reset(stream)
    assert budget.promised_bytes == 0


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_two_sides_deliver_what_was_sent_in_order(data):
    one, other = pair(Limits(max_window_bytes=MIB, max_frame_bytes=5000))
    streams = [one.open_stream() for _ in range(3)]
    exchange(one, other)
    sent = {stream.stream_id: bytearray() for stream in streams}
    got = {stream.stream_id: bytearray() for stream in streams}
    for step in range(data.draw(st.integers(1, 12))):
        stream = data.draw(st.sampled_from(streams))
        payload = bytes([step]) * data.draw(st.integers(0, 150_000))
        one.send(stream, [payload])
        sent[stream.stream_id] += payload
        room = data.draw(st.integers(4200, 300_000))
        exchange_with_room(one, other, room)
        reader = data.draw(st.sampled_from(list(other.streams.values())))
        got[reader.stream_id] += other.read(reader, data.draw(st.integers(1, 300_000)), step / 10)
    for _ in range(1000):
        exchange_with_room(one, other, ROOM)
        for reader in other.streams.values():
            got[reader.stream_id] += other.read(reader, MIB, 0.0)
    assert got == sent


def exchange_with_room(one: Yamux, other: Yamux, room: int) -> None:
    while one.has_output or other.has_output:
        other.receive_data(output(one, room))
        one.receive_data(output(other, room))


class Conversation(RuleBasedStateMachine):
    """Two sides that do anything the interface allows, while their bytes are on the way, never break the rules."""

    @initialize(
        window=st.sampled_from([256 * 1024, MIB]),
        memory=st.sampled_from([300_000, 16 * MIB]),
        frame=st.sampled_from([4096, 262064]),
    )
    def begin(self, window, memory, frame):
        limits = Limits(
            max_inbound_streams=3, max_outbound_streams=4, max_window_bytes=window, max_frame_bytes=frame
        )
        self.budgets = [WindowBudget(memory), WindowBudget(memory)]
        self.cores = [make(initiator=not side, limits=limits, budget=self.budgets[side]) for side in (0, 1)]
        self.wires = [bytearray(), bytearray()]
        self.streams = [[], []]
        self.now = 0.0

    def events(self, side, events):
        for event in events:
            if isinstance(event, StreamOpened):
                self.streams[side].append(event.stream)

    def stream(self, side, place):
        return self.streams[side][place % len(self.streams[side])] if self.streams[side] else None

    SIDE = st.integers(0, 1)
    PLACE = st.integers(0, 7)

    @rule(side=SIDE)
    def open_stream(self, side):
        with suppress(StreamLimitError, GoneAwayError):
            self.streams[side].append(self.cores[side].open_stream())

    @rule(side=SIDE, place=PLACE, size=st.sampled_from([1, 2, 100, 5000, 70_000, 600_000]))
    def send(self, side, place, size):
        stream = self.stream(side, place)
        if stream is not None:
            try:
                self.cores[side].send(stream, [bytes(size)])
            except (StreamResetError, StreamFinishedError):
                assert stream.state not in (StreamState.OPENING, StreamState.OPEN)

    @rule(side=SIDE, place=PLACE)
    def finish(self, side, place):
        stream = self.stream(side, place)
        if stream is not None:
            try:
                self.cores[side].finish(stream)
            except StreamResetError:
                assert stream.state is StreamState.RESET
            except StreamFinishedError:
                self.cores[side].withdraw(stream)

    @rule(side=SIDE, place=PLACE, act=st.sampled_from(["reset", "abandon", "withdraw"]))
    def give_up(self, side, place, act):
        stream = self.stream(side, place)
        if stream is not None:
            getattr(self.cores[side], act)(stream)

    @rule(side=SIDE, place=PLACE, size=st.sampled_from([1, 1000, 100_000, MIB]), pause=st.sampled_from([0.0, 1.0]))
    def read(self, side, place, size, pause):
        self.now += pause
        stream = self.stream(side, place)
        if stream is not None:
            assert len(self.cores[side].read(stream, size, self.now)) <= size

    @rule(side=SIDE)
    def ping(self, side):
        self.cores[side].ping()

    @rule(side=SIDE, really=st.integers(0, 9))
    def go_away(self, side, really):
        if not really:
            self.cores[side].go_away()

    @rule(side=SIDE, room=st.sampled_from([4108, 65519, ROOM]))
    def put_on_the_wire(self, side, room):
        for part in self.cores[side].next_batch(room, lambda stream: None):
            self.wires[side] += part

    @rule(side=SIDE, size=st.sampled_from([1, 11, 12, 13, 1000, 65519, MIB]))
    def deliver(self, side, size):
        piece = bytes(self.wires[side][:size])
        del self.wires[side][:size]
        self.events(1 - side, self.cores[1 - side].receive_data(piece))

    @invariant()
    def books_are_straight(self):
        for core, budget, streams in zip(self.cores, self.budgets, self.streams, strict=True):
            assert budget.buffered_bytes == sum(stream.received.size_bytes for stream in streams)
            assert budget.promised_bytes == sum(stream.window for stream in core.streams.values())
            assert budget.buffered_bytes <= budget.limit_bytes
            for stream in core.streams.values():
                assert stream.received.size_bytes + stream.receive_credit + stream.consumed <= stream.window

    @rule()
    def everything_arrives(self):
        for _ in range(50):
            for side in (0, 1):
                self.wires[side] += output(self.cores[side])
                self.deliver(side, len(self.wires[side]))
        for one, other in ((0, 1), (1, 0)):
            assert set(self.cores[one].streams) == set(self.cores[other].streams)


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestConversation = Conversation.TestCase
