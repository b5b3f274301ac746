"""Messages and the two machines of a stream: round trips, splits, order, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto import cbor
from sovereign_crypto.errors import MalformedError
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, LocalProtocolError, RemoteProtocolError
from sovereign_protocols.framing import PREFIX, encode_frame
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.core import MAX_IN_FLIGHT, ClientStream, ServerStream, StreamState

ids = st.binary(min_size=32, max_size=32)
blobs = st.binary(max_size=100)
states = st.sampled_from([state.value for state in ContractState])
figures = st.dictionaries(st.text(alphabet="abc_", min_size=1, max_size=5), st.integers(0, 2**53), max_size=8)
MESSAGES = st.one_of(
    st.builds(m.Hello, st.integers(0, 2**53), blobs),
    st.builds(m.OfferQuery),
    st.builds(m.OfferAnswer, blobs),
    st.builds(m.Propose, blobs),
    st.builds(m.Accept, blobs),
    st.builds(m.Amend, blobs),
    st.builds(m.Notice, blobs),
    st.builds(m.NoticeKept, ids),
    st.builds(m.Close, blobs),
    st.builds(m.Closed, blobs),
    st.builds(m.StateQuery, ids),
    st.builds(
        m.LatestState, ids, states, blobs, blobs, st.integers(0, 10**18), st.integers(0, 10**9),
        st.lists(blobs, max_size=3).map(tuple), blobs,
    ),
    st.builds(m.ListQuery, ids, st.integers(1, 13)),
    st.builds(m.ContractList, st.lists(st.tuples(ids, states, blobs, blobs), max_size=3).map(tuple), st.booleans()),
    st.builds(m.Refuse, st.sampled_from([reason.value for reason in Reason]), figures),
)  # fmt: skip


def header_of(frame: bytes) -> bytes:
    return frame[PREFIX.size :]


@given(st.integers(0, 2**32 - 1), MESSAGES)
def test_messages_round_trip(request_id: int, message: m.Message) -> None:
    assert m.PROTOCOL.decode(header_of(m.encode_message(request_id, message))) == (request_id, message)


@given(st.integers(0, 2**32 - 1), MESSAGES, st.data())
def test_a_damaged_message_is_another_or_none(request_id: int, message: m.Message, data) -> None:
    header = bytearray(header_of(m.encode_message(request_id, message)))
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    outcome: object
    try:
        outcome = m.PROTOCOL.decode(bytes(header))
    except RemoteProtocolError as error:
        outcome = error.code
    assert outcome is ErrorCode.MALFORMED or outcome != (request_id, message)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [1, 2],
        [99, 0, {}],
        [True, 0, {}],
        [2, -1, {}],
        [2, 2**32, {}],
        [2, 0, {"more": 1}],
        [3, 0, {}],
        [15, 0, {"reason": "because", "figures": {}}],
        [15, 0, {"reason": "busy", "figures": {"x": "y"}}],
        [14, 0, {"items": [[bytes(32), "active", b""]], "more": False}],
        [12, 0, {}],
    ],
)
def test_what_is_no_message(value) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        m.PROTOCOL.decode(cbor.encode(value))
    assert caught.value.code is ErrorCode.MALFORMED


def test_a_message_out_of_bounds_is_not_sent() -> None:
    with pytest.raises(MalformedError):
        m.encode_message(1, m.ListQuery(limit=14))


def test_the_largest_messages_fit_a_frame() -> None:
    item = (b"\xff" * 32, "terminated", bytes(2048), bytes(2048))
    assert len(m.encode_message(2**32 - 1, m.ContractList((item,) * 13, more=True))) < 65_536
    state = m.LatestState(bytes(32), "terminated", bytes(2048), bytes(2048), 1, 1, (bytes(1024),) * 40, bytes(2048))
    assert len(m.encode_message(2**32 - 1, state)) < 65_536


def test_refusals_become_errors_and_back() -> None:
    error = RefusedError(Reason.CAPACITY, {"free_bytes": 5})
    assert m.Refuse.of(error).to_error().data == {"free_bytes": 5}


HELLO = m.Hello(1, b"certificate")


def connected() -> tuple[ClientStream, ServerStream]:
    client, server = ClientStream(m.PROTOCOL), ServerStream(m.PROTOCOL)
    server.receive_data(client.greet(HELLO))
    assert server.next_event().message == HELLO
    client.receive_data(server.greet(HELLO))
    assert client.next_event().message == HELLO
    return client, server


@given(st.integers(1, 40))
def test_every_split_gives_the_same_events(size: int) -> None:
    client, server = connected()
    sent = client.ask(m.OfferQuery()) + client.ask(m.Propose(b"terms"))
    for start in range(0, len(sent), size):
        server.receive_data(sent[start : start + size])
    assert [server.next_event().message, server.next_event().message] == [m.OfferQuery(), m.Propose(b"terms")]
    assert server.next_event() is None
    answers = server.answer(m.OfferAnswer(b"offer")) + server.answer(m.Accept(b"terms"))
    for start in range(0, len(answers), size):
        client.receive_data(answers[start : start + size])
    assert [client.next_event().request_id, client.next_event().request_id] == [1, 2]
    client.receive_eof()
    server.receive_eof()
    server.receive_eof()
    assert client.state is server.state is StreamState.CLOSED


def test_a_refused_hello_ends_the_stream() -> None:
    client, server = ClientStream(m.PROTOCOL), ServerStream(m.PROTOCOL)
    server.receive_data(client.greet(HELLO))
    client.receive_data(server.refuse_greeting(m.Refuse("clock_skew", {"peer_time": 1})))
    assert client.next_event().message.reason == "clock_skew"
    client.receive_eof()
    with pytest.raises(LocalProtocolError):
        client.ask(m.OfferQuery())


def refused(stream, data: bytes) -> ErrorCode:
    with pytest.raises(RemoteProtocolError) as caught:
        stream.receive_data(data)
    return caught.value.code


def test_the_server_refuses_what_comes_out_of_turn() -> None:
    assert refused(ServerStream(m.PROTOCOL), m.encode_message(1, m.OfferQuery())) is ErrorCode.UNEXPECTED
    assert refused(ServerStream(m.PROTOCOL), m.encode_message(1, HELLO)) is ErrorCode.UNEXPECTED
    for request_id, message in ((1, HELLO), (1, m.Accept(b"")), (2, m.OfferQuery()), (0, m.OfferQuery())):
        _, server = connected()
        assert refused(server, m.encode_message(request_id, message)) is ErrorCode.UNEXPECTED
    server = ServerStream(m.PROTOCOL)
    server.receive_data(ClientStream(m.PROTOCOL).greet(HELLO))
    assert refused(server, m.encode_message(1, m.OfferQuery())) is ErrorCode.UNEXPECTED


def test_the_client_refuses_what_it_did_not_ask_for() -> None:
    client, _ = connected()
    assert refused(client, m.encode_message(1, m.OfferAnswer(b""))) is ErrorCode.UNEXPECTED
    for request_id, message in ((2, m.OfferAnswer(b"")), (1, m.Accept(b""))):
        client, _ = connected()
        client.ask(m.OfferQuery())
        assert refused(client, m.encode_message(request_id, message)) is ErrorCode.UNEXPECTED
    for request_id, message in ((0, m.OfferQuery()), (1, HELLO)):
        client = ClientStream(m.PROTOCOL)
        client.greet(HELLO)
        assert refused(client, m.encode_message(request_id, message)) is ErrorCode.UNEXPECTED


def test_requests_in_flight_are_bounded_on_both_sides() -> None:
    client, server = connected()
    for _ in range(MAX_IN_FLIGHT):
        server.receive_data(client.ask(m.OfferQuery()))
    with pytest.raises(LocalProtocolError):
        client.ask(m.OfferQuery())
    assert refused(server, m.encode_message(MAX_IN_FLIGHT + 1, m.OfferQuery())) is ErrorCode.BUSY


def test_wrong_use_is_our_own_error() -> None:
    client, server = connected()
    for call in (
        lambda: client.ask(m.Accept(b"")),
        lambda: client.greet(HELLO),
        lambda: server.answer(m.OfferAnswer(b"")),
        lambda: ClientStream(m.PROTOCOL).ask(m.OfferQuery()),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    server.receive_data(client.ask(m.OfferQuery()))
    with pytest.raises(LocalProtocolError, match="does not answer"):
        server.answer(m.Accept(b""))


def test_an_end_inside_a_frame_or_before_an_answer() -> None:
    client, server = connected()
    server.receive_data(client.ask(m.OfferQuery())[:5])
    with pytest.raises(RemoteProtocolError):
        server.receive_eof()
    with pytest.raises(ConnectionLostError):
        client.receive_eof()


def test_a_frame_too_large_is_refused_before_it_is_kept() -> None:
    assert refused(ServerStream(m.PROTOCOL), PREFIX.pack(65_537, 0)) is ErrorCode.TOO_LARGE
    assert refused(ServerStream(m.PROTOCOL), PREFIX.pack(10, 1)) is ErrorCode.TOO_LARGE
    assert refused(ServerStream(m.PROTOCOL), encode_frame(b"\xff" * 10)) is ErrorCode.MALFORMED
