"""``sovereign limits``: how much this device may send and receive."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import limits as group
from sovereign_node.cli.output import Cell, facts, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_rate, parse_size

_REASONS = {
    "settings": "by the settings",
    "schedule": "by the schedule in the settings",
    "command": "by command, until: sovereign limits clear",
}


def parse_rate(text: str) -> int:
    """Return the bytes per second of a word such as ``500KB`` or ``2MB/s``; ``none`` is 0.

    Raises:
        ValueError: not a rate.
    """
    return 0 if text == "none" else parse_size(text.removesuffix("/s"))


@command(group, "show")
def show(session: Session) -> None:
    """Show the limits that hold now, and why."""
    session.show(session.call("limits"), view)


@command(group, "set")
def set_limits(
    session: Session,
    upload: Annotated[
        int | None,
        typer.Option("--up", metavar="RATE", parser=parse_rate, help="Bytes per second, e.g. 500KB; none."),
    ] = None,
    download: Annotated[
        int | None, typer.Option("--down", metavar="RATE", parser=parse_rate, help="The same for what is received.")
    ] = None,
    peer: Annotated[
        str | None,
        typer.Option("--peer", metavar="PEER", help="For one peer besides: name, peer id or its beginning."),
    ] = None,
    metered: Annotated[
        str | None,
        typer.Option("--metered", metavar="WHEN", help="yes, no or auto: whether the network is paid by volume."),
    ] = None,
) -> None:
    """Set limits until they are cleared, also over restarts; what is left out stays as it is."""
    answer = session.call(
        "limits_set", upload_bytes_per_s=upload, download_bytes_per_s=download, peer=peer, metered=metered
    )
    session.report(answer, view)


@command(group, "clear")
def clear(session: Session) -> None:
    """Go back to the limits of the settings."""
    session.report(session.call("limits_clear"), view)


def view(limits: dict[str, Any]) -> Iterator[Any]:
    """Draw the limits in force."""
    yield facts(_facts(limits))
    if limits["peers"]:
        yield ""
        yield table(["PEER", "NAME", ">UP", ">DOWN"], (_row(peer) for peer in limits["peers"]))


def _facts(limits: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "upload", rate_text(limits["upload_bytes_per_s"])
    yield "download", rate_text(limits["download_bytes_per_s"])
    yield "set", _REASONS[limits["reason"]]
    if limits["schedule"]:
        yield "schedule", list(limits["schedule"])
    paused = "; waiting backups, repairs and relaying wait for another network"
    metered = ("yes" + (paused if limits["background_paused"] else ""), "yellow")
    yield "metered network", metered if limits["metered"] else "no"


def _row(peer: dict[str, Any]) -> list[Cell]:
    return [
        peer["peer_id"],
        peer.get("name") or "-",
        rate_text(peer["upload_bytes_per_s"]),
        rate_text(peer["download_bytes_per_s"]),
    ]


def rate_text(bytes_per_s: int) -> str:
    """Return a limit in words."""
    return format_rate(bytes_per_s) if bytes_per_s else "no limit"
