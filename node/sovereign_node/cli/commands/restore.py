"""``sovereign restore``: bring files back from a snapshot."""

import os
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.commands.backup import error_lines
from sovereign_node.cli.output import escape, short_id, styled
from sovereign_node.cli.parameters import DryRunOption, ProjectArgument, SnapshotOption
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_count, format_duration, format_price, format_size


class Overwrite(StrEnum):
    """What happens to files that are there already."""

    NEVER = "never"
    CHANGED = "changed"
    ALWAYS = "always"


@command(app, "restore")
def restore(
    session: Session,
    project: ProjectArgument,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder to restore into; made if it is missing.")],
    snapshot: SnapshotOption = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="Only this file or folder of the snapshot.")
    ] = None,
    overwrite: Annotated[
        Overwrite | None,
        typer.Option(
            "--overwrite",
            metavar="WHEN",
            help="Replace files that are there already: never, changed or always.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Restore a snapshot, or a part of it, into a folder."""
    result = session.stream(
        "restore",
        "restoring",
        project=project,
        to=os.path.abspath(to),
        snapshot=snapshot,
        path=path,
        overwrite=overwrite.value if overwrite else None,
        dry_run=dry_run or None,
    )
    code = ExitCode.PARTIAL if result.get("partial") else ExitCode.OK
    session.report(result, lambda done: _view(done, to, dry_run=dry_run), code)


def _view(done: dict[str, Any], to: str, *, dry_run: bool) -> Iterator[Any]:
    verb = "would be restored" if dry_run else "restored"
    yield styled(
        f"{format_count(done['files'], 'file')}, {format_size(done['bytes'])} {verb} to {to}", "bold green"
    )
    skipped = done.get("skipped") or 0
    kept = f", {format_count(skipped, 'file')} kept as they were" if skipped else ""
    yield f"  from snapshot {escape(short_id(done['snapshot']))} in {format_duration(done['seconds'])}{kept}"
    if done.get("price"):
        yield f"  moving it costs at most {format_price(done['price']['customer_pays_at_most_micro_vibe'])}"
    yield from error_lines(done.get("errors") or [], "could not be restored and")
