import base64
import json
import ssl

import pytest
import trio

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.nats_server import run_nats_server
from sovereign_node.net.nats.client import Backoff
from sovereign_node.net.nats.connection import ServerSettings, open_connection
from sovereign_node.net.nats.errors import (
    PayloadTooLargeError,
    RelayLostError,
    RelayRefusedError,
    RelayUnreachableError,
)
from sovereign_protocols.relay.credentials import USER_PREFIX, NatsCredentials, encode_public, encode_seed
from sovereign_protocols.relay.endpoint import Endpoint

pytestmark = pytest.mark.processes


def _collector() -> tuple:
    send, receive = trio.open_memory_channel(1000)
    return send.send_nowait, receive


async def _round_trip(endpoint: Endpoint, settings: ServerSettings) -> None:
    connection = await open_connection(endpoint, settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await connection.flush()
        nursery.cancel_scope.cancel()


async def test_messages_of_all_sizes_cross_in_order(nats_server, connect):
    ours, theirs = await connect(nats_server), await connect(nats_server)
    collect, messages = _collector()
    theirs.subscribe("a.>", collect)
    await theirs.flush()
    payloads = [bytes([size % 251]) * size for size in (0, 1, 100, 4095, 4096, 65_536, 131_000)]
    for payload in payloads:
        await ours.publish("a.b", payload[:1], payload[1:], reply="back")
    with trio.fail_after(5):
        for payload in payloads:
            message = await messages.receive()
            assert (message.subject, message.reply, message.payload) == ("a.b", "back", payload)


async def test_a_subscription_ends(nats_server, connect):
    ours, theirs = await connect(nats_server), await connect(nats_server)
    collect, messages = _collector()
    sid = theirs.subscribe("x", collect)
    await theirs.flush()
    await ours.publish("x", b"1")
    await ours.flush()
    await theirs.flush()
    theirs.unsubscribe(sid)
    theirs.unsubscribe(sid)
    await theirs.flush()
    await ours.publish("x", b"2")
    await ours.flush()
    await theirs.flush()
    assert messages.receive_nowait().payload == b"1"
    with pytest.raises(trio.WouldBlock):
        messages.receive_nowait()


async def test_a_request_to_nobody_is_answered_by_the_server(nats_server, connect):
    connection = await connect(nats_server)
    collect, messages = _collector()
    connection.subscribe("inbox", collect)
    await connection.publish("nobody", b"?", reply="inbox")
    with trio.fail_after(5):
        assert (await messages.receive()).status == 503


async def test_a_message_above_our_limit_is_skipped_and_the_connection_goes_on(nats_server, connect):
    ours, theirs = await connect(nats_server), await connect(nats_server)
    collect, messages = _collector()
    theirs.subscribe("x", collect)
    await theirs.flush()
    await ours.publish("x", bytes(900_000))
    await ours.publish("x", b"after")
    with trio.fail_after(5):
        assert (await messages.receive()).payload == b"after"


async def test_a_payload_above_the_servers_limit_is_refused_here(tmp_path, connect):
    async with run_nats_server(tmp_path, config="max_payload: 2000") as server:
        connection = await connect(server)
        assert connection.max_payload_bytes == 2000
        with pytest.raises(PayloadTooLargeError):
            await connection.publish("x", bytes(2001))
        await connection.publish("x", bytes(2000))
        await connection.flush()


async def test_what_is_queued_before_a_drain_arrives(nats_server, connect):
    ours, theirs = await connect(nats_server), await connect(nats_server)
    collect, messages = _collector()
    theirs.subscribe("x", collect)
    await theirs.flush()
    for number in range(50):
        await ours.publish("x", b"%d" % number)
    await ours.drain()
    await theirs.drain()
    assert [messages.receive_nowait().payload for _ in range(50)] == [b"%d" % n for n in range(50)]


async def test_a_refused_subscription_leaves_the_connection(tmp_path, connect):
    config = 'authorization { users: [{user: u, password: p, permissions: {subscribe: "svrn.>"}}] }'
    async with run_nats_server(tmp_path, config=config) as server:
        settings = ServerSettings(NatsCredentials(user="u", password="p"))
        connection = await connect(server, settings)
        connection.subscribe("elsewhere", lambda message: None)
        await connection.flush()
        assert "Permissions Violation" in connection.last_refusal
        assert not connection.closed.is_set()


# Authentication.


@pytest.mark.parametrize(
    ("config", "credentials"),
    [
        ("authorization { user: u, password: p }", NatsCredentials(user="u", password="p")),
        ("authorization { token: t0ken }", NatsCredentials(token="t0ken")),
    ],
)
async def test_passwords_and_tokens(tmp_path, config, credentials):
    async with run_nats_server(tmp_path, config=config) as server:
        endpoint = Endpoint("127.0.0.1", server.port)
        await _round_trip(endpoint, ServerSettings(credentials))
        for wrong in (NatsCredentials(), NatsCredentials(user="u", password="x"), NatsCredentials(token="x")):
            with pytest.raises(RelayRefusedError, match="Authorization Violation"):
                await open_connection(endpoint, ServerSettings(wrong))


async def test_an_nkey_seed_file(tmp_path):
    seed = bytes(range(32))
    public = encode_public(USER_PREFIX, SigningKey.from_seed(seed).public)
    async with run_nats_server(tmp_path, config=f"authorization {{ users: [{{nkey: {public}}}] }}") as server:
        endpoint = Endpoint("127.0.0.1", server.port)
        credentials = NatsCredentials.from_file_text(encode_seed(USER_PREFIX, seed) + "\n")
        await _round_trip(endpoint, ServerSettings(credentials))
        with pytest.raises(RelayRefusedError):
            await open_connection(endpoint, ServerSettings(NatsCredentials(seed=bytes(32))))


_OPERATOR, _ACCOUNT = 14 << 3, 0


def _jwt(key: SigningKey, issuer_type: int, subject: str, nats: dict) -> str:
    def encode(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    issuer = encode_public(issuer_type, key.public)
    claims = {"jti": "x", "iat": 1_700_000_000, "iss": issuer, "sub": subject, "name": "test", "nats": nats}
    signed = encode({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + encode(claims)
    return signed + "." + encode(key.sign(signed.encode()))


async def test_a_credentials_file_with_a_jwt(tmp_path):
    operator, account, user = (SigningKey.generate() for _ in range(3))
    unlimited = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True,
                 "conn": -1, "leaf": -1}  # fmt: skip
    account_id = encode_public(_ACCOUNT, account.public)
    operator_jwt = _jwt(
        operator, _OPERATOR, encode_public(_OPERATOR, operator.public), {"type": "operator", "version": 2}
    )
    account_jwt = _jwt(operator, _OPERATOR, account_id, {"type": "account", "version": 2, "limits": unlimited})
    user_claims = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
    user_jwt = _jwt(account, _ACCOUNT, encode_public(USER_PREFIX, user.public), user_claims)
    config = f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {account_id}: {account_jwt} }}"
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{encode_seed(USER_PREFIX, user.seed)}\n------END USER NKEY SEED------\n"
    )
    async with run_nats_server(tmp_path, config=config) as server:
        endpoint = Endpoint("127.0.0.1", server.port)
        await _round_trip(endpoint, ServerSettings(NatsCredentials.from_file_text(creds)))
        stolen = NatsCredentials(seed=SigningKey.generate().seed, jwt=user_jwt)
        with pytest.raises(RelayRefusedError):
            await open_connection(endpoint, ServerSettings(stolen))


