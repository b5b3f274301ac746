"""Closed schemas of statement bodies: exactly the expected keys, each of the expected kind."""

from collections.abc import Callable, Mapping
from typing import Any

from sovereign_crypto.errors import MalformedError

Check = Callable[[object], bool]


def byte_string(length: int) -> Check:
    """Accept a byte string of exactly ``length`` bytes."""
    return lambda value: isinstance(value, bytes) and len(value) == length


def bounded_bytes(max_length: int) -> Check:
    """Accept a byte string of at most ``max_length`` bytes."""
    return lambda value: isinstance(value, bytes) and len(value) <= max_length


def integer(low: int, high: int) -> Check:
    """Accept an integer, not a boolean, within ``low`` and ``high`` inclusive."""
    return lambda value: type(value) is int and low <= value <= high


def text(max_characters: int) -> Check:
    """Accept text of at most ``max_characters`` characters."""
    return lambda value: isinstance(value, str) and len(value) <= max_characters


def mapping(value: object) -> bool:
    """Accept a map; its own schema is checked separately."""
    return isinstance(value, dict)


def list_of(check: Check, max_items: int) -> Check:
    """Accept a list of at most ``max_items`` items that all pass ``check``."""
    return lambda value: isinstance(value, list) and len(value) <= max_items and all(map(check, value))


def check_schema(body: object, schema: Mapping[str, Check]) -> dict[str, Any]:
    """Return ``body`` if it is a map with exactly the keys of ``schema`` and fitting values.

    Raises:
        MalformedError: a key is missing, unknown, or has a value of another kind.

    """
    if not isinstance(body, dict) or body.keys() != schema.keys():
        raise MalformedError("fields are missing or unknown")
    for name, check in schema.items():
        if not check(body[name]):
            raise MalformedError(f"field {name!r} has an impossible value")
    return body
