"""``sovereign snapshots`` and ``ls``: what was backed up, and when."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, escape, short_id, table
from sovereign_node.cli.parameters import OptionalProjectArgument, ProjectArgument, SnapshotOption
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_age, format_size, format_time

_KIND_LETTERS = {"dir": "d", "symlink": "l"}


@command(app, "snapshots")
def snapshots(session: Session, project: OptionalProjectArgument = None) -> None:
    """List the snapshots of one project, or of all."""
    now = int(time.time())
    session.show(session.call("snapshots", project=project), lambda found: _list(found, now))


@command(app, "ls")
def ls(
    session: Session,
    project: ProjectArgument,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="A folder inside; all of it without.")
    ] = None,
    snapshot: SnapshotOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders in folders, too.")] = False,
) -> None:
    """List the files in a snapshot."""
    entries = session.call("ls", project=project, snapshot=snapshot, path=path, recursive=recursive)
    session.show(entries, lambda found: map(_entry, found))


def _list(found: list[dict[str, Any]], now: int) -> Iterator[Any]:
    if not found:
        yield "No snapshots yet. Make one with: sovereign backup"
        return
    yield table(
        ["!SNAPSHOT", "PROJECT", "TIME", "AGE", ">FILES", ">SIZE", "DEVICE"], (_row(item, now) for item in found)
    )


def _row(item: dict[str, Any], now: int) -> list[Cell]:
    return [
        short_id(item["id"]),
        item.get("project_name") or short_id(item["project"]),
        format_time(item["time"]),
        format_age(item["time"], now),
        f"{item['files']:,}",
        format_size(item["bytes"]),
        item.get("device_name") or short_id(item.get("device") or "-"),
    ]


def _entry(entry: dict[str, Any]) -> str:
    modified = format_time(entry["mtime_ns"] // 1_000_000_000)
    size = format_size(entry["size"]) if entry["kind"] == "file" else "-"
    target = f" -> {escape(entry['target'])}" if entry.get("target") else ""
    return f"{mode_text(entry)}  {size:>9}  {modified}  {escape(entry['path'])}{target}"


def mode_text(entry: dict[str, Any]) -> str:
    """Return kind and permissions as ``ls -l`` writes them."""
    bits = "".join(letter if entry["mode"] >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
    return _KIND_LETTERS.get(entry["kind"], "-") + bits
