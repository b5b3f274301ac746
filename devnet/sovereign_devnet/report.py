"""What a story did and found: steps with their times, checks, figures; as JSON or for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

MAX_DETAILS = 10


@dataclass
class Step:
    """Something that was done.

    Args:
        title: in words.
        seconds: it took.
        detail: what came of it.
    """

    title: str
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Check:
    """Something that had to be so.

    Args:
        claim: in words.
        ok: True if it was.
        details: what was wrong, one line each.
    """

    claim: str
    ok: bool
    details: tuple[str, ...] = ()


@dataclass
class Report:
    """Collects what happens.

    Args:
        on_event: told every step and check as soon as it is over.
    """

    on_event: Callable[[Step | Check], None] = lambda _event: None
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    @property
    def ok(self) -> bool:
        """True if there were checks and none failed."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time the block; it may fill in ``detail``."""
        step = Step(title)
        started = time.monotonic()
        try:
            yield step
        finally:
            step.seconds = round(time.monotonic() - started, 3)
            self.steps.append(step)
            self.on_event(step)

    def check(self, claim: str, wrong: bool | Sequence[str]) -> None:
        """Note a check.

        Args:
            claim: what should be so.
            wrong: False or no lines if it is.
        """
        details = () if isinstance(wrong, bool) else tuple(wrong[:MAX_DETAILS])
        check = Check(claim, not wrong, details)
        self.checks.append(check)
        self.on_event(check)

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "ok": self.ok,
            "steps": [asdict(step) for step in self.steps],
            "checks": [asdict(check) for check in self.checks],
            "figures": self.figures,
            "folder": self.folder,
        }


def show_event(console: Console, event: Step | Check) -> None:
    """Print a step or a check as one line and what was wrong."""
    from rich.markup import escape

    if isinstance(event, Step):
        detail = f"  [dim]{escape(event.detail)}[/]" if event.detail else ""
        console.print(f"[cyan]{event.seconds:7.2f} s[/]  {escape(event.title)}{detail}")
        return
    mark = "[bold green]    ok[/]" if event.ok else "[bold red]FAILED[/]"
    console.print(f"   {mark}  {escape(event.claim)}")
    for line in event.details:
        console.print(f"              [red]{escape(line)}[/]")


def show_summary(console: Console, report: Report) -> None:
    """Print the figures and the verdict."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in report.figures.items():
        table.add_row(escape(name.replace("_", " ")), escape(str(value)))
    console.print()
    console.print(table)
    console.print()
    failed = sum(not check.ok for check in report.checks)
    if report.ok:
        console.print(f"[bold green]All {len(report.checks)} checks passed.[/]")
    else:
        console.print(f"[bold red]{failed} of {len(report.checks)} checks failed.[/]")
    if report.folder:
        console.print(f"Everything is kept in {escape(report.folder)}")
