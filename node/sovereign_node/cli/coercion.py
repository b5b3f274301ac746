"""Turning words of the command line into values without Pydantic.

Typer 0.29 builds a Pydantic adapter for every parameter of the command that runs, also for those that are not
given; importing Pydantic for that takes longer than all the rest of ``sovereign status``. Commands of this class
bring their own few conversions instead. If a later Typer no longer asks the parameter for its converter, commands
still work, only slower, and a test tells.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup


class PlainConverter:
    """Converts the values of one parameter; has the one method of Typer's converters that is used.

    Args:
        convert: turns one word into a value, or raises ValueError with a sentence.
    """

    def __init__(self, convert: Callable[[str], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of ``param``.

        Raises:
            BadParameter: a word cannot be converted.
        """
        repeated = param.multiple or param.nargs == -1
        if value is None:
            return () if repeated else None
        try:
            return tuple(map(self._one, value)) if repeated else self._one(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from error

    def _one(self, value: Any) -> Any:
        return self._convert(value) if isinstance(value, str) else value


def converter_for(annotation: Any, info: Any) -> PlainConverter | None:
    """Return the converter of a parameter, or None if Typer's own is needed.

    Args:
        annotation: its type, without ``| None``.
        info: its Typer option or argument.
    """
    if info.parser is not None:
        return PlainConverter(info.parser)
    kind = get_args(annotation)[0] if get_origin(annotation) is list else annotation
    if kind is str or kind is Path or kind is bool:
        return PlainConverter(kind)
    if kind is int:
        return PlainConverter(lambda word: _whole_number(word, info.min, info.max))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return PlainConverter(lambda word: _choice(word, kind))
    return None


def _whole_number(word: str, least: float | None, most: float | None) -> int:
    if not word.removeprefix("-").isdecimal() or len(word) > 18:
        raise ValueError(f"{word!r} is not a whole number")
    number = int(word)
    if least is not None and number < least:
        raise ValueError(f"{number} is too small: it must be at least {least:.0f}")
    if most is not None and number > most:
        raise ValueError(f"{number} is too large: it must be at most {most:.0f}")
    return number


def _choice(word: str, kind: type[Enum]) -> Enum:
    try:
        return kind(word)
    except ValueError:
        known = ", ".join(str(item.value) for item in kind)
        raise ValueError(f"{word!r} is unknown: it must be one of {known}") from None


def _bring_converters(parameters: Any) -> None:
    for parameter in parameters:
        descriptor = parameter.type_descriptor
        parameter._runtime_param = converter_for(descriptor.annotation, descriptor.parameter_info)


class PlainCommand(TyperCommand):
    """A command whose values are converted without Pydantic."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Convert the words of this command; see the module."""
        _bring_converters(self.get_params(ctx))
        return super().parse_args(ctx, args)


class PlainGroup(TyperGroup):
    """A group of commands whose own values are converted without Pydantic."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Convert the words before the command; see the module."""
        _bring_converters(self.get_params(ctx))
        return super().parse_args(ctx, args)
