"""Small conversions between columns and Python values, shared by the aggregates."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from sovereign_node.store.database import Database

Item = TypeVar("Item")


def hex_or_none(value: bytes | None) -> str | None:
    """Give the column text of an id that may be absent."""
    return None if value is None else value.hex()


def bytes_or_none(value: str | None) -> bytes | None:
    """Read an id that may be absent."""
    return None if value is None else bytes.fromhex(value)


def to_json(values: Sequence[str]) -> str:
    """Write a list of texts, compact, and readable unless one of them is a path that is not UTF-8."""
    readable = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return readable if is_unicode(readable) else json.dumps(list(values), separators=(",", ":"))


def is_unicode(text: str) -> bool:
    """Tell whether SQLite takes a text: paths may carry bytes that are not UTF-8 as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_json(text: str) -> tuple[str, ...]:
    """Read a list of texts."""
    return tuple(json.loads(text))


def find_by_prefix(
    database: Database, table: str, id_column: str, prefix: str, convert: Callable[[sqlite3.Row], Item]
) -> list[Item]:
    """Find rows whose hexadecimal id starts with a text that a person typed.

    Args:
        database: where to look.
        table: table name, a constant of the calling module.
        id_column: column name, a constant of the calling module.
        prefix: any text; what cannot start an id finds nothing.
        convert: row to dataclass.

    Returns:
        The matches, ordered by id; the caller decides what more than one means.
    """
    prefix = prefix.lower()
    if not prefix or not set(prefix) <= set("0123456789abcdef"):
        return []
    # "g" sorts after every hexadecimal digit, so the range is exactly the prefix and uses the index.
    sql = f"SELECT * FROM {table} WHERE {id_column} >= ? AND {id_column} < ? ORDER BY {id_column}"  # noqa: S608
    return [convert(row) for row in database.query(sql, (prefix, prefix + "g"))]
