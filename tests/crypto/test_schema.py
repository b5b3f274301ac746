"""Closed schemas."""

import pytest

from sovereign_crypto.errors import MalformedError
from sovereign_crypto.schema import (
    bounded_bytes,
    byte_string,
    check_schema,
    integer,
    list_of,
    mapping,
    text,
)

SCHEMA = {"id": byte_string(2), "note": text(3)}


def test_exact_keys():
    assert check_schema({"id": b"ab", "note": "abc"}, SCHEMA) == {"id": b"ab", "note": "abc"}
    for body in ({}, {"id": b"ab"}, {"id": b"ab", "note": "", "x": 0}, [], None, {"id": b"ab", 1: ""}):
        with pytest.raises(MalformedError, match="fields"):
            check_schema(body, SCHEMA)


def test_a_wrong_value_is_named():
    with pytest.raises(MalformedError, match="note"):
        check_schema({"id": b"ab", "note": "abcd"}, SCHEMA)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (byte_string(2), [b"ab"], [b"a", b"abc", "ab", None, [1, 2]]),
        (bounded_bytes(2), [b"", b"ab"], [b"abc", ""]),
        (integer(0, 5), [0, 5], [-1, 6, True, "1", None, 1.0]),
        (text(2), ["", "ab"], ["abc", b"ab"]),
        (mapping, [{}], [[], None]),
        (list_of(integer(0, 1), 2), [[], [0, 1]], [[0, 0, 0], [2], (0,), b"\0"]),
    ],
)
def test_checks(check, good, bad):
    assert all(check(value) for value in good)
    assert not any(check(value) for value in bad)
