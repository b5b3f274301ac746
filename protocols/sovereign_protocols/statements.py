"""Read signed statements of peers: whatever is wrong with one becomes an error of the protocol.

Source: crypto/specs/statements.md.
"""

from collections.abc import Callable
from typing import TypeVar

from sovereign_crypto.errors import CryptoError, SignatureError
from sovereign_crypto.statement import Statement, StatementType, parse_statement
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError

Content = TypeVar("Content")


def read_statement(
    raw: bytes,
    read: Callable[[Statement], Content],
    *,
    expected: StatementType,
    network_id: bytes,
    max_bytes: int,
) -> Content:
    """Verify a statement and read its content.

    Args:
        raw: the statement as received.
        read: makes the content; it may raise CryptoError or RemoteProtocolError.
        expected: type of the statement.
        network_id: 32 bytes.
        max_bytes: the longest that is looked at.

    Raises:
        RemoteProtocolError: code signature or malformed, or what `read` raised.
    """
    try:
        return read(parse_statement(raw, expected=expected, network_id=network_id, max_bytes=max_bytes))
    except SignatureError as error:
        raise RemoteProtocolError(ErrorCode.SIGNATURE, str(error)) from error
    except CryptoError as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, str(error)) from error
