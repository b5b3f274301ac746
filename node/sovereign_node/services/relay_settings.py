"""The transport over NATS servers that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from sovereign_node.config import Config
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.nats import NatsTransport, load_credentials, make_nats_transport
from sovereign_protocols.relay.credentials import CredentialsError
from sovereign_protocols.relay.endpoint import EndpointError


def make_relay(config: Config, keys: DeviceKeys) -> NatsTransport | None:
    """Return the transport over the configured NATS servers, None if there are none.

    Raises:
        NodeError: an address or a credentials file is not usable.
    """
    relay = config.relay
    try:
        credentials = load_credentials(
            credentials_file=Path(relay.credentials_file) if relay.credentials_file else None,
            user=relay.user,
            password_file=Path(relay.password_file) if relay.password_file else None,
        )
        return make_nats_transport(
            relay.nats,
            keys.public,
            credentials=credentials,
            ca_file=Path(relay.ca_file) if relay.ca_file else None,
            secret=Path(relay.secret_file).read_bytes().strip() if relay.secret_file else b"",
        )
    except (EndpointError, CredentialsError, OSError) as error:
        raise NodeError(
            "bad_relay", f"the relay settings are not usable: {error}", "see relay.* in docs/configuration.md"
        ) from error
