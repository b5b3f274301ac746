import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.relay import nats_wire
from sovereign_protocols.relay.nats_wire import Message, NatsParser, Ping, Pong, ServerError, ServerInfo, Skipped

STREAM = (
    b'INFO {"version":"2.15.1","max_payload":1048576,"nonce":"n0","headers":true,"tls_available":true}\r\n'
    b"PING\r\nPONG\r\n+OK\r\n"
    b"MSG svrn.i.aa 7 3\r\nabc\r\n"
    b"MSG svrn.i.aa 7 reply.to 0\r\n\r\n"
    b"HMSG a 9 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"HMSG a 9 rr 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n"
    b"hmsg a 9 12 12\r\nnot ours\r\n\r\n\r\n"
    b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
    b"msg a\t1\t2\r\n\r\n\r\n"
)
EVENTS = [
    ServerInfo("2.15.1", 1048576, False, True, "n0", True),
    Ping(),
    Pong(),
    Message(7, "svrn.i.aa", "", b"abc"),
    Message(7, "svrn.i.aa", "reply.to", b""),
    Message(9, "a", "", b"", 503),
    Message(9, "a", "rr", b"xyz"),
    Message(9, "a", "", b""),
    ServerError('Permissions Violation for Publish to "x"'),
]


def test_every_operation_is_read():
    stream = STREAM[: STREAM.index(b"msg a\t")]
    assert NatsParser().receive_data(stream) == EVENTS


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_a_stream_reads_the_same_in_any_pieces(step):
    parser = NatsParser()
    stream = STREAM[: STREAM.index(b"msg a\t")]
    events = []
    for start in range(0, len(stream), step):
        events += parser.receive_data(stream[start : start + step])
    assert events == EVENTS
    assert parser.pending_bytes == 0


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 700))
def test_payloads_survive_any_split_and_a_buffer_smaller_than_the_stream(payloads, step):
    parser = NatsParser(max_message_bytes=512)
    stream = b"".join(b"MSG s 1 %d\r\n%b\r\n" % (len(payload), payload) for payload in payloads)
    events = []
    for start in range(0, len(stream), step):
        events += parser.receive_data(stream[start : start + step])
    assert [event.payload for event in events] == payloads


def test_many_messages_run_through_a_buffer_of_fixed_size():
    parser = NatsParser(max_message_bytes=1000)
    size = len(parser.writable())
    message = b"MSG s 1 999\r\n" + bytes(999) + b"\r\n"
    assert len(parser.receive_data(message * 1000)) == 1000
    assert len(parser.writable()) == size


def test_a_message_above_the_limit_is_skipped_and_the_next_one_read():
    parser = NatsParser(max_message_bytes=10)
    large = b"MSG s 3 200000\r\n" + bytes(200000) + b"\r\n"
    events = parser.receive_data(large[:100]) + parser.receive_data(large[100:])
    events += parser.receive_data(b"HMSG s 4 12 11111\r\n" + bytes(11111) + b"\r\nPING\r\n")
    assert events == [Skipped(3, 200000), Skipped(4, 11111), Ping()]


@pytest.mark.parametrize(
    "line",
    [
        b"NOPE\r\n",
        b"\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 2 3 4\r\n",
        b"MSG a x 2\r\n",
        b"MSG a 1 -2\r\n",
        b"MSG a 1 99999999999\r\n",
        b"HMSG a 1 5 4\r\n",
        b"HMSG a 1 4\r\n",
        b"MSG a 1 2\r\nabcd",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b'INFO {"max_payload":"1"}\r\n',
        b'INFO {"max_payload":0}\r\n',
        b'INFO {"max_payload":true}\r\n',
        b'INFO {"nonce":1}\r\n',
        b"INFO " + b"[" * 60000 + b"\r\n",
        b"PING" + bytes(4096),
        b"INFO " + b" " * 65536,
    ],
)
def test_what_is_no_protocol_ends_the_connection(line):
    with pytest.raises(RemoteProtocolError):
        NatsParser().receive_data(line)


def test_a_reply_subject_that_is_no_text_does_not_end_the_connection():
    events = NatsParser().receive_data(b"MSG a 1 \xff\xfe\x00 1\r\nx\r\n")
    assert [event.payload for event in events] == [b"x"]


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_random_bytes_give_events_or_the_one_documented_error(pieces):
    parser = NatsParser(max_message_bytes=100)
    with contextlib.suppress(RemoteProtocolError):
        for piece in pieces:
            parser.receive_data(piece)


_WORDS = st.sampled_from(
    [
        b"MSG",
        b"HMSG",
        b"INFO",
        b"PING",
        b"-ERR",
        b" ",
        b"\r\n",
        b"\r",
        b"a",
        b"1",
        b"12",
        b"9" * 11,
        b"{}",
        b"NATS/1.0",
    ]
)


@given(st.lists(_WORDS, max_size=60), st.integers(1, 9))
def test_scrambled_protocol_gives_events_or_the_one_documented_error(words, step):
    parser, stream = NatsParser(max_message_bytes=50), b"".join(words)
    with contextlib.suppress(RemoteProtocolError):
        for start in range(0, len(stream), step):
            parser.receive_data(stream[start : start + step])


def test_commands_are_encoded_as_the_protocol_says():
    assert nats_wire.encode_publish("a.b", 5) == b"PUB a.b 5\r\n"
    assert nats_wire.encode_publish("a.b", 5, "r") == b"PUB a.b r 5\r\n"
    assert nats_wire.encode_subscribe("a.>", 3) == b"SUB a.> 3\r\n"
    assert nats_wire.encode_unsubscribe(3) == b"UNSUB 3\r\n"
    assert nats_wire.encode_connect({"verbose": False}) == b'CONNECT {"verbose":false}\r\n'


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 1", "é", "a\x7f", "x" * 257])
def test_a_subject_cannot_break_out_of_its_line(subject):
    with pytest.raises(ValueError, match="printable"):
        nats_wire.encode_publish(subject, 1)
