"""What can go wrong between peers, as data; sentences are composed by the CLI and the web."""

from collections.abc import Mapping


class NetError(Exception):
    """Root of every failure raised by `sovereign_node.net`."""


class ListenError(NetError):
    """We cannot listen on an address that was asked for, so peers could not reach us there."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"cannot listen on {address}: {reason}")


class AddressError(NetError):
    """A multiaddr is malformed, or no transport of this node understands it."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"bad address {address!r}: {reason}")


class DialError(NetError):
    """No address of the peer led to an authenticated connection.

    `causes` maps each address that was tried to the reason why it failed.
    """

    def __init__(self, peer_id: str, causes: Mapping[str, str]) -> None:
        self.peer_id = peer_id
        self.causes = dict(causes)
        details = "; ".join(f"{address}: {reason}" for address, reason in self.causes.items())
        super().__init__(f"cannot connect to {peer_id}: {details or 'no address known'}")


class StreamOpenError(NetError):
    """A stream to a connected peer could not be opened."""

    def __init__(self, peer_id: str, protocol_id: str, reason: str) -> None:
        self.peer_id = peer_id
        self.protocol_id = protocol_id
        self.reason = reason
        super().__init__(f"cannot open {protocol_id} to {peer_id}: {reason}")


class ProtocolNotSupportedError(StreamOpenError):
    """The peer answered that it does not speak the protocol."""

    def __init__(self, peer_id: str, protocol_id: str) -> None:
        super().__init__(peer_id, protocol_id, "the peer does not support it")


class NegotiationError(NetError):
    """The other side broke the rules of multistream-select."""
