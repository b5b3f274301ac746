"""Processes of nodes, found through the data directories they run on, never by a program's name alone.

A node writes its process id into ``run/node.lock``. Process ids are reused, so an id counts only while the command
line of that process names the same data directory. Taking the lock to find out would be simpler, but a node that
starts at that very moment would be refused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from sovereign_devnet.errors import DevnetError

POLL_S = 0.02


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for ``condition``.

    Args:
        condition: asked every 20 ms.
        timeout_s: longest wait.
        what: named in the error.

    Raises:
        DevnetError: it did not come true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise DevnetError(f"{what} took longer than {timeout_s:g} s")
        time.sleep(POLL_S)


def running_pid(pid_file: Path, *words: str) -> int | None:
    """Return the process id in a file, None if that process is gone.

    Args:
        pid_file: begins with the id in decimal.
        words: all of them are on the command line of the process that is meant.
    """
    try:
        pid = int(pid_file.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return pid if set(words) <= set(arguments_of(pid)) else None


def arguments_of(pid: int) -> list[str]:
    """Return the command line of a process, empty if it has ended."""
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]
    found = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def request_stop(pid: int) -> None:
    """Ask a process to stop, as Ctrl-C does; ask once, because programs take a second time for impatience."""
    send_signal(pid, signal.SIGINT)
    # A paused process cannot react to anything but SIGKILL.
    send_signal(pid, signal.SIGCONT)


def wait_stopped(is_running: Callable[[], bool], pid: int, timeout_s: float) -> bool:
    """Wait for the end of a process that was asked to stop, and kill it when the time is over.

    Args:
        is_running: tells whether it still runs.
        pid: its process id.
        timeout_s: what it has to stop by itself.

    Returns:
        True if it stopped by itself.
    """
    deadline = time.monotonic() + timeout_s
    while is_running():
        if time.monotonic() > deadline:
            send_signal(pid, signal.SIGKILL)
            wait_until(lambda: not is_running(), 10, f"killing process {pid}")
            return False
        time.sleep(POLL_S)
    return True
