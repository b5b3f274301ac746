"""Entry point of ``sovereign``: runs one command and turns every failure into a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence

import typer
from typer._click.exceptions import NoArgsIsHelpError, NoSuchOption, UsageError
from typer.core import TyperGroup

from sovereign_node.cli.output import write_error
from sovereign_node.errors import ExitCode, NodeError

PROGRAM = "sovereign"
# Commands that are the only ones in the module of their name.
_QUICK_COMMANDS = ("status", "backup", "up", "down")
_SHARED_FLAGS = ("--json", "--quiet", "-q")
_SECRET_OPTIONS = ("--passphrase", "--password", "--kit", "--secret")


def build(words: Sequence[str] = ()) -> TyperGroup:
    """Return the command tree.

    Args:
        words: the command line, if it is known: what is asked for so often that its start counts is then registered
            without all the other commands.
    """
    from typer.main import get_command

    from sovereign_node.cli import application
    from sovereign_node.cli.commands import register, register_all

    completes = application.COMPLETION_VARIABLE in os.environ
    command_name = _command_in(words)
    if command_name in _QUICK_COMMANDS and not completes:
        register(command_name)
    else:
        register_all()
    if completes:  # a shell asks; Typer loads this only with its own options
        from typer._completion_classes import completion_init

        completion_init()
    command = get_command(application.app)
    assert isinstance(command, TyperGroup)
    return command


def _command_in(words: Sequence[str]) -> str:
    """Return the command, if before it stand only options that every command shares."""
    places = iter(words)
    for word in places:
        if word == "--data-dir":
            next(places, None)
        elif word not in _SHARED_FLAGS and not word.startswith("--data-dir="):
            return word
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: words after the program's name; those of the process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a backup's report.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    as_json = wants_json(words)
    try:
        code = _run(words)
        if code == ExitCode.INTERRUPTED:
            raise NodeError("interrupted", "interrupted", "", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has enough. The interpreter must not flush into the closed pipe at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.ERROR)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the boundary: also a bug ends in one document
        problem = _explain(error)
        write_error(problem, as_json=as_json)
        return int(problem.exit_code)
    return code


def wants_json(words: Sequence[str]) -> bool:
    """Tell whether the command line asks for JSON, even if it cannot be parsed."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def _run(words: list[str]) -> int:
    try:
        result = build(words).main(args=words, prog_name=PROGRAM, standalone_mode=False)
    except NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return int(ExitCode.USAGE)
    except UsageError as error:
        raise _usage(error) from error
    except typer.Abort:
        return int(ExitCode.INTERRUPTED)
    return result if isinstance(result, int) else int(ExitCode.OK)


def _usage(error: UsageError) -> NodeError:
    path = error.ctx.command_path if error.ctx else PROGRAM
    hint = f"see: {path} --help"
    if isinstance(error, NoSuchOption) and error.option_name in _SECRET_OPTIONS:
        hint = (
            "secrets on a command line can be read by every program;"
            " use --passphrase-file, --passphrase-command or --kit-file, or type them when asked"
        )
    return NodeError("usage", error.format_message().rstrip("."), hint, ExitCode.USAGE)


def _explain(error: BaseException) -> NodeError:
    """Return the first error of the node in ``error``, which is a group when it comes out of a nursery."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, NodeError):
            return leaf
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return NodeError("interrupted", "interrupted", "", ExitCode.INTERRUPTED)
    traceback.print_exception(error)
    return NodeError(
        "internal_error",
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug; please report it with the lines above",
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
