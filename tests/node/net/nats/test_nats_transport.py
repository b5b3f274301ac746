import hashlib
import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

import sovereign_protocols
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_crypto.signing import SigningKey
from sovereign_devnet.nats_server import run_nats_server
from sovereign_node.net.errors import AddressError, DialError
from sovereign_node.net.host import open_network
from sovereign_node.net.nats import NatsTransport, load_credentials, make_nats_transport
from sovereign_node.net.nats.connection import ServerSettings
from sovereign_node.net.nats.relay import Relay
from sovereign_node.net.nats.stream import TunnelStream
from sovereign_node.net.nats.transport import parse_relay_address
from sovereign_protocols.relay.credentials import USER_PREFIX, CredentialsError, NatsCredentials, encode_seed
from sovereign_protocols.relay.endpoint import Endpoint, EndpointError

pytestmark = pytest.mark.processes

_SPEC = Path(sovereign_protocols.__file__).parents[1] / "specs" / "relay.md"
PROTOCOL_ID = "/test/echo/1.0.0"
STRANGER = "12D3KooWPbtVpZNwhvCHPNVFdjJeGtPPJPLLWxvQPFchbxZPWPVu"


async def _echo(stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()


@asynccontextmanager
async def _node(*servers: str, listen: tuple[str, ...] = (), **options: object):
    key = SigningKey.generate()
    transport = make_nats_transport(servers, key.public, **options)
    transports = [transport] if transport is not None else []
    async with open_network(key, listen=listen, transports=transports) as network:
        network.set_handler(PROTOCOL_ID, _echo)
        if transport is not None:
            with trio.fail_after(5):
                await transport.wait_listening()
        yield network


async def _exchange(network, peer_id: str, data: bytes) -> bytes:
    """Send everything and read the echo to its end; gives the digest of what came back."""
    stream = await network.open_stream(peer_id, PROTOCOL_ID)
    digest = hashlib.sha256()

    async def send() -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while piece := await stream.receive_some():
            digest.update(piece)
    await stream.aclose()
    return digest.digest()


async def test_every_size_crosses_both_ways_over_noise_and_yamux(nats_server):
    async with _node(nats_server.url) as ours, _node(nats_server.url) as theirs:
        address = theirs.addresses()[0]
        assert address == f"/nats/{nats_server.authority}/p2p/{theirs.peer_id}"
        await ours.connect(theirs.peer_id, [address])
        for size in (1, 65_536, 1_000_001, 8 << 20):
            data = os.urandom(size)
            with trio.fail_after(20):
                assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()
                assert await _exchange(theirs, ours.peer_id, data) == hashlib.sha256(data).digest()
        for network, inbound in ((ours, False), (theirs, True)):
            (connection,) = network.connections()
            assert (connection.path, connection.inbound) == ("nats", inbound)
            assert connection.address == f"/nats/{nats_server.authority}"
            assert connection.bytes_sent > 8 << 20


async def test_many_streams_at_once_share_a_tunnel(nats_server):
    async with _node(nats_server.url) as ours, _node(nats_server.url) as theirs:
        await ours.connect(theirs.peer_id, theirs.addresses())
        results = []

        async def one(seed: int) -> None:
            data = bytes([seed]) * 300_000
            results.append(await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest())

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for seed in range(16):
                    nursery.start_soon(one, seed)
        assert results == [True] * 16


@asynccontextmanager
async def _recorded(port: int):
    """Stand before a server, and keep every byte in both directions: what it is told at the start as well."""
    captured = bytearray()

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for piece in source:
                captured.extend(piece)
                await sink.send_all(piece)
            await sink.send_eof()

    async def serve(client: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(carry, client, server)
            nursery.start_soon(carry, server, client)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1], captured
        nursery.cancel_scope.cancel()


async def test_the_relay_sees_neither_content_nor_names(nats_server):
    marker = b"PLAINTEXT-MARKER-7f3a"
    async with _recorded(nats_server.port) as (port, captured):
        url = f"nats://127.0.0.1:{port}"
        async with _node(url) as ours, _node(url) as theirs:
            await ours.connect(theirs.peer_id, theirs.addresses())
            await _exchange(ours, theirs.peer_id, marker * 5000)
            peers = [network.peer_id for network in (ours, theirs)]
        seen = bytes(captured)
    # Each byte goes to the server and from it, both ways.
    assert len(seen) > 4 * 5000 * len(marker)
    assert b"CONNECT {" in seen
    assert marker not in seen
    assert PROTOCOL_ID.encode() not in seen
    for peer_id in peers:
        public_key = public_key_from_peer_id(peer_id)
        assert public_key not in seen
        assert public_key.hex().encode() not in seen.lower()
        # The first characters of a PeerID are the same for everybody, the last ones are the key's.
        assert peer_id[-16:].lower().encode() not in seen.lower()
    assert b"12D3KooW" not in seen


@pytest.mark.parametrize("fault", ["doubles", "loses"])
async def test_a_tunnel_that_a_fault_has_closed_is_dialled_again(nats_server, monkeypatch, fault):
    data = os.urandom(300_000)
    deliver = TunnelStream.on_message
    faults = []

    def break_once(stream: TunnelStream, message) -> None:
        if not faults and len(message.payload) > 10_000:
            faults.append(message)
            if fault == "loses":
                return
            deliver(stream, message)
        deliver(stream, message)

    async with _node(nats_server.url) as ours, _node(nats_server.url) as theirs:
        await ours.connect(theirs.peer_id, theirs.addresses())
        assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()
        monkeypatch.setattr(TunnelStream, "on_message", break_once)
        with trio.fail_after(10):
            with pytest.raises((ExceptionGroup, trio.BrokenResourceError)):
                await _exchange(ours, theirs.peer_id, data)
            while ours.is_connected(theirs.peer_id):
                await trio.sleep(0.01)
            # The next stream dials by itself.
            assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()
    assert len(faults) == 1


async def test_without_a_relay_there_is_no_transport_and_no_packet(fake_server):
    contacts = []

    async def note(stream: trio.SocketStream) -> None:
        contacts.append(stream)

    assert make_nats_transport([], bytes(32)) is None
    async with fake_server(note) as port, _node() as ours:
        with pytest.raises(DialError):
            await ours.connect(STRANGER, [f"/nats/127.0.0.1:{port}/p2p/{STRANGER}"], timeout_s=1)
    assert contacts == []


async def test_a_peer_cannot_make_us_contact_a_relay_of_its_choice(nats_server, fake_server):
    contacts = []

    async def note(stream: trio.SocketStream) -> None:
        contacts.append(stream)

    async with fake_server(note) as port, _node(nats_server.url) as ours:
        with pytest.raises(DialError):
            await ours.connect(STRANGER, [f"/nats/127.0.0.1:{port}/p2p/{STRANGER}"], timeout_s=1)
    assert contacts == []


async def test_a_relay_that_hangs_does_not_delay_a_direct_path(fake_server):
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)

    async with fake_server(silent) as port:
        key = SigningKey.generate()
        transport = make_nats_transport([f"nats://127.0.0.1:{port}"], key.public)
        async with (
            open_network(key, listen=[], transports=[transport]) as ours,
            _node(listen=("/ip4/127.0.0.1/tcp/0",)) as theirs,
        ):
            relayed = f"/nats/127.0.0.1:{port}/p2p/{theirs.peer_id}"
            started = trio.current_time()
            await ours.connect(theirs.peer_id, [relayed, *theirs.addresses()])
            assert trio.current_time() - started < 2
            assert [connection.path for connection in ours.connections()] == ["lan"]
            assert ours.addresses() == []


