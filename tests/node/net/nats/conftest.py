import datetime
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.nats_server import NatsServer, run_nats_server
from sovereign_node.net.nats.client import Backoff, NatsClient
from sovereign_node.net.nats.connection import NatsConnection, ServerSettings, open_connection
from sovereign_node.net.nats.relay import Relay
from sovereign_protocols.relay.endpoint import Endpoint


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    async with run_nats_server(folder) as server:
        yield server


def quick_backoff() -> Backoff:
    return Backoff(minimum_s=0.02, maximum_s=0.2)


@pytest.fixture
def connect(nursery: trio.Nursery) -> Callable:
    """Open a connection that lives as long as the test."""

    async def open_and_run(server: NatsServer, settings: ServerSettings | None = None) -> NatsConnection:
        endpoint = Endpoint("127.0.0.1", server.port)
        connection = await open_connection(endpoint, settings or ServerSettings())

        async def run() -> None:
            # A test that stops the server ends the connection before the test.
            with suppress(OSError):
                await connection.run()

        nursery.start_soon(run)
        return connection

    return open_and_run


@pytest.fixture
def start_client(nursery: trio.Nursery) -> Callable:
    def start(*ports: int, **options: object) -> NatsClient:
        endpoints = [Endpoint("127.0.0.1", port) for port in ports]
        client = NatsClient(endpoints, backoff=quick_backoff(), **options)
        nursery.start_soon(client.run)
        return client

    return start


@dataclass
class Side:
    """One peer on a relay, without libp2p above."""

    key: SigningKey
    relay: Relay
    accepted: trio.MemoryReceiveChannel


@pytest.fixture
def start_side(nursery: trio.Nursery) -> Callable:
    async def start(port: int, **options: object) -> Side:
        key = SigningKey.generate()
        relay = Relay([Endpoint("127.0.0.1", port)], key.public, backoff=quick_backoff(), **options)
        send, receive = trio.open_memory_channel(100)

        async def accept(stream: trio.abc.Stream) -> None:
            await send.send(stream)

        nursery.start_soon(relay.run, accept)
        with trio.fail_after(5):
            await relay.wait_listening()
        return Side(key, relay, receive)

    return start


@dataclass
class Certificates:
    """Paths of PEM files of an authority and of a server's certificate for 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def config(self) -> str:
        return f'tls {{ cert_file: "{self.certificate}", key_file: "{self.key}" }}'


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])

    def build(name: x509.Name, public_key: object, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(authority_key, hashes.SHA256())

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = build(
        authority_name, authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=None), usage
    )
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    server = build(server_name, server_key.public_key(), alternative)
    paths = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    paths.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    paths.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    paths.key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@pytest.fixture
def fake_server() -> Callable:
    """Serve every connection on loopback with a function; gives the port."""

    @asynccontextmanager
    async def serve(handler: Callable) -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                lambda task_status: trio.serve_tcp(handler, 0, host="127.0.0.1", task_status=task_status)
            )
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()

    return serve
