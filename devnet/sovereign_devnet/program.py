"""Runs ``sovereign`` commands as real processes, the way a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign_devnet.errors import CommandError, DevnetError

PROGRAM = (sys.executable, "-m", "sovereign_node.cli.main")
COMMAND_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Finished:
    """What a command gave.

    Args:
        words: the command line after the program's name.
        exit_code: see docs/cli.md.
        document: the JSON document on standard output, None if it printed none.
        stderr: its messages.
        seconds: from start to end.
    """

    words: tuple[str, ...]
    exit_code: int
    document: Any
    stderr: str
    seconds: float

    @property
    def error(self) -> dict[str, Any]:
        """The error document; empty if there is none."""
        found = self.document.get("error") if isinstance(self.document, dict) else None
        return found if isinstance(found, dict) else {}

    def require_success(self) -> Any:
        """Return the document.

        Raises:
            CommandError: the command failed.
        """
        if self.exit_code:
            raise CommandError(self.words, self.exit_code, self.error, self.stderr)
        return self.document


def environment() -> dict[str, str]:
    """Return the environment of node processes: that of the caller, without its data directory and its keyring."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOVEREIGN_")}
    # A test network must never ask the desktop's keyring, and must find nothing there.
    return kept | {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "PYTHONUNBUFFERED": "1"}


def command_line(data_dir: Path, *words: str, as_json: bool = True) -> list[str]:
    """Return the command line of ``sovereign WORDS`` on a data directory."""
    # Options that all commands share may stand before the command, which groups of commands need.
    return [*PROGRAM, "--data-dir", str(data_dir), *(["--json"] if as_json else []), *words]


def start_command(data_dir: Path, *words: str) -> subprocess.Popen[str]:
    """Start ``sovereign WORDS --json`` and return its process, whose output the caller has to read."""
    return subprocess.Popen(
        command_line(data_dir, *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def finish_command(
    process: subprocess.Popen[str], words: tuple[str, ...], timeout_s: float = COMMAND_TIMEOUT_S
) -> Finished:
    """Wait for a started command.

    Args:
        process: from :func:`start_command`.
        words: its command line, for messages.
        timeout_s: longest wait.

    Raises:
        DevnetError: it took too long and was killed.
    """
    started = time.monotonic()
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, stderr = process.communicate()
        said = stderr.strip()[-2000:]
        raise DevnetError(f"sovereign {' '.join(words)} took longer than {timeout_s:g} s: {said}") from None
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Finished(words, process.returncode, _document(stdout), stderr, time.monotonic() - started)


def run_command(data_dir: Path, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
    """Run ``sovereign WORDS --json`` to its end.

    Args:
        data_dir: of the device.
        words: command, arguments and options.
        timeout_s: longest run.

    Raises:
        DevnetError: it took too long and was killed.
    """
    return finish_command(start_command(data_dir, *words), words, timeout_s)


def _document(stdout: str) -> Any:
    try:
        return json.loads(stdout)
    except ValueError:
        return None
