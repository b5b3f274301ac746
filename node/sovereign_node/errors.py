"""Errors of the node and the exit codes that commands end with.

A :class:`NodeError` carries what happened, what to do next, and the exit code; the local API turns it into JSON
and the command line into two sentences, so both say the same.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every ``sovereign`` command (documented in docs/cli.md)."""

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3
    NOT_FOUND = 4
    NOT_RUNNING = 5
    CANNOT_UNLOCK = 6
    UNREACHABLE = 7
    STORAGE_FULL = 8
    DAMAGE_FOUND = 9
    IN_USE = 10
    STATE_TOO_NEW = 11
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "it worked",
    ExitCode.ERROR: "it failed; the message says why",
    ExitCode.USAGE: "the command line is not understood",
    ExitCode.PARTIAL: "it worked, but some files could not be read or written",
    ExitCode.NOT_FOUND: "nothing has that name or id prefix, or more than one thing has",
    ExitCode.NOT_RUNNING: "no node runs on this data directory",
    ExitCode.CANNOT_UNLOCK: "the passphrase or the recovery kit does not unlock",
    ExitCode.UNREACHABLE: "no provider or peer could be reached",
    ExitCode.STORAGE_FULL: "no space: the disk, the provider or the quota of the contract is full",
    ExitCode.DAMAGE_FOUND: "verification found damaged or missing data",
    ExitCode.IN_USE: "the data directory is in use by another node",
    ExitCode.STATE_TOO_NEW: "the data directory was written by a newer version",
    ExitCode.INTERRUPTED: "interrupted by the user",
}


class NodeError(Exception):
    """Something the user can act on.

    Args:
        code: stable snake_case code, the same in the API and in ``--json``.
        message: what happened, one sentence without a full stop.
        hint: what to do next; may be empty.
        exit_code: exit code of the command.
    """

    def __init__(self, code: str, message: str, hint: str = "", exit_code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def not_found(kind: str, name: str, known: str = "") -> NodeError:
    """No ``kind`` (for example "project") goes by ``name``; ``known`` names the command that lists them."""
    hint = f"list them with: {known}" if known else ""
    return NodeError(f"{kind}_not_found", f"no {kind} has the name or id {name!r}", hint, ExitCode.NOT_FOUND)


def ambiguous(kind: str, name: str, matches: list[str]) -> NodeError:
    """More than one ``kind`` starts with ``name``."""
    shown = ", ".join(sorted(matches)[:5])
    return NodeError(
        f"{kind}_ambiguous",
        f"{name!r} fits {len(matches)} {kind}s: {shown}",
        "give more characters of the id",
        ExitCode.NOT_FOUND,
    )
