"""Reading secrets: from a file, from a command or from the terminal; never from arguments or the environment."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sovereign_node.cli.output import escape, write_message
from sovereign_node.errors import ExitCode, NodeError

MAX_SECRET_BYTES = 4096
REFUSED_VARIABLES = ("SOVEREIGN_PASSPHRASE", "SOVEREIGN_PASSWORD", "SOVEREIGN_KIT")
HOW_TO_GIVE = "use --passphrase-file FILE or --passphrase-command CMD, or run it in a terminal"


def read_passphrase(file: Path | None, command: str | None, *, new: bool, purpose: str) -> str:
    """Return the passphrase that the options name, or ask for it.

    Args:
        file: its first line is the passphrase.
        command: its first line of output is the passphrase.
        new: ask twice and compare.
        purpose: what it is for, in the prompt.

    Raises:
        NodeError: no way to get one, an empty one, or two that differ.
    """
    warn_about_environment()
    if file is not None and command is not None:
        raise _usage("give only one of --passphrase-file and --passphrase-command", "leave one out")
    if file is not None:
        return _from_file(file)
    if command is not None:
        return _from_command(command)
    if not sys.stdin.isatty():
        raise NodeError("passphrase_needed", "a passphrase is needed", HOW_TO_GIVE, ExitCode.USAGE)
    return _from_terminal(purpose, new=new)


def passphrase_source(file: Path | None, command: str | None) -> Callable[[], str] | None:
    """Return how to read the passphrase again whenever it is needed, None if no option says how.

    Raises:
        NodeError: both options are given, or it cannot be read now.
    """
    if file is None and command is None:
        return None

    def read() -> str:
        return read_passphrase(file, command, new=False, purpose="Passphrase")

    # A mistake is told now, not in ten months.
    read()
    return read


def warn_about_environment() -> None:
    """Say that secrets in the environment are not used, because other programs can read them there."""
    for name in REFUSED_VARIABLES:
        if name in os.environ:
            write_message(f"{name} is ignored: secrets are not read from the environment; {HOW_TO_GIVE}")


def warn_about_readers(path: Path) -> None:
    """Say that others can read the secret in ``path``, if they can."""
    if path.is_file() and path.stat().st_mode & 0o044:
        write_message(f"note: others can read {escape(str(path))}; run: chmod 600 {escape(shlex.quote(str(path)))}")


def read_secret_file(path: Path, max_bytes: int = MAX_SECRET_BYTES) -> bytes:
    """Return the content of a small file.

    Args:
        path: the file.
        max_bytes: a longer one is refused.

    Raises:
        NodeError: it cannot be read or is no secret's size.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise _usage(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    if len(content) > max_bytes:
        raise _usage(f"{path} is longer than {max_bytes} bytes", "check that it is the right file")
    warn_about_readers(path)
    return content


def _from_file(path: Path) -> str:
    return _first_line(read_secret_file(path), f"the first line of {path}")


def _from_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _usage(f"--passphrase-command is not a command: {error}", "check its quotes") from error
    if not words:
        raise _usage("--passphrase-command is empty", "name a program that prints the passphrase")
    try:
        # Standard input and error stay those of the terminal: password managers ask there.
        finished = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise _usage(f"{words[0]} cannot be run: {error.strerror}", "check --passphrase-command") from error
    if finished.returncode != 0:
        raise NodeError(
            "passphrase_command_failed",
            f"{words[0]} ended with exit code {finished.returncode}",
            "run the command by itself to see why",
            ExitCode.CANNOT_UNLOCK,
        )
    return _first_line(finished.stdout[: MAX_SECRET_BYTES + 1], f"the first line that {words[0]} printed")


def _first_line(content: bytes, source: str) -> str:
    line = content.split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        passphrase = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _usage(f"{source} is not UTF-8", "write the passphrase as UTF-8 text") from error
    return _not_empty(passphrase, source)


def _from_terminal(purpose: str, *, new: bool) -> str:
    passphrase = _not_empty(getpass.getpass(f"{purpose}: "), "the passphrase")
    if new and getpass.getpass("The same once more: ") != passphrase:
        raise _usage("the two passphrases differ", "run the command again")
    return passphrase


def _not_empty(passphrase: str, source: str) -> str:
    if not passphrase:
        raise _usage(f"{source} is empty", "choose a passphrase of several words")
    return passphrase


def _usage(message: str, hint: str) -> NodeError:
    return NodeError("bad_passphrase_source", message, hint, ExitCode.USAGE)
