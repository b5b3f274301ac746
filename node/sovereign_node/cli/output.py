"""Writing results and messages: JSON documents, plain lines and tables that are safe to show in a terminal.

Only live progress imports Rich; everything else is drawn by `sovereign_node.cli.drawing`, which starts faster.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sovereign_node.cli.drawing import PIPE_WIDTH, Column, Grid, Screen, Text
from sovereign_node.errors import NodeError

if TYPE_CHECKING:
    from rich.console import Console

Part = str | Text | Grid
"""A line, or what is drawn."""
Cell = str | tuple[str, str] | list[str]
"""One cell: text, text with a style, or lines."""

ID_CHARACTERS = 12
PEER_ID_CHARACTERS = 16  # the first 8 characters of every Ed25519 peer id are the same


def escape(text: str) -> str:
    r"""Return ``text`` with every character that could steer a terminal or reverse the line written as ``\xNN``.

    File and peer names come from others; control characters, bidirectional overrides and bytes that are not UTF-8
    must not reach the terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _spell(char) for char in text)


def _is_harmless(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _spell(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, carried by surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def short_id(text: str) -> str:
    """Return the beginning of an id, long enough to be used as a prefix."""
    return text[: PEER_ID_CHARACTERS if text.startswith("12D3Koo") else ID_CHARACTERS]


def write_json(document: Any) -> None:
    """Write one JSON document to standard output; ASCII, so that no name can steer the terminal."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def write_message(text: str) -> None:
    """Write a line to standard error; the caller escapes what others wrote."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_error(error: NodeError, *, as_json: bool) -> None:
    """Tell what went wrong and what to do next, to people and, with ``as_json``, to programs."""
    if as_json:
        details = {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "exit_code": int(error.exit_code),
        }
        write_json({"error": details})
    write_message(f"sovereign: {escape(error.message)}")
    if error.hint:
        write_message(f"  {escape(error.hint)}")


def write_result(parts: Iterable[Part]) -> None:
    """Write lines and what is to be drawn to standard output."""
    screen = Screen.of(sys.stdout)
    for part in parts:
        lines = [part] if isinstance(part, str) else part.draw(screen)
        sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows text as it is: no markup, no emoji codes, no guessed colours."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width)


def styled(text: str, style: str) -> Text:
    """Return text in a style such as ``bold red``."""
    return Text(escape(text), style)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Grid:
    """Return a table without frames.

    Args:
        columns: headings; one that starts with ``>`` is right-aligned, and one that starts with ``!`` holds ids,
            which are never shortened, because people copy them.
        rows: cells, as many as there are columns.
    """
    heads = [Column(name.lstrip(">!"), right=name.startswith(">"), whole=name.startswith("!")) for name in columns]
    return Grid(heads, [[_draw(cell) for cell in row] for row in rows])


def facts(pairs: Iterable[tuple[str, Cell]]) -> Grid:
    """Return names with their values, one pair a line."""
    columns = (Column(whole=True, style="dim"), Column())
    return Grid(columns, [[Text(name), _draw(cell)] for name, cell in pairs], has_headings=False)


def _draw(cell: Cell) -> Text:
    if isinstance(cell, tuple):
        return styled(*cell)
    # Only lines given as such become lines; a line break in somebody's file name is spelled like any control.
    return Text("\n".join(map(escape, [cell] if isinstance(cell, str) else cell)))
