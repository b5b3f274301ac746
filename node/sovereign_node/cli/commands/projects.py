"""``sovereign protect``, ``unprotect`` and ``projects``: what is backed up."""

import os
import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import escape, short_id, styled, table
from sovereign_node.cli.parameters import ProjectArgument
from sovereign_node.cli.session import Session, command


@command(app, "protect")
def protect(
    session: Session,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, a file or a live SQLite database.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the project; that of the path without it.")
    ] = None,
    copies: Annotated[
        int | None, typer.Option("--copies", metavar="N", min=1, help="Providers that must hold each chunk.")
    ] = None,
) -> None:
    """Make a project of a folder, a file or a database."""
    # The node runs in another directory, so it needs the whole path; links stay as they are.
    answer = session.call("protect", path=os.path.abspath(path), name=name, copies=copies)
    session.report(answer, _protected)


@command(app, "unprotect")
def unprotect(session: Session, project: ProjectArgument) -> None:
    """Back a project up no longer; its snapshots stay."""
    answer = session.call("unprotect", project=project)
    session.report(answer, lambda _: [f"{escape(project)} is backed up no longer. Its snapshots stay."])


@command(app, "projects")
def projects(session: Session) -> None:
    """List projects and their sources."""
    session.show(session.call("project_list"), _list)


def _protected(project: dict[str, Any]) -> Iterator[Any]:
    yield styled(f"{project['name']} is protected", "bold green")
    yield from (f"  {escape(source)}" for source in project["sources"])
    yield f"Next: sovereign backup {escape(shlex.quote(project['name']))}"


def _list(found: list[dict[str, Any]]) -> Iterator[Any]:
    if not found:
        yield "Nothing is protected yet. Begin with: sovereign protect PATH"
        return
    yield table(
        ["PROJECT", "!ID", "SOURCES"],
        ([item["name"], short_id(item["id"]), list(item.get("sources") or ())] for item in found),
    )
