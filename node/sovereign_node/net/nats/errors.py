"""Failures of a relay, as data."""

from sovereign_node.net.errors import NetError


class RelayError(NetError, OSError):
    """Root of everything that goes wrong with a relay; an `OSError`, as every pipe transport raises."""


class RelayUnreachableError(RelayError):
    """There is no connection to the server.

    `reason` says why the last attempt failed.
    """

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"cannot use the relay {server}: {reason}")
        self.server = server
        self.reason = reason


class RelayRefusedError(RelayUnreachableError):
    """The server does not accept our credentials."""


class RelayLostError(RelayUnreachableError):
    """A connection that worked has ended."""


class PeerNotOnRelayError(RelayError):
    """The relay works, but the peer does not wait for tunnels on it, or has no room for one more."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"the relay {server} does not lead to the peer: {reason}")
        self.server = server
        self.reason = reason


class PayloadTooLargeError(RelayError):
    """A message is larger than the server takes."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"a message of {size_bytes} bytes is above the server's limit of {limit_bytes}")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SendQueueFullError(RelayError):
    """More waits to be sent than the connection may hold."""
