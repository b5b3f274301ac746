import json

import pytest

from sovereign_protocols.errors import LocalProtocolError, RemoteProtocolError
from sovereign_protocols.relay.credentials import NatsCredentials
from sovereign_protocols.relay.nats_session import (
    NatsSession,
    Ready,
    Refused,
    SessionState,
    StartTls,
    is_fatal,
)
from sovereign_protocols.relay.nats_wire import Message, Pong, ServerError

INFO = b'INFO {"max_payload":1048576,"headers":true,"nonce":"abc"}\r\n'
INFO_TLS = b'INFO {"max_payload":1048576,"tls_available":true}\r\n'
INFO_TLS_REQUIRED = b'INFO {"max_payload":1048576,"tls_required":true}\r\n'


def _feed(session: NatsSession, data: bytes) -> list:
    session.writable()[: len(data)] = data
    return session.wrote(len(data))


def _session(*, tls: bool = False, credentials: NatsCredentials | None = None) -> NatsSession:
    return NatsSession(credentials or NatsCredentials(), tls=tls)


def test_a_plain_greeting_ends_ready():
    session = _session()
    assert _feed(session, INFO) == []
    connect, ping = session.take_output()
    assert json.loads(connect.removeprefix(b"CONNECT ")) == {
        "verbose": False,
        "pedantic": False,
        "tls_required": False,
        "lang": "python",
        "version": "1",
        "protocol": 1,
        "echo": False,
        "headers": True,
        "no_responders": True,
    }
    assert ping == b"PING\r\n"
    (ready,) = _feed(session, b"+OK\r\nPONG\r\n")
    assert isinstance(ready, Ready)
    assert session.state is SessionState.READY
    assert session.max_payload_bytes == 1048576
    assert session.take_output() == []


@pytest.mark.parametrize(
    ("info", "wanted"), [(INFO_TLS, True), (INFO_TLS_REQUIRED, False), (INFO_TLS_REQUIRED, True)]
)
def test_tls_starts_before_anything_is_said_of_us(info, wanted):
    session = _session(tls=wanted, credentials=NatsCredentials(user="u", password="secret"))
    assert _feed(session, info) == [StartTls()]
    assert session.take_output() == []
    session.tls_started()
    assert b'"tls_required":true' in session.take_output()[0]


@pytest.mark.parametrize("data", [INFO_TLS + b"PONG\r\n", INFO_TLS + b"PO", INFO_TLS + INFO])
def test_bytes_in_clear_before_tls_are_an_attack(data):
    session = _session(tls=True)
    with pytest.raises(RemoteProtocolError):
        _feed(session, data)
    assert session.state is SessionState.CLOSED


def test_a_server_without_tls_is_left_when_tls_is_wanted():
    with pytest.raises(RemoteProtocolError, match="does not offer TLS"):
        _feed(_session(tls=True), INFO)


@pytest.mark.parametrize("data", [b"PONG\r\n", b"MSG a 1 1\r\nx\r\n", b"PING\r\n"])
def test_a_server_must_introduce_itself_first(data):
    with pytest.raises(RemoteProtocolError, match="introduce"):
        _feed(_session(), data)


def test_a_refusal_ends_the_session():
    session = _session()
    _feed(session, INFO)
    assert _feed(session, b"-ERR 'Authorization Violation'\r\n") == [Refused("Authorization Violation")]
    assert session.state is SessionState.CLOSED
    with pytest.raises(LocalProtocolError):
        session.subscribe("a")


def test_pings_are_answered_while_greeting_and_after():
    session = _session()
    _feed(session, INFO)
    session.take_output()
    assert _feed(session, b"PING\r\n") == []
    assert session.take_output() == [b"PONG\r\n"]
    _feed(session, b"PONG\r\n")
    assert _feed(session, b"PING\r\nPONG\r\nMSG a 1 1\r\nx\r\n") == [Pong(), Message(1, "a", "", b"x")]
    assert session.take_output() == [b"PONG\r\n"]


def test_messages_before_the_first_pong_are_ignored_and_a_new_info_is_taken():
    session = _session()
    _feed(session, INFO)
    assert _feed(session, b"MSG a 1 1\r\nx\r\n") == []
    _feed(session, b"PONG\r\n" + b'INFO {"max_payload":99}\r\n')
    assert session.max_payload_bytes == 99


def test_subscriptions_are_numbered():
    session = _session()
    with pytest.raises(LocalProtocolError):
        _ = session.max_payload_bytes
    _feed(session, INFO)
    _feed(session, b"PONG\r\n")
    assert session.subscribe("a") == (1, b"SUB a 1\r\n")
    assert session.subscribe("b") == (2, b"SUB b 2\r\n")
    with pytest.raises(LocalProtocolError):
        session.tls_started()


@pytest.mark.parametrize(
    ("text", "fatal"),
    [
        ('Permissions Violation for Subscription to "x"', False),
        ("Invalid Subject", False),
        ("Slow Consumer", True),
        ("Stale Connection", True),
        ("Maximum Payload Violation", True),
    ],
)
def test_only_refusals_of_one_thing_leave_the_connection(text, fatal):
    assert is_fatal(ServerError(text)) is fatal
