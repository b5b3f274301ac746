"""Errors of test networks."""

from __future__ import annotations

from typing import Any


class DevnetError(Exception):
    """A test network cannot do what it was asked for; the message says why."""


class CommandError(DevnetError):
    """A ``sovereign`` command failed.

    Args:
        words: the command line after the program's name.
        exit_code: of the command.
        error: what it printed as the error document, empty if nothing could be parsed.
        stderr: its messages.
    """

    def __init__(self, words: tuple[str, ...], exit_code: int, error: dict[str, Any], stderr: str) -> None:
        said = error.get("message") or stderr.strip()[-2000:]
        super().__init__(f"sovereign {' '.join(words)} ended with exit code {exit_code}: {said}")
        self.words = words
        self.exit_code = exit_code
        self.code = str(error.get("code", ""))
        self.message = str(error.get("message", ""))
        self.hint = str(error.get("hint", ""))
        self.stderr = stderr
