"""What can go wrong in a Yamux connection."""

from sovereign_protocols.errors import ProtocolError


class YamuxError(ProtocolError):
    """Root of the errors of this package."""


class YamuxViolationError(YamuxError):
    """The peer broke the rules, and the connection must end.

    Attributes:
        code: the GO_AWAY code to send.
    """

    def __init__(self, reason: str, code: int = 1) -> None:
        self.code = code
        super().__init__(reason)


class StreamLimitError(YamuxError):
    """As many streams are open as we allow ourselves."""


class GoneAwayError(YamuxError):
    """One side has said goodbye; no new stream can be opened."""


class StreamResetError(YamuxError):
    """The stream was reset by either side."""


class StreamFinishedError(YamuxError):
    """Our direction of the stream has ended already."""
