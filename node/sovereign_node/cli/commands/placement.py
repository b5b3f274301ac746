"""``sovereign placement``: how many copies of a project there are, and where they go."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, facts
from sovereign_node.cli.session import Session, command


@command(app, "placement")
def placement(
    session: Session,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Name, or the beginning of its id.")],
    copies: Annotated[
        int | None, typer.Option("--copies", metavar="N", min=1, help="Providers that must hold each chunk.")
    ] = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option("--prefer", metavar="PROVIDER", help="Use it first; may be repeated."),
    ] = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option("--avoid", metavar="PROVIDER", help="Store nothing there any more; may be repeated."),
    ] = None,
    anywhere: Annotated[bool, typer.Option("--anywhere", help="Forget what is preferred and avoided.")] = False,
) -> None:
    """Show or change where the copies of a project go; they are moved by themselves."""
    answer = session.call(
        "placement",
        project=project,
        copies=copies,
        prefer=prefer or ([] if anywhere else None),
        avoid=avoid or ([] if anywhere else None),
    )
    session.show(answer, lambda found: [facts(_facts(found))])


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "project", found["name"]
    yield "copies", str(found["copies"])
    yield "preferred", ", ".join(found["prefer"]) or "any provider"
    yield "avoided", ", ".join(found["avoid"]) or "none"
