import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.relay import tunnel_frames as frames
from sovereign_protocols.relay.tunnel import (
    DEAD_AFTER_S,
    INITIAL_WINDOW_BYTES,
    MAX_PING_BURST,
    PING_AFTER_S,
    CloseReceived,
    CreditReceived,
    DataReceived,
    EndReceived,
    ReplyDue,
    Tunnel,
    TunnelError,
    TunnelState,
)
from sovereign_protocols.relay.tunnel_frames import CloseCode, FrameType, Opening


def _pair(*, window: int = INITIAL_WINDOW_BYTES, max_payload: int = 1 << 20) -> tuple[Tunnel, Tunnel]:
    opening = Opening(bytes(16), window, frames.MAX_FRAME_BYTES)
    return tuple(Tunnel(opening, opening, max_payload_bytes=max_payload, now=0.0) for _ in range(2))


def _send(source: Tunnel, target: Tunnel, data: bytes) -> DataReceived:
    event = target.receive_frame(source.send_data(len(data)) + data, 0.0)
    assert isinstance(event, DataReceived)
    return event


def test_an_opening_round_trips():
    opening = Opening(bytes(range(16)), 1 << 20, 4096)
    for kind in (FrameType.REQUEST, FrameType.ACCEPT):
        raw = frames.encode_opening(kind, opening)
        assert frames.decode_head(raw) == (kind, 0)
        assert frames.decode_opening(raw) == opening


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=30))
def test_a_stream_arrives_in_order_and_credit_keeps_it_going(pieces):
    ours, theirs = _pair(window=frames.MIN_WINDOW_BYTES)
    received = b""
    for piece in pieces:
        assert ours.sendable_bytes >= len(piece)
        event = _send(ours, theirs, piece)
        received += event.data
        credit = theirs.consumed(len(event.data))
        if credit is not None:
            assert ours.receive_frame(credit, 0.0) == CreditReceived()
    assert received == b"".join(pieces)
    assert theirs.buffered_bytes == 0


def test_no_frame_is_larger_than_either_side_or_the_server_takes():
    small, _ = _pair(max_payload=1000)
    assert small.sendable_bytes == 1000 - frames.HEAD.size
    full, _ = _pair()
    assert full.sendable_bytes == frames.MAX_FRAME_BYTES - frames.HEAD.size


def test_a_frame_above_what_we_announced_closes():
    opening = Opening(bytes(16), INITIAL_WINDOW_BYTES, 1024)
    tunnel = Tunnel(opening, opening, max_payload_bytes=1 << 20, now=0.0)
    with pytest.raises(TunnelError) as caught:
        tunnel.receive_frame(frames.encode_head(FrameType.DATA, 1) + bytes(1016), 0.0)
    assert caught.value.close_code is CloseCode.MALFORMED


def test_a_sender_stops_at_its_credit_and_credit_comes_at_half():
    ours, theirs = _pair(window=frames.MIN_WINDOW_BYTES)
    half = frames.MIN_WINDOW_BYTES // 2
    for _ in range(2):
        _send(ours, theirs, bytes(half))
    assert ours.sendable_bytes == 0
    with pytest.raises(LocalProtocolError):
        ours.send_data(1)
    assert theirs.consumed(half - 1) is None
    credit = theirs.consumed(1)
    ours.receive_frame(credit, 0.0)
    assert ours.sendable_bytes == half


def test_a_grown_window_is_told_with_the_next_credit():
    ours, theirs = _pair()
    _send(ours, theirs, bytes(50_000))
    theirs.grow_window(INITIAL_WINDOW_BYTES)
    ours.receive_frame(theirs.consumed(50_000), 0.0)
    assert theirs.window_bytes == 2 * INITIAL_WINDOW_BYTES
    sent = 0
    while ours.sendable_bytes:
        count = ours.sendable_bytes
        _send(ours, theirs, bytes(count))
        sent += count
    assert sent == 2 * INITIAL_WINDOW_BYTES == theirs.buffered_bytes


