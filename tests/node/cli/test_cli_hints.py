"""Commands that hints of the node tell people to type exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import sovereign_node
from sovereign_node.cli.reference import commands

SOURCES = sorted(Path(sovereign_node.__file__).parent.rglob("*.py"))
# In a hint a command stands in backticks, after "with: " or alone.
COMMAND = re.compile(r"(?:^|`|: )sovereign ([a-z]+(?: [a-z]+){0,2})")


def texts(path: Path) -> Iterator[str]:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value


def fits(words: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Tell whether the words begin with a command, or are those of a group."""
    return words[: len(name)] == name or name[: len(words)] == words


def test_hints_name_commands_that_exist() -> None:
    known = {path.removeprefix("sovereign ") for path, _ in commands()}
    words_of_known = {tuple(name.split()) for name in known}
    seen = 0
    for path in SOURCES:
        for text in texts(path):
            for found in COMMAND.finditer(text):
                words = tuple(found[1].split())
                if words == ("network",):  # the name of the network, not a command
                    continue
                seen += 1
                assert any(fits(words, name) for name in words_of_known), (path.name, found[0])
    assert seen > 20
