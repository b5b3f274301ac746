"""Showing, writing and reading a recovery kit: groups of characters, a QR code, or a file for the owner alone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sovereign_node.cli.drawing import Screen
from sovereign_node.cli.output import escape, styled, write_message
from sovereign_node.cli.passphrase import read_secret_file, warn_about_environment
from sovereign_node.datadir import sync_directory
from sovereign_node.errors import ExitCode, NodeError

if TYPE_CHECKING:
    from sovereign_crypto.recovery import KitHints, RecoveryKit

GROUPS_PER_LINE = 5
MAX_KIT_FILE_BYTES = 256 * 1024


class KitFile:
    """A kit file that is made before the identity, so that a kit that cannot be written is noticed in time.

    Args:
        path: where; must not exist.

    Raises:
        NodeError: it exists or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            _remove_if_empty(self.path)
            self._descriptor = os.open(self.path, flags, 0o600)
        except FileExistsError as error:
            raise _usage(f"{path} exists already", "name a new file: a kit never replaces another") from error
        except OSError as error:
            raise _usage(f"{path} cannot be written: {error.strerror}", "name a file that you can write") from error

    def write(self, kit_text: str) -> None:
        """Write the kit durably.

        Raises:
            OSError: the file system refused.
        """
        with os.fdopen(self._descriptor, "w", encoding="utf-8") as file:
            file.write(kit_text)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the file, because there is no identity."""
        with contextlib.suppress(OSError):
            # Writing closes it, also when it fails.
            os.close(self._descriptor)
        self.path.unlink(missing_ok=True)


def _remove_if_empty(path: Path) -> None:
    """Remove what an interrupted attempt left; a kit never lies in an empty file."""
    if path.is_file() and not path.is_symlink() and path.stat().st_size == 0:
        path.unlink()


def in_lines(groups_text: str) -> str:
    """Return the groups of a kit in lines that are easy to copy by hand."""
    groups = groups_text.split()
    rows = [groups[start : start + GROUPS_PER_LINE] for start in range(0, len(groups), GROUPS_PER_LINE)]
    return "\n".join("  ".join(row) for row in rows)


def show_kit(groups_text: str, qr_payload: str, *, with_qr: bool) -> None:
    """Show the kit on standard error, which is the terminal; standard output may go to a log."""
    for line in styled("Your recovery kit", "bold").draw(Screen.of(sys.stderr)):
        write_message(line)
    write_message("It is the only way back when every device is lost. Write it down or print it; it is shown once.")
    write_message(f"\n{in_lines(groups_text)}\n")
    if with_qr:
        write_message(qr_text(qr_payload))


def qr_text(payload: str) -> str:
    """Return a QR code drawn with half blocks."""
    import segno

    drawing = io.StringIO()
    segno.make(payload, error="m").terminal(out=drawing, compact=True)
    return drawing.getvalue()


def ask_again(kit: RecoveryKit) -> bool:
    """Let the user type the kit once to prove that it was saved.

    Returns:
        True if it was typed correctly, False if the user skipped it.
    """
    while True:
        typed = ask_for_kit("Type it once to prove that you saved it, or press Enter to do it later.")
        if not typed:
            return False
        try:
            if parse_kit(typed)[0].secret == kit.secret:
                return True
            write_message("This is another kit.")
        except NodeError as error:
            write_message(escape(error.message))


def ask_for_kit(prompt: str) -> str:
    """Read a kit from the terminal; it may span several lines, an empty line ends it."""
    write_message(f"{prompt} (An empty line ends it.)")
    lines: list[str] = []
    while line := sys.stdin.readline().strip():
        lines.append(line)
    return " ".join(lines)


def read_kit_text(file: Path | None) -> str:
    """Return the text of a kit from ``file`` or from the terminal.

    Raises:
        NodeError: there is no file, no terminal, or nothing in it.
    """
    warn_about_environment()
    if file is not None:
        text = read_secret_file(file, MAX_KIT_FILE_BYTES).decode("utf-8", errors="replace")
    elif sys.stdin.isatty():
        text = ask_for_kit("Type the groups of your recovery kit.")
    else:
        raise _usage("a recovery kit is needed", "use --kit-file FILE, or run it in a terminal")
    if not text.strip():
        raise _usage("there is no recovery kit in it", "give the groups that `sovereign init` showed or wrote")
    return text


def parse_kit(text: str) -> tuple[RecoveryKit, KitHints]:
    """Return the kit in a kit file or in typed groups.

    Raises:
        NodeError: it is not a kit; the message names the groups that look wrong.
    """
    from sovereign_crypto.errors import CryptoError
    from sovereign_crypto.recovery import parse_kit_file

    try:
        return parse_kit_file(text)
    except CryptoError as error:
        hint = "compare it with the paper or the file, group by group"
        raise NodeError("invalid_kit", str(error), hint, ExitCode.CANNOT_UNLOCK) from error


def _usage(message: str, hint: str) -> NodeError:
    return NodeError("bad_kit_source", message, hint, ExitCode.USAGE)
