"""What the parts of the benchmark hand in: figures as tables, and bars that are met or missed."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Bar:
    """A figure and what it has to reach.

    Args:
        name: what is compared.
        value: measured.
        sign: ``>=`` or ``<=``.
        limit: to be reached.
        unit: of both.
        possible: the best that this machine allows, computed from floors of the same run; None if that is unknown.
    """

    name: str
    value: float
    sign: str
    limit: float
    unit: str = ""
    possible: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure reaches the limit."""
        return self.value >= self.limit if self.sign == ">=" else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return the bar as JSON."""
        limit = f"{self.sign} {self.limit:g}"
        return {
            "name": self.name,
            "value": rounded(self.value),
            "bar": limit,
            "unit": self.unit,
            "met": self.met,
            "possible": rounded(self.possible),
        }


@dataclass(frozen=True)
class Table:
    """Figures that are read together.

    Args:
        title: a sentence without a full stop.
        columns: headings; the first names the row.
        rows: a cell for each column.
        note: how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the table as JSON."""
        rows = [list(map(rounded, row)) for row in self.rows]
        return {"title": self.title, "columns": list(self.columns), "rows": rows, "note": self.note}


@dataclass
class Part:
    """What one part found.

    Args:
        tables: for people.
        bars: what was to be reached.
        data: everything measured, JSON-able.
        skipped: what could not be measured, and why.
    """

    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    data: Any = None
    skipped: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the part as JSON."""
        return {
            "tables": [table.as_json() for table in self.tables],
            "bars": [bar.as_json() for bar in self.bars],
            "skipped": self.skipped,
            "data": self.data,
        }


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        folder: empty, for everything on disk.
        quick: an eighth of the bytes or less, one round.
        full: the sizes that take an hour.
        rounds: how often each way has its turn.
        say: told what is going on.
    """

    folder: Path
    quick: bool
    full: bool
    rounds: int
    say: Any

    def pick(self, quick: int, normal: int) -> int:
        """Return the size that is measured."""
        return quick if self.quick else normal


def rounded(value: Any) -> Any:
    """Keep three digits of small numbers and whole large ones."""
    if not isinstance(value, float):
        return value
    if abs(value) >= 100:
        return round(value)
    return round(value, 1 if abs(value) >= 10 else 3)


def median(values: Iterable[float]) -> float:
    """Return the median of at least one value."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def describe_machine() -> dict[str, Any]:
    """Say on what the figures were measured."""
    model, flags = platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
            elif line.startswith("flags"):
                flags = line.partition(":")[2]
    except OSError:
        flags = ""
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "sha_extensions": "sha_ni" in flags.split(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def load_average() -> float:
    """Return the load of the last minute; above the number of cores, times are those of a shared machine."""
    return round(os.getloadavg()[0], 2)