def test_each_direction_ends_by_itself():
    ours, theirs = _pair()
    assert theirs.receive_frame(ours.send_end(), 0.0) == EndReceived()
    assert (ours.state, theirs.state) == (TunnelState.LOCAL_END, TunnelState.REMOTE_END)
    assert not ours.can_send
    _send(theirs, ours, b"still open")
    assert ours.receive_frame(theirs.send_end(), 0.0) == EndReceived()
    assert ours.state is theirs.state is TunnelState.BOTH_END
    with pytest.raises(LocalProtocolError):
        ours.send_end()
    with pytest.raises(LocalProtocolError):
        ours.send_data(1)


def test_no_credit_is_given_to_a_peer_that_has_ended():
    ours, theirs = _pair(window=frames.MIN_WINDOW_BYTES)
    _send(ours, theirs, bytes(60_000))
    theirs.receive_frame(ours.send_end(), 0.0)
    assert theirs.consumed(60_000) is None


def test_a_close_ends_everything_and_names_its_code():
    ours, theirs = _pair()
    assert theirs.receive_frame(ours.send_close(CloseCode.BUSY), 0.0) == CloseReceived(CloseCode.BUSY)
    assert ours.state is theirs.state is TunnelState.CLOSED
    with pytest.raises(LocalProtocolError):
        ours.send_close(CloseCode.DONE)
    with pytest.raises(TunnelError):
        theirs.receive_frame(frames.encode_head(FrameType.DATA, 2) + b"x", 0.0)


def test_an_unknown_close_code_counts_as_malformed():
    _, theirs = _pair()
    event = theirs.receive_frame(frames.encode_head(FrameType.CLOSE, 1) + b"\xff", 0.0)
    assert event == CloseReceived(CloseCode.MALFORMED)


def test_silence_is_asked_about_and_then_ends_the_tunnel():
    ours, theirs = _pair()
    assert ours.handle_timer(PING_AFTER_S - 1) is None
    assert ours.next_timer() == PING_AFTER_S
    ping = ours.handle_timer(PING_AFTER_S)
    assert ours.handle_timer(PING_AFTER_S + 1) is None
    reply = theirs.receive_frame(ping, PING_AFTER_S)
    assert isinstance(reply, ReplyDue)
    assert ours.receive_frame(reply.frame, PING_AFTER_S + 1) is None
    assert ours.next_timer() == 2 * PING_AFTER_S + 1
    with pytest.raises(TunnelError) as caught:
        ours.handle_timer(PING_AFTER_S + 1 + DEAD_AFTER_S)
    assert caught.value.close_code is CloseCode.TIMEOUT


def test_slow_pings_are_answered_for_ever():
    ours, theirs = _pair()
    for second in range(4 * MAX_PING_BURST):
        theirs.receive_frame(frames.encode_head(FrameType.PING, second + 1), float(second))
    assert ours.state is TunnelState.OPEN


def test_a_closed_tunnel_asks_nothing():
    ours, _ = _pair()
    ours.send_close(CloseCode.DONE)
    assert ours.handle_timer(PING_AFTER_S) is None


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_random_frames_end_in_the_one_documented_error(received):
    tunnel, _ = _pair()
    with contextlib.suppress(TunnelError):
        for frame in received:
            tunnel.receive_frame(frame, 0.0)
    assert tunnel.buffered_bytes <= INITIAL_WINDOW_BYTES


@given(st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=12)), max_size=30))
def test_frames_in_sequence_with_any_body_end_in_the_one_documented_error(received):
    tunnel, _ = _pair()
    with contextlib.suppress(TunnelError):
        for sequence, (kind, body) in enumerate(received, start=1):
            tunnel.receive_frame(frames.HEAD.pack(kind, sequence) + body, 0.0)
    assert tunnel.buffered_bytes <= INITIAL_WINDOW_BYTES
