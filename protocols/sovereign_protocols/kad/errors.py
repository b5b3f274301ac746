"""What can go wrong in the DHT, apart by whose fault it is."""

from sovereign_protocols.errors import ErrorCode, ProtocolError, RemoteProtocolError


class KadMessageError(RemoteProtocolError):
    """The other side sent bytes that are not a message of this protocol.

    Args:
        detail: words for our own log.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.MALFORMED, detail)


class RequestRefusedError(ProtocolError):
    """A well-formed request that we do not serve; the stream is reset and nothing is stored.

    Args:
        reason: a short fixed word for logs and counters, never text from the peer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidRecordError(ProtocolError):
    """A record that its validator does not accept, or a key outside our namespace.

    Args:
        reason: a short fixed word for logs and counters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
