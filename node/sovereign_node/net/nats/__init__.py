"""NATS relays: a client of our own on trio, and tunnels through a server as byte pipes of the network.

See `transport` for how a node uses it, and protocols/specs/relay.md for what crosses the server.
"""

from sovereign_node.net.nats.multiaddr import register
from sovereign_node.net.nats.transport import NatsTransport, load_credentials, make_nats_transport

__all__ = ["NatsTransport", "load_credentials", "make_nats_transport"]

# At import, because addresses of relays come in records of others even where no relay is configured.
register()