async def test_a_restart_of_the_relay_costs_a_pause(tmp_path):
    data = os.urandom(300_000)
    async with run_nats_server(tmp_path) as server:
        port, url = server.port, server.url
        async with _node(url) as ours, _node(url) as theirs:
            addresses = theirs.addresses()
            await ours.connect(theirs.peer_id, addresses)
            stream = await ours.open_stream(theirs.peer_id, PROTOCOL_ID)
            await server.kill()
            with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            async with run_nats_server(tmp_path, port=port):
                with trio.fail_after(20):
                    while not ours.is_connected(theirs.peer_id) or not theirs.addresses():
                        try:
                            await ours.connect(theirs.peer_id, addresses)
                        except DialError:
                            continue
                    assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()


async def test_either_of_two_relays_leads_to_the_peer(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with run_nats_server(tmp_path / "a") as first, run_nats_server(tmp_path / "b") as second:
        servers = (first.url, second.url)
        async with _node(*servers) as ours, _node(*servers) as theirs:
            addresses = theirs.addresses()
            assert len(addresses) == 2
            await first.kill()
            with trio.fail_after(10):
                await ours.connect(theirs.peer_id, addresses)
            assert ours.connections()[0].address == f"/nats/{second.authority}"


async def test_a_tunnel_through_a_server_with_tls_and_password(tmp_path, certificates):
    config = f"{certificates.config}\nauthorization {{ user: u, password: p }}"
    options = {"credentials": NatsCredentials(user="u", password="p"), "ca_file": certificates.authority}
    async with run_nats_server(tmp_path, config=config) as server:
        url = f"tls://{server.authority}"
        async with _node(url, **options) as ours, _node(url, **options) as theirs:
            assert theirs.addresses()[0].startswith("/nats-tls/127.0.0.1:")
            await ours.connect(theirs.peer_id, theirs.addresses())
            data = os.urandom(1 << 20)
            with trio.fail_after(20):
                assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()


async def test_the_permissions_of_the_specification_suffice(tmp_path):
    permissions = (_SPEC.read_text().split("permissions: ", 1)[1]).split("\n", 1)[0]
    config = f"authorization {{ users: [{{user: u, password: p, permissions: {permissions}}}] }}"
    options = {"credentials": NatsCredentials(user="u", password="p")}
    async with (
        run_nats_server(tmp_path, config=config) as server,
        _node(server.url, **options) as ours,
        _node(server.url, **options) as theirs,
    ):
        await ours.connect(theirs.peer_id, theirs.addresses())
        data = os.urandom(200_000)
        with trio.fail_after(20):
            assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()
        # The server's own answer for somebody who is not there gets through as well.
        with pytest.raises(DialError, match="does not wait"):
            await ours.connect(STRANGER, [f"/nats/{server.authority}/p2p/{STRANGER}"], timeout_s=3)


async def test_a_server_with_a_small_limit_gets_small_frames(tmp_path):
    async with (
        run_nats_server(tmp_path, config="max_payload: 4096") as server,
        _node(server.url) as ours,
        _node(server.url) as theirs,
    ):
        await ours.connect(theirs.peer_id, theirs.addresses())
        data = os.urandom(500_000)
        with trio.fail_after(20):
            assert await _exchange(ours, theirs.peer_id, data) == hashlib.sha256(data).digest()


async def test_an_impostor_on_the_rendezvous_does_not_get_past_the_handshake(nats_server, nursery):
    """Somebody else answers for the victim's subject, with a key of its own."""
    victim, impostor = SigningKey.generate(), SigningKey.generate()
    false_relay = Relay([Endpoint("127.0.0.1", nats_server.port)], victim.public)
    false_transport = NatsTransport([false_relay])
    async with open_network(impostor, listen=[], transports=[false_transport]), _node(nats_server.url) as ours:
        await false_transport.wait_listening()
        async with open_network(victim, listen=[]) as named:
            address = f"/nats/{nats_server.authority}/p2p/{named.peer_id}"
            with pytest.raises(DialError):
                await ours.connect(named.peer_id, [address], timeout_s=3)
        assert ours.connections() == []


async def test_status_and_hurry(nats_server, nursery):
    transport = make_nats_transport([nats_server.url], bytes(32))
    (before,) = transport.status()
    assert not before.connected

    async def accept(stream, address) -> None:
        await stream.aclose()

    nursery.start_soon(transport.serve, accept)
    with trio.fail_after(5):
        await transport.wait_listening()
    transport.retry_now()
    (after,) = transport.status()
    assert (after.connected, after.connects, after.server) == (True, 1, nats_server.url)
    with pytest.raises(AddressError, match="not an Ed25519"):
        await transport.dial(transport.addresses()[0], "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
    with pytest.raises(AddressError, match="not configured"):
        await transport.dial("/nats/elsewhere:1", STRANGER)


# What the configuration names.


def test_credentials_are_read_from_files(tmp_path):
    seed, secret = tmp_path / "seed", tmp_path / "secret"
    seed.write_text(encode_seed(USER_PREFIX, bytes(32)) + "\n")
    secret.write_text("s3cret\n")
    assert load_credentials() == NatsCredentials()
    assert load_credentials(credentials_file=seed) == NatsCredentials(seed=bytes(32))
    assert load_credentials(user="u", password_file=secret) == NatsCredentials(user="u", password="s3cret")
    assert load_credentials(password_file=secret) == NatsCredentials(token="s3cret")
    with pytest.raises(CredentialsError):
        load_credentials(credentials_file=secret)


def test_a_malformed_server_is_an_error_at_start():
    with pytest.raises(EndpointError):
        make_nats_transport(["http://relay"], bytes(32))


def test_the_relay_of_an_address():
    assert parse_relay_address("/nats/a:1/p2p/12D3") == "/nats/a:1"
    with pytest.raises(AddressError):
        parse_relay_address("/ip4/1.2.3.4/tcp/1")


def test_settings_do_not_show_secrets():
    assert "s3cret" not in repr(ServerSettings(NatsCredentials(user="u", password="s3cret")))
