"""What a peer may do wrong on these protocols."""

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError


class CircuitMessageError(RemoteProtocolError):
    """The other side sent bytes that are no message of the protocol, or one that is out of turn.

    Args:
        detail: words for our own log.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.MALFORMED, detail)
