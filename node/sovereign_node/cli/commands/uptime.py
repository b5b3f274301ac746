"""``sovereign uptime``: how often providers answered, as observers measured it."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, short_id, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_time


@command(app, "uptime")
def uptime(
    session: Session,
    provider: Annotated[
        str | None, typer.Argument(metavar="PROVIDER", help="Name, peer id or its beginning; all without it.")
    ] = None,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=730, help="How far back to look.")] = 30,
) -> None:
    """Show in how many ten-minute windows providers answered."""
    session.show(session.call("uptime", provider=provider, days=days), _view)


def _view(found: list[dict[str, Any]]) -> Iterator[Any]:
    if not found:
        yield "There is no contract yet. See: sovereign contract list"
        return
    yield table(
        ["!PROVIDER", "CONTRACT", "YOU ARE", ">ANSWERED", ">OBSERVED", ">UPTIME", "BONUS", "SINCE"],
        (_row(item) for item in found),
    )
    pauses = [(item, pause) for item in found for pause in item["maintenance"]]
    if pauses:
        yield ""
    for item, pause in pauses:
        span = f"{format_time(pause['from_at'])} to {format_time(pause['until_at'])}"
        yield f"{_name(item)} announced maintenance from {span}"


def _row(item: dict[str, Any]) -> list[Cell]:
    seen = item["seen"]
    coverage = 100 * seen["observed"] // seen["total"] if seen["total"] else 0
    return [
        _name(item),
        short_id(item["contract"]),
        item["role"],
        f"{seen['good']:,}",
        f"{seen['observed']:,} ({coverage} %)",
        _percent(seen["percent"]),
        _bonus(item),
        format_time(item["from_at"]),
    ]


def _name(item: dict[str, Any]) -> str:
    return item["provider_name"] or short_id(item["provider"])


def _percent(percent: float | None) -> Cell:
    if percent is None:
        return "-"
    style = "green" if percent >= 99.9 else "yellow" if percent >= 98 else "bold red"
    # Cut and not rounded: 99.899 % do not earn what 99.9 % do.
    return (f"{int(percent * 100) / 100:.2f} %", style)


def _bonus(item: dict[str, Any]) -> Cell:
    if not item["observers"]:
        return "no observer named"
    counted = item["counted"]
    if counted["earns_bonus"]:
        return ("earned", "green")
    return "not earned" if counted["observed"] * 100 >= counted["total"] * 80 else "too little observed"
