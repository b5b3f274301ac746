"""Addresses of peers behind a relay: `/ip4/../tcp/../p2p/RELAY/p2p-circuit/p2p/PEER`."""

from dataclasses import dataclass

from sovereign_node.net.addresses import is_tcp, split_peer_id
from sovereign_node.net.errors import AddressError
from sovereign_node.net.paths import CIRCUIT_END


@dataclass(frozen=True, slots=True)
class CircuitAddress:
    """A relay and where it is.

    Attributes:
        relay_id: base58 text of its peer id.
        transport: TCP multiaddr of the relay, empty if the address has none.
    """

    relay_id: str
    transport: str

    @property
    def text(self) -> str:
        """The multiaddr, without the peer behind the relay."""
        return f"{self.transport}/p2p/{self.relay_id}{CIRCUIT_END}"


def parse_circuit(address: str) -> CircuitAddress:
    """Read `[/ip4/../tcp/..]/p2p/RELAY/p2p-circuit[/p2p/PEER]`.

    Raises:
        AddressError: something else, as a circuit inside a circuit.
    """
    text = split_peer_id(address)[0]
    if not text.endswith(CIRCUIT_END):
        raise AddressError(address, "not the address of a circuit")
    transport, relay_id = split_peer_id(text.removesuffix(CIRCUIT_END))
    if relay_id is None or (transport and not is_tcp(transport)):
        raise AddressError(address, "the relay of a circuit must be named and reached by TCP")
    return CircuitAddress(relay_id, transport)


def relay_of(address: str) -> str:
    """Return the peer id of the relay in a circuit's address; empty if it is no such address."""
    try:
        return parse_circuit(address).relay_id
    except AddressError:
        return ""
