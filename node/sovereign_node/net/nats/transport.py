"""Relays as one more kind of byte pipe for the network.

Without a configured relay there is no transport and not one packet. Only configured relays are ever contacted: an
address that a peer publishes cannot make us connect to a server of its choice.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

import trio

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.net.errors import AddressError
from sovereign_node.net.nats.client import ClientStatus
from sovereign_node.net.nats.connection import ServerSettings
from sovereign_node.net.nats.relay import Relay
from sovereign_node.net.transports import AcceptPipe
from sovereign_protocols.relay.credentials import NatsCredentials
from sovereign_protocols.relay.endpoint import EndpointError, parse_multiaddr, parse_url


class NatsTransport:
    """Tunnels through every configured relay.

    Args:
        relays: at least one; each is an address of this node, so that a peer finds it by any of them.
    """

    path = "nats"

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays = {relay.endpoint.multiaddr: relay for relay in relays}

    def can_dial(self, address: str) -> bool:
        """Say whether the address names a configured relay."""
        return address in self._relays

    async def dial(self, address: str, peer_id: str) -> trio.abc.Stream:
        """Open a tunnel to a peer.

        Args:
            address: `/nats/HOST:PORT` or `/nats-tls/HOST:PORT`.
            peer_id: who to ask for; Noise proves that it answers.

        Raises:
            RelayError: the relay does not work, or the peer is not on it.
            AddressError: the peer id holds no Ed25519 key, or the relay is not configured.
        """
        try:
            public_key = public_key_from_peer_id(peer_id)
        except CryptoError as error:
            raise AddressError(peer_id, "not an Ed25519 peer id") from error
        if address not in self._relays:
            raise AddressError(address, "this relay is not configured")
        return await self._relays[address].dial(public_key)

    def addresses(self) -> list[str]:
        """List the relays on which peers can reach us now."""
        return [address for address, relay in self._relays.items() if relay.is_listening]

    async def wait_listening(self) -> None:
        """Wait until peers can reach us on every relay; put a deadline around it."""
        for relay in self._relays.values():
            await relay.wait_listening()

    async def serve(self, accept: AcceptPipe) -> None:
        """Stay connected to every relay and accept tunnels, until cancelled."""
        async with trio.open_nursery() as nursery:
            for relay in self._relays.values():
                nursery.start_soon(_serve_relay, relay, accept)

    def status(self) -> list[ClientStatus]:
        """Describe the connection to every relay, for the doctor."""
        return [relay.status() for relay in self._relays.values()]

    def retry_now(self) -> None:
        """Connect at once where the connection is lost, and check the others.

        For when the network has changed, or the machine woke up.
        """
        for relay in self._relays.values():
            relay.retry_now()


async def _serve_relay(relay: Relay, accept: AcceptPipe) -> None:
    async def take(stream: trio.abc.Stream) -> None:
        await accept(stream, relay.endpoint.multiaddr)

    await relay.run(take)


def parse_relay_address(address: str) -> str:
    """Return the relay's part of `/nats/HOST:PORT/p2p/PEER`.

    Raises:
        AddressError: another kind of address.
    """
    try:
        return parse_multiaddr(address)[0].multiaddr
    except EndpointError as error:
        raise AddressError(address, str(error)) from error


def load_credentials(
    *, credentials_file: Path | None = None, user: str = "", password_file: Path | None = None
) -> NatsCredentials:
    """Read the secrets that the configuration names.

    Args:
        credentials_file: .creds file, or a file with one NKey user seed.
        user: user name; without it, `password_file` holds a token.
        password_file: password or token, one line.

    Raises:
        CredentialsError: the file holds something else.
        OSError: a file cannot be read.
    """
    if credentials_file is not None:
        return NatsCredentials.from_file_text(credentials_file.read_text("utf-8", "replace"))
    secret = password_file.read_text("utf-8").strip() if password_file is not None else ""
    return NatsCredentials(user=user, password=secret) if user else NatsCredentials(token=secret)


def make_nats_transport(
    servers: Sequence[str],
    public_key: bytes,
    *,
    credentials: NatsCredentials | None = None,
    ca_file: Path | None = None,
    secret: bytes = b"",
) -> NatsTransport | None:
    """Make the transport of a configuration, for `open_network(transports=...)`.

    Args:
        servers: `nats://HOST:PORT` or `tls://HOST:PORT`; empty for no relay.
        public_key: 32 bytes, our device's Ed25519 key.
        credentials: the same for every server.
        ca_file: PEM certificates to trust instead of the system's.
        secret: rendezvous secret shared with the peers that may find us, or empty.

    Returns:
        The transport, or None without a server.

    Raises:
        EndpointError: a server's address is malformed.
    """
    endpoints = [parse_url(server) for server in servers]
    if not endpoints:
        return None
    settings = ServerSettings(
        credentials=credentials or NatsCredentials(),
        ssl_context=ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else None,
    )
    return NatsTransport([Relay([endpoint], public_key, settings, secret=secret) for endpoint in endpoints])