# TLS.


@pytest.mark.parametrize("asked", [True, False])
async def test_tls_with_a_trusted_certificate(tmp_path, certificates, asked):
    context = ssl.create_default_context(cafile=str(certificates.authority))
    async with run_nats_server(tmp_path, config=certificates.config) as server:
        endpoint = Endpoint("127.0.0.1", server.port, tls=asked)
        ours = await open_connection(endpoint, ServerSettings(ssl_context=context))
        collect, messages = _collector()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.run)
            theirs = await open_connection(endpoint, ServerSettings(ssl_context=context))
            nursery.start_soon(theirs.run)
            theirs.subscribe("x", collect)
            await theirs.flush()
            for size in (1, 100_000, 65_536):
                await ours.publish("x", bytes(size))
            with trio.fail_after(5):
                assert [len((await messages.receive()).payload) for _ in range(3)] == [1, 100_000, 65_536]
            nursery.cancel_scope.cancel()


async def test_tls_with_an_unknown_certificate_sends_no_password(tmp_path, certificates):
    async with run_nats_server(tmp_path, config=certificates.config) as server:
        settings = ServerSettings(NatsCredentials(user="u", password="p"))
        with pytest.raises(RelayUnreachableError, match=r"(?i)certificate"):
            await open_connection(Endpoint("127.0.0.1", server.port, tls=True), settings)


async def test_a_server_without_tls_is_left_when_the_address_wants_tls(nats_server):
    with pytest.raises(RelayUnreachableError, match="does not offer TLS"):
        await open_connection(Endpoint("127.0.0.1", nats_server.port, tls=True), ServerSettings())


# Servers that misbehave.


async def test_a_silent_server_is_left_at_the_deadline(fake_server):
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)

    async with fake_server(silent) as port:
        with pytest.raises(RelayUnreachableError, match="no answer in time"):
            await open_connection(Endpoint("127.0.0.1", port), ServerSettings(connect_timeout_s=0.1))


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 5000, b"", b"INFO []\r\n"])
async def test_something_else_than_a_nats_server(fake_server, greeting):
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(greeting)
        await stream.send_eof()

    async with fake_server(greet) as port:
        with pytest.raises(RelayUnreachableError):
            await open_connection(Endpoint("127.0.0.1", port), ServerSettings())


async def _accept(stream: trio.SocketStream) -> None:
    await stream.send_all(b'INFO {"max_payload":1048576}\r\n')
    received = b""
    while b"PING\r\n" not in received:
        received += await stream.receive_some(4096)
    await stream.send_all(b"PONG\r\n")


