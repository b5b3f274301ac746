"""``sovereign verify``: check that everything is there and, if wanted, read it back."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.coercion import PlainCommand
from sovereign_node.cli.output import escape, short_id, styled
from sovereign_node.cli.parameters import OptionalProjectArgument
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_count, format_duration, format_size, parse_percent

_READ_DATA = "--read-data"


class _OptionalPercentage(PlainCommand):
    """Lets ``--read-data`` stand alone, which means all data; Typer has no options with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, fill_in_percentage(args))


def fill_in_percentage(words: list[str]) -> list[str]:
    """Return the words with every bare ``--read-data`` completed; ``--read-data 10%`` becomes one word."""
    filled: list[str] = []
    for word in words:
        if filled and filled[-1] == _READ_DATA and re.fullmatch(r"[\d.]+%", word):
            filled[-1] = f"{_READ_DATA}={word}"
        else:
            filled.append(word)
    return [f"{_READ_DATA}=100%" if word == _READ_DATA else word for word in filled]


@command(app, "verify", cls=_OptionalPercentage)
def verify(
    session: Session,
    project: OptionalProjectArgument = None,
    read_data: Annotated[
        float | None,
        typer.Option(
            _READ_DATA,
            metavar="[=PERCENT]",
            parser=parse_percent,
            help="Also fetch and check the chunks, or that part of them, e.g. --read-data=10%.",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put good copies where bad or missing ones are found.")
    ] = False,
) -> None:
    """Check snapshots and chunks of one project, or of all."""
    result = session.stream(
        "verify", "verifying", project=project, read_data_percent=read_data or 0.0, repair=repair
    )
    session.report(result, _view, ExitCode.DAMAGE_FOUND if result["errors"] else ExitCode.OK)


def _view(done: dict[str, Any]) -> Iterator[Any]:
    errors = done["errors"]
    if errors:
        yield styled(f"{format_count(len(errors), 'error')} found", "bold red")
        for error in errors:
            place = f"{short_id(str(error['chunk']))} at {error['target']}" if "chunk" in error else error["path"]
            yield escape(f"  {place}: {error['reason']}")
        yield "Run `sovereign backup` to send again what this device still has."
    else:
        yield styled("All is well", "bold green")
    read = f", {format_size(done['bytes_checked'])} read back" if done.get("bytes_checked") else ""
    repaired = f", {format_count(len(done['repaired']), 'chunk')} repaired" if done.get("repaired") else ""
    yield (
        f"  {format_count(done['chunks_checked'], 'chunk')} checked{read}{repaired}"
        f" in {format_duration(done.get('seconds') or 0)}"
    )
