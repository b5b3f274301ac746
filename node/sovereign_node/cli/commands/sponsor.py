"""``sovereign sponsor``: pay what high uptime adds, for contracts of others."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import sponsor as group
from sovereign_node.cli.output import Cell, short_id, styled, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_price, format_time, format_vibe, parse_vibe


@command(group, "grant")
def grant(
    session: Session,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="The whole id; its customer knows it.")],
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Peer id of the provider.")],
    budget: Annotated[
        int,
        typer.Option("--budget", metavar="AMOUNT", parser=parse_vibe, help="Most that it may ever cost, e.g. 20."),
    ],
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", min=1, max=60, help="How long; to the contract's end.")
    ] = None,
) -> None:
    """Promise the uptime bonus of a contract that names you as its sponsor; it is paid period by period."""
    answer = session.call(
        "sponsor_grant", contract=contract, provider=provider, budget_micro_vibe=budget, months=months
    )
    session.report(answer, _granted)


@command(group, "list")
def list_grants(session: Session) -> None:
    """List what you sponsor, and what is left of each budget."""
    session.show(session.call("sponsor_list"), _grants)


def _granted(row: dict[str, Any]) -> Iterator[Any]:
    yield styled(f"Granted up to {format_price(row['budget_micro_vibe'])}", "bold green")
    yield f"  for contract {short_id(row['contract'])}, until {format_time(row['until_at'])}"


def _grants(rows: list[dict[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "You sponsor nothing. A customer names you with: contract open --bonus sponsor --sponsor IDENTITY"
        return
    headings = ["!CONTRACT", "!PROVIDER", ">BUDGET", ">PAID", ">LEFT", ">PERIODS", "UNTIL"]
    yield table(headings, (_row(row) for row in rows))


def _row(row: dict[str, Any]) -> list[Cell]:
    return [
        short_id(row["contract"]),
        short_id(row["provider"]),
        *(format_vibe(row[f"{name}_micro_vibe"]) for name in ("budget", "paid", "left")),
        str(row["periods"]),
        (format_time(row["until_at"]), "yellow") if row["is_over"] else format_time(row["until_at"]),
    ]
