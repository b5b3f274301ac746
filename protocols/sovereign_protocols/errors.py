"""Errors of the wire protocols, and the fixed list of codes that travel between peers."""

from collections.abc import Mapping
from enum import StrEnum


class ErrorCode(StrEnum):
    """What a peer may be told when a request fails; nothing else about a failure leaves a node.

    Source: protocols/specs/conventions.md, "Errors".
    """

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNEXPECTED = "unexpected"
    UNSUPPORTED_VERSION = "unsupported_version"
    CLOCK_SKEW = "clock_skew"
    IDENTITY = "identity"
    ROLLBACK = "rollback"
    SIGNATURE = "signature"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    ID_MISMATCH = "id_mismatch"
    SIZE_CLASS = "size_class"
    QUOTA = "quota"
    CREDIT = "credit"
    FULL = "full"
    STORAGE = "storage"
    CONFLICT = "conflict"
    GRACE = "grace"
    EXPIRED = "expired"
    REPLAY = "replay"
    BUSY = "busy"
    RATE = "rate"
    TIMEOUT = "timeout"


class ProtocolError(Exception):
    """Root of every error that a protocol raises."""


class LocalProtocolError(ProtocolError):
    """This side used a protocol wrongly; a bug of ours, never the peer's fault."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids; the stream cannot go on.

    Args:
        code: the code to tell the peer before the stream is reset.
        detail: words for our own log; they never travel.
    """

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(f"{code.value}: {detail}" if detail else code.value)
        self.code = code
        self.detail = detail


class RemoteError(ProtocolError):
    """The peer refused one request.

    Args:
        code: one of the fixed codes.
        data: numbers and ids that go with the code, as the specification lists them.
    """

    def __init__(self, code: ErrorCode, data: Mapping[str, int | bytes] | None = None) -> None:
        super().__init__(code.value)
        self.code = code
        self.data: Mapping[str, int | bytes] = dict(data or {})


class ConnectionLostError(ProtocolError):
    """The stream ended before the answer came; whether the request took effect is unknown."""
