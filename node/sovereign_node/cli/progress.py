"""Progress of long operations on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from sovereign_node.cli.output import console, escape, write_message
from sovereign_node.units import format_count, format_duration, format_rate, format_size

PLAIN_INTERVAL_S = 5.0
RATE_WINDOW_S = 10.0
PATH_CHARACTERS = 60
BAR_CHARACTERS = 28

Timer = Callable[[], float]


class Display(Protocol):
    """Shows the progress of one operation."""

    def update(self, progress: Mapping[str, Any]) -> None:
        """Take the newest state; missing keys keep their value."""
        ...

    def message(self, text: str) -> None:
        """Show a line that stays."""
        ...


class RateMeter:
    """Rate over the last seconds and the time that the rest will take.

    Args:
        timer: monotonic seconds.
    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, bytes_done: int) -> None:
        """Record that ``bytes_done`` bytes are done in all."""
        now = self._timer()
        if self._samples and bytes_done < self._samples[-1][1]:
            self._samples.clear()  # the next project began to count anew
        self._samples.append((now, bytes_done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    def bytes_per_s(self) -> float:
        """Return the rate, 0 while it is unknown."""
        if len(self._samples) < 2:
            return 0.0
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else 0.0

    def remaining_s(self, bytes_left: int) -> float | None:
        """Return the seconds that ``bytes_left`` will take, or None while that is unknown."""
        rate = self.bytes_per_s()
        return bytes_left / rate if rate > 0 else None


class ProgressState:
    """Newest progress of an operation and its texts.

    Args:
        verb: what is going on, for example ``backing up``.
        timer: monotonic seconds.
    """

    def __init__(self, verb: str, timer: Timer) -> None:
        self.verb = verb
        self._rate = RateMeter(timer)
        self._values: dict[str, Any] = {}

    def update(self, progress: Mapping[str, Any]) -> None:
        """Take in new values."""
        self._values.update(progress)
        self._rate.add(self.number("bytes_done"))

    def number(self, name: str) -> int:
        """Return a counter, 0 if the node has not sent it."""
        return int(self._values.get(name) or 0)

    @property
    def phase(self) -> str:
        """The phase that the node names, or the verb."""
        return escape(str(self._values.get("phase") or self.verb))

    @property
    def fraction(self) -> float | None:
        """Part that is done, 0 to 1, or None while the total is unknown."""
        total = self.number("bytes_total")
        return min(1.0, self.number("bytes_done") / total) if total else None

    @property
    def path(self) -> str:
        """The file at work, shortened from its beginning."""
        path = escape(str(self._values.get("current_path") or ""))
        return path if len(path) <= PATH_CHARACTERS else "…" + path[1 - PATH_CHARACTERS :]

    def amounts(self) -> str:
        """Return bytes, files, rate and time left, as far as known."""
        done, total = self.number("bytes_done"), self.number("bytes_total")
        texts = (
            [f"{format_size(done)} of {format_size(total)}" if total else format_size(done)]
            if done or total
            else []
        )
        if self.number("chunks_done"):
            texts.append(format_count(self.number("chunks_done"), "chunk"))
        files, all_files = self.number("files_done"), self.number("files_total")
        if files or all_files:
            texts.append(
                f"{files:,} of {format_count(all_files, 'file')}" if all_files else format_count(files, "file")
            )
        rate = self._rate.bytes_per_s()
        if rate > 0:
            texts.append(format_rate(rate))
        left = self._rate.remaining_s(total - done) if total > done else None
        if left is not None:
            texts.append(f"{format_duration(left)} left")
        return ", ".join(texts)

    def savings(self) -> str:
        """Return what was sent and what deduplication and compression saved; empty if nothing."""
        names = (
            ("bytes_sent", "sent"),
            ("dedup_saved_bytes", "saved by deduplication"),
            ("compression_saved_bytes", "saved by compression"),
        )
        return ", ".join(f"{format_size(self.number(name))} {text}" for name, text in names if self.number(name))


class SilentDisplay:
    """Shows nothing."""

    def update(self, progress: Mapping[str, Any]) -> None:
        """Ignore progress."""

    def message(self, text: str) -> None:
        """Ignore messages."""


class PlainDisplay:
    """Writes a line when the phase changes and every few seconds, for logs and pipes.

    Args:
        verb: what is going on.
        timer: monotonic seconds.
    """

    def __init__(self, verb: str, timer: Timer) -> None:
        self._state = ProgressState(verb, timer)
        self._timer = timer
        self._last_line_at = timer()
        self._last_phase = ""

    def update(self, progress: Mapping[str, Any]) -> None:
        """Write a line if one is due."""
        self._state.update(progress)
        now = self._timer()
        phase = self._state.phase
        if phase == self._last_phase and now - self._last_line_at < PLAIN_INTERVAL_S:
            return
        details = ", ".join(text for text in (self._state.amounts(), self._state.savings()) if text)
        if details:
            self._last_phase, self._last_line_at = phase, now
            write_message(f"{phase}: {details}")

    def message(self, text: str) -> None:
        """Write a line."""
        write_message(text)


class LiveDisplay:
    """Draws a bar and two lines that follow the operation.

    Args:
        verb: what is going on.
        timer: monotonic seconds.
    """

    def __init__(self, verb: str, timer: Timer) -> None:
        from rich.live import Live

        self._state = ProgressState(verb, timer)
        self.live = Live(
            get_renderable=self._render, console=console(stderr=True), refresh_per_second=8, transient=True
        )

    def update(self, progress: Mapping[str, Any]) -> None:
        """Take the newest state; the next refresh draws it."""
        self._state.update(progress)

    def message(self, text: str) -> None:
        """Write a line above the bar."""
        self.live.console.print(text)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        fraction = self._state.fraction
        bar = ProgressBar(total=1.0, completed=fraction or 0.0, width=BAR_CHARACTERS, pulse=fraction is None)
        head = Table.grid(padding=(0, 1))
        percent = "" if fraction is None else f"{fraction:4.0%}"
        head.add_row(Text(self._state.phase, style="bold"), bar, percent, self._state.amounts())
        lines = [text for text in (self._state.savings(), self._state.path) if text]
        return Group(head, *(Text(f"  {line}", style="dim", no_wrap=True) for line in lines))


@contextmanager
def open_display(verb: str, *, quiet: bool, timer: Timer = time.monotonic) -> Iterator[Display]:
    """Show the progress of an operation while the block runs.

    Args:
        verb: what is going on, for example ``backing up``.
        quiet: show nothing.
        timer: monotonic seconds.
    """
    if quiet:
        yield SilentDisplay()
    elif sys.stderr.isatty():
        display = LiveDisplay(verb, timer)
        with display.live:
            yield display
    else:
        yield PlainDisplay(verb, timer)
