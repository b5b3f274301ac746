"""The 32-byte names of chunks, contracts, identities, devices and locators."""

from typing import Final

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError

ID_BYTES: Final = 32


def check_id(value: object, what: str = "id") -> bytes:
    """Return `value` if it is exactly 32 bytes.

    Args:
        value: anything that came out of a message.
        what: the field's name, for our own log.

    Raises:
        RemoteProtocolError: it is something else.
    """
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise RemoteProtocolError(ErrorCode.MALFORMED, f"{what} is not 32 bytes")
    return value


def id_from_hex(text: str) -> bytes:
    """Return the 32 bytes that 64 lower- or upper-case hex digits spell.

    Raises:
        ValueError: `text` is not 64 hex digits.
    """
    value = bytes.fromhex(text) if len(text) == 2 * ID_BYTES else b""
    if len(value) != ID_BYTES:
        raise ValueError("an id is 64 hex digits")
    return value
