"""Circuits through a relay: a service that carries them, a transport that dials and accepts them.

The wire is circuit relay v2 and DCUtR of libp2p, so that any libp2p peer may be relay, source or destination.
libp2p 0.8.1 has both, but drops relay addresses from a normal dial, moves 8 MB/s, and takes a limit of 0 for
"nothing".

See `transport` for how a node uses it, and protocols/specs/circuit.md.
"""

from sovereign_node.net.circuit.errors import CircuitError
from sovereign_node.net.circuit.relay import RelayService
from sovereign_node.net.circuit.reservations import Reservations
from sovereign_node.net.circuit.transport import CircuitTransport

__all__ = ["CircuitError", "CircuitTransport", "RelayService", "Reservations"]