async def test_a_server_that_stops_answering_pings_is_left(fake_server):
    async def deaf(stream: trio.SocketStream) -> None:
        await _accept(stream)
        while await stream.receive_some(4096):
            pass

    async with fake_server(deaf) as port:
        connection = await open_connection(Endpoint("127.0.0.1", port), ServerSettings(ping_interval_s=0.02))
        with trio.fail_after(5), pytest.raises(RelayLostError, match="does not answer"):
            await connection.run()
        assert connection.closed.is_set()
        with pytest.raises(RelayLostError):
            await connection.publish("x", b"")


async def test_a_probe_finds_a_dead_server_without_waiting_for_the_next_ping(fake_server, monkeypatch):
    monkeypatch.setattr("sovereign_node.net.nats.connection._PROBE_S", 0.05)

    async def deaf(stream: trio.SocketStream) -> None:
        await _accept(stream)
        while await stream.receive_some(4096):
            pass

    async with fake_server(deaf) as port:
        connection = await open_connection(Endpoint("127.0.0.1", port), ServerSettings())
        connection.probe()
        with trio.fail_after(5), pytest.raises(RelayLostError, match="does not answer"):
            await connection.run()


async def test_a_probe_leaves_a_server_that_answers(nats_server, start_client):
    client = start_client(nats_server.port)
    with trio.fail_after(5):
        connection = await client.connected()
        client.retry_now()
        await connection.flush()
        await connection.flush()
        assert await client.connected() is connection


async def test_garbage_after_the_greeting_ends_the_connection_and_tells_subscribers(fake_server):
    async def spoil(stream: trio.SocketStream) -> None:
        await _accept(stream)
        await stream.receive_some(4096)
        await stream.send_all(b"MSG what\r\n")
        await stream.receive_some(4096)

    lost = trio.Event()
    async with fake_server(spoil) as port, trio.open_nursery() as nursery:
        connection = await open_connection(Endpoint("127.0.0.1", port), ServerSettings())
        connection.subscribe("x", lambda message: None, lost.set)

        async def run() -> None:
            with pytest.raises(RelayLostError, match="malformed"):
                await connection.run()

        nursery.start_soon(run)
        with trio.fail_after(5):
            await lost.wait()


async def test_a_publisher_waits_while_the_server_does_not_read(fake_server):
    async def clogged(stream: trio.SocketStream) -> None:
        await _accept(stream)
        await trio.sleep_forever()

    async with fake_server(clogged) as port, trio.open_nursery() as nursery:
        connection = await open_connection(Endpoint("127.0.0.1", port), ServerSettings())
        nursery.start_soon(connection.run)
        published = 0
        with trio.move_on_after(0.5):
            while True:
                await connection.publish("x", bytes(65_536))
                published += 1
        # What the kernel holds, and one queue.
        assert published < 400
        nursery.cancel_scope.cancel()


# Staying connected.


async def test_a_client_returns_after_a_restart_with_its_subscriptions(tmp_path, start_client):
    collect, messages = _collector()
    async with run_nats_server(tmp_path) as server:
        port = server.port
        ours, theirs = start_client(port), start_client(port)
        theirs.subscribe("x", collect)
        gone = theirs.subscribe("y", collect)
        with trio.fail_after(5):
            first = await theirs.connected()
            await first.flush()
            await (await ours.connected()).publish("x", b"before")
            assert (await messages.receive()).payload == b"before"
        await server.kill()
        with trio.fail_after(5):
            await first.closed.wait()
    theirs.unsubscribe(gone)
    async with run_nats_server(tmp_path, port=port):
        with trio.fail_after(10):
            while True:
                try:
                    await (await theirs.connected()).flush()
                    connection = await ours.connected()
                    break
                except RelayUnreachableError:
                    continue
            await connection.publish("y", b"nobody")
            await connection.publish("x", b"after")
            assert (await messages.receive()).payload == b"after"
        assert theirs.status().connects == 2
        assert theirs.status().connected


async def test_the_next_server_takes_over(tmp_path, start_client):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with run_nats_server(tmp_path / "a") as first, run_nats_server(tmp_path / "b") as second:
        client = start_client(first.port, second.port)
        with trio.fail_after(5):
            connection = await client.connected()
            assert connection.endpoint.port == first.port
            await first.kill()
            await connection.closed.wait()
            while True:
                try:
                    connection = await client.connected()
                    await connection.flush()
                    break
                except RelayUnreachableError:
                    continue
        assert connection.endpoint.port == second.port


async def test_a_client_of_a_dead_server_says_so_at_once(start_client):
    with trio.fail_after(5):
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        client = start_client(port)
        with pytest.raises(RelayUnreachableError):
            await client.connected()
    assert not client.status().connected
    assert client.status().last_error


def test_waits_grow_are_spread_and_begin_again():
    backoff = Backoff(minimum_s=1, maximum_s=8, draw=lambda: 0.0)
    assert [backoff.next_wait_s() for _ in range(5)] == [0.5, 1, 2, 4, 4]
    backoff.reset()
    assert backoff.next_wait_s() == 0.5
    assert Backoff(minimum_s=1, draw=lambda: 1.0).next_wait_s() == 1.0
