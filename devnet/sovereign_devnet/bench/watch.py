"""Processor time and peak memory of processes, as the kernel counts them in /proc."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Written to clear_refs, this sets the peak of a process back to what it holds now.
_RESET_PEAK = "5"
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Sample:
    """What one action took.

    Args:
        seconds: from start to end.
        cpu_s: of each process that took part.
        peak_rss_mb: of each process, MB (10^6 bytes).
        sent_bytes: what went to the other side, if known.
    """

    seconds: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: dict[str, float] = field(default_factory=dict)
    sent_bytes: int = 0

    @property
    def all_cpu_s(self) -> float:
        """Processor time of all processes together."""
        return sum(self.cpu_s.values())

    def as_json(self) -> dict[str, Any]:
        """Return the sample as JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "cpu_s": {name: round(value, 2) for name, value in self.cpu_s.items()},
            "peak_rss_mb": {name: round(value, 1) for name, value in self.peak_rss_mb.items()},
            "sent_bytes": self.sent_bytes,
        }


class Stopwatch:
    """Measures running processes, and children of this one that end meanwhile, between start and stop.

    Args:
        processes: process ids by name.
        child: what to call children that are started and waited for in between.
    """

    def __init__(self, processes: Mapping[str, int], child: str = "") -> None:
        self._processes = dict(processes)
        self._child = child
        self._cpu_s: dict[str, float] = {}
        self._child_cpu_s = 0.0
        self._started = 0.0

    def start(self) -> Stopwatch:
        """Begin; peaks of the processes are counted anew."""
        for name, pid in self._processes.items():
            reset_peak(pid)
            self._cpu_s[name] = cpu_seconds(pid)
        self._child_cpu_s = _children_cpu_s()
        self._started = time.perf_counter()
        return self

    def stop(self, sent_bytes: int = 0, child_peak_mb: float | None = None) -> Sample:
        """End and return what was used."""
        seconds = time.perf_counter() - self._started
        cpu_s = {name: cpu_seconds(pid) - self._cpu_s[name] for name, pid in self._processes.items()}
        peaks = {name: peak_rss_mb(pid) for name, pid in self._processes.items()}
        if self._child:
            cpu_s[self._child] = _children_cpu_s() - self._child_cpu_s
            if child_peak_mb is not None:
                peaks[self._child] = child_peak_mb
        return Sample(seconds, cpu_s, peaks, sent_bytes)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process with all of its threads."""
    # The name of a process may hold blanks and parentheses; the fields after the last parenthesis may not.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def reset_peak(pid: int) -> None:
    """Count the peak of a process from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, "ascii")


def peak_rss_mb(pid: int) -> float:
    """Return the highest resident size since the start or the last reset."""
    return _status_mb(pid, "VmHWM:")


def rss_mb(pid: int) -> float:
    """Return the resident size."""
    return _status_mb(pid, "VmRSS:")


def run_measured(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> tuple[float, float, float, bytes]:
    """Run a program to its end.

    Args:
        arguments: command line.
        environment: all of it.
        folder: to run in.

    Returns:
        Seconds, seconds of processor time, peak MB, and standard output.

    Raises:
        RuntimeError: it failed; the message has the end of what it printed.
    """
    read_end, write_end = os.pipe()
    action = (os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)
    started = time.perf_counter()
    words = list(arguments) if folder is None else ["/usr/bin/env", "-C", str(folder), *arguments]
    pid = os.posix_spawnp(words[0], words, dict(environment), file_actions=action)
    os.close(write_end)
    peak = _PeakWatch(pid)
    with os.fdopen(read_end, "rb") as pipe:
        output = pipe.read()
    peak_mb = peak.stop()
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(arguments)} failed: {output[-2000:].decode('utf-8', 'replace')}")
    return seconds, used.ru_utime + used.ru_stime, peak_mb, output


class _PeakWatch:
    """Looks at the peak of a process until its output ends.

    What the kernel reports at the end of a process contains the size of this one, from which it was started.

    Args:
        pid: of a child that was not waited for yet.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak_mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            # A process that has ended and was not waited for has no memory any more.
            with suppress(ProcessLookupError):
                self._peak_mb = max(self._peak_mb, peak_rss_mb(self._pid))

    def stop(self) -> float:
        """Return the highest figure seen."""
        self._ended.set()
        self._thread.join()
        return self._peak_mb


def _status_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)
