"""Values of options and arguments without Pydantic."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from sovereign_node.cli.coercion import converter_for
from sovereign_node.cli.reference import commands


class Colour(Enum):
    """Some choices."""

    RED = "red"
    BLUE = "blue"


def coerce(kind: Any, value: Any, *, repeated: bool = False, **info: Any) -> Any:
    details = SimpleNamespace(**{"parser": None, "min": None, "max": None, **info})
    converter = converter_for(kind, details)
    assert converter is not None
    return converter.coerce(value, SimpleNamespace(multiple=repeated, nargs=1), None)


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (str, "x", "x"),
        (Path, "a/b", Path("a/b")),
        (int, "12", 12),
        (int, "-3", -3),
        (Colour, "red", Colour.RED),
        (Colour, Colour.BLUE, Colour.BLUE),
        (bool, True, True),
        (str, None, None),
    ],
)
def test_values(kind: Any, word: Any, value: Any) -> None:
    assert coerce(kind, word) == value


def test_repeated_values() -> None:
    assert coerce(list[str], ["a", "b"], repeated=True) == ("a", "b")
    assert coerce(list[str], None, repeated=True) == ()


def test_a_parser_comes_first() -> None:
    assert coerce(int, "abc", parser=len) == 3


@pytest.mark.parametrize(
    ("kind", "word", "message"),
    [
        (int, "x", "'x' is not a whole number"),
        (int, "1.5", "is not a whole number"),
        (int, "9" * 30, "is not a whole number"),
        (int, "0", "0 is too small: it must be at least 1"),
        (int, "11", "11 is too large: it must be at most 10"),
        (Colour, "green", "'green' is unknown: it must be one of red, blue"),
    ],
)
def test_wrong_values(kind: Any, word: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        coerce(kind, word, min=1, max=10)


def test_other_kinds_are_left_to_typer() -> None:
    assert converter_for(float, SimpleNamespace(parser=None)) is None


def test_every_parameter_of_every_command_has_a_converter() -> None:
    for path, command in commands():
        for item in command.params:
            descriptor = item.type_descriptor
            assert converter_for(descriptor.annotation, descriptor.parameter_info), (path, item.name)
