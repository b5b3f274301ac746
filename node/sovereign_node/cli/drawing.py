"""Styled text and tables without frames, drawn with the standard library alone.

Rich draws the same, but its import takes a third of the time of a short command; only live progress uses it.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TextIO

PIPE_WIDTH = 240  # columns when the output is not a terminal, so that scripts see whole cells
_GAP = "  "
_LONGEST_WHOLE_WORD = 24  # longer ones, such as paths and addresses, may be broken anywhere
_LEAST_LISTED = 4  # columns of a table that becomes a list rather than break words
_MIN_COLUMN_WIDTH = 4
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_RESET = "\x1b[0m"


@dataclass(frozen=True)
class Screen:
    """What is known about the place where text goes.

    Args:
        width: columns.
        colour: whether it understands styles.
    """

    width: int
    colour: bool

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """Look at a stream: a terminal gets styles, unless the user has asked for none."""
        if not stream.isatty():
            return cls(PIPE_WIDTH, False)
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        return cls(shutil.get_terminal_size().columns, not plain)


@dataclass(frozen=True)
class Text:
    """Text in one style.

    Args:
        text: lines, safe for a terminal.
        style: any of bold, dim, red, green and yellow, with blanks between.
    """

    text: str
    style: str = ""

    @property
    def width(self) -> int:
        """Columns of the longest line."""
        return max(map(width_of, self.text.split("\n")))

    def draw(self, screen: Screen) -> Iterator[str]:
        """Give the lines; a terminal breaks long ones by itself."""
        for line in self.text.split("\n"):
            yield _paint(line, self.style, screen)


@dataclass(frozen=True)
class Column:
    """How the cells of a column stand.

    Args:
        heading: above them.
        right: whether they end at one line instead of beginning there.
        whole: whether they are never broken, because people copy them.
        style: of every cell without a style of its own.
    """

    heading: str = ""
    right: bool = False
    whole: bool = False
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """A table without frames.

    Args:
        columns: from left to right.
        rows: cells, as many as there are columns.
        has_headings: whether a line of headings comes first.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    has_headings: bool = True

    def draw(self, screen: Screen) -> Iterator[str]:
        """Give the lines; cells that do not fit go on in the line below, whole tables that do not become lists."""
        rows = list(self.rows)
        if self.has_headings:
            rows.insert(0, [Text(column.heading, "bold") for column in self.columns])
        places = range(len(self.columns))
        room = screen.width - len(_GAP) * (len(self.columns) - 1)
        least = [max((self._least(place, row[place]) for row in rows), default=0) for place in places]
        if sum(least) > room:
            if self.has_headings and len(self.columns) >= _LEAST_LISTED:
                yield from self._draw_list(screen)
                return
            least = [
                width if self.columns[place].whole else min(width, _MIN_COLUMN_WIDTH)
                for place, width in enumerate(least)
            ]
        widths = _fit([max((row[place].width for row in rows), default=0) for place in places], least, room)
        for row in rows:
            folded = [_fold(row[place].text, widths[place]) for place in places]
            for lines in zip_longest(*folded, fillvalue=""):
                cells = [self._place(lines[place], place, row[place], widths[place], screen) for place in places]
                yield _GAP.join(cells).rstrip()

    def _place(self, line: str, place: int, cell: Text, width: int, screen: Screen) -> str:
        column = self.columns[place]
        padding = " " * (width - width_of(line))
        painted = _paint(line, cell.style or column.style, screen)
        if column.right:
            return padding + painted
        return painted + padding

    def _least(self, place: int, cell: Text) -> int:
        """Return how narrow a cell may become: as wide as its longest word, if that is none of the very long."""
        if self.columns[place].whole:
            return cell.width
        return min(_LONGEST_WHOLE_WORD, max(map(width_of, cell.text.split()), default=0))

    def _draw_list(self, screen: Screen) -> Iterator[str]:
        """Give each row as lines of its own, one for each cell, with an empty line between two rows."""
        columns = (Column(whole=True, style="dim"), Column())
        for number, row in enumerate(self.rows):
            if number:
                yield ""
            cells = [(Text(column.heading), cell) for column, cell in zip(self.columns, row, strict=True)]
            yield from Grid(columns, cells, has_headings=False).draw(screen)


def _fit(widths: list[int], least: list[int], room: int) -> list[int]:
    """Narrow the widest columns until a line fits, or nothing can be narrowed any more."""
    while sum(widths) > room:
        breakable = [place for place, width in enumerate(widths) if width > least[place]]
        if not breakable:
            break
        widths[max(breakable, key=lambda place: widths[place])] -= 1
    return widths


def width_of(line: str) -> int:
    """Return how many columns a line takes in a terminal."""
    if line.isascii():
        return len(line)
    return sum(map(_width_of_character, line))


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _fold(text: str, width: int) -> list[str]:
    """Break lines that are longer than `width`, after a blank where there is one."""
    return [piece for line in text.split("\n") for piece in _fold_line(line, width)]


def _fold_line(line: str, width: int) -> Iterator[str]:
    while width_of(line) > width:
        end = taken = 0
        for character in line:
            taken += _width_of_character(character)
            if taken > width and end:
                break
            end += 1
        blank = line.rfind(" ", 0, end + 1)
        cut = blank if blank > 0 else end
        yield line[:cut]
        line = line[cut:].lstrip(" ")
    yield line


def _paint(line: str, style: str, screen: Screen) -> str:
    if not (style and line and screen.colour):
        return line
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{line}{_RESET}"
