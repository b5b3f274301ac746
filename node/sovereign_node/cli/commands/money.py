"""``sovereign bill``, ``statement`` and ``quote``: what was, is and will be charged."""

import csv
import io
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, facts, short_id, styled, table, write_json
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_price, format_size, format_time, format_vibe, parse_size

OptionalContractArgument = Annotated[
    str | None, typer.Argument(metavar="[CONTRACT]", help="Id or its beginning; all without it.")
]


class ExportFormat(StrEnum):
    """How statements are exported."""

    CSV = "csv"
    JSON = "json"


class QuoteKind(StrEnum):
    """What a quote is for."""

    STORAGE = "storage"
    BACKUP = "backup"
    RESTORE = "restore"
    RETENTION = "retention"


@command(app, "bill")
def bill(session: Session, contract: OptionalContractArgument = None) -> None:
    """Show the period that runs: what it costs so far, and will cost if nothing changes."""
    session.show(session.call("bill", contract=contract), _bill)


@command(app, "statement")
def statement(
    session: Session,
    contract: OptionalContractArgument = None,
    export: Annotated[
        ExportFormat | None,
        typer.Option("--export", metavar="FORMAT", help="Write all lines exactly, as csv or json."),
    ] = None,
) -> None:
    """Show the closed periods with their lines."""
    rows = session.call("statements", contract=contract)
    if export is ExportFormat.JSON:
        write_json(rows)
        return
    session.show(rows, _csv if export is ExportFormat.CSV else _statements)


@command(app, "quote")
def quote(
    session: Session,
    kind: Annotated[
        QuoteKind,
        typer.Argument(metavar="[KIND]", help="storage, backup, restore, or retention: what deleting would save."),
    ] = QuoteKind.STORAGE,
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="Only this project; all without it.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="SIZE", parser=parse_size, help="Instead of projects, so many bytes."),
    ] = None,
    months: Annotated[int, typer.Option("--months", metavar="N", min=1, max=600, help="How long.")] = 1,
) -> None:
    """Say what storing, backing up or restoring will cost, under your contracts."""
    answer = session.call("quote", kind=kind.value, project=project, stored_bytes=size, months=months)
    session.show(answer, quote_view)


def quote_view(found: dict[str, Any]) -> Iterator[Any]:
    """Draw a quote with its three figures."""
    saves = found["kind"] == "retention"
    yield facts(_quoted(found, saves=saves))
    if found["basis"] != "contracts":
        yield "No contract yet: these are list prices. See: sovereign offers"


def _quoted(found: dict[str, Any], *, saves: bool) -> Iterator[tuple[str, Cell]]:
    if found["stored_bytes"]:
        times = f" at {found['copies']} providers" if found["copies"] > 1 else ""
        yield "stored", f"{format_size(found['stored_bytes'])}{times} for {found['months']} x 720 h, at most"
    if found["moved_bytes"]:
        yield "moved", f"{format_size(found['moved_bytes'])}, at most"
    yield "saves" if saves else "price", format_price(found["price_micro_vibe"])
    if found["bonus_micro_vibe"] and not saves:
        yield "uptime bonus", f"{format_price(found['bonus_micro_vibe'])} if 99.9 % is kept"
        yield "you pay at most", format_price(found["customer_pays_at_most_micro_vibe"])
        yield "they earn at most", format_price(found["provider_earns_at_most_micro_vibe"])


def _bill(rows: list[dict[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "No contracts yet. See prices with: sovereign offers"
        return
    headings = [
        "!CONTRACT",
        "YOU ARE",
        "UNTIL",
        ">STORED",
        ">MOVED",
        ">STORAGE",
        ">TRANSFER",
        ">SO FAR",
        ">FORECAST",
    ]
    yield table(headings, (_bill_row(row) for row in rows))
    for role, words in (("customer", "you pay"), ("provider", "you earn")):
        own = [row for row in rows if row["role"] == role]
        if own:
            forecast = sum(row["forecast_micro_vibe"] for row in own)
            yield f"{words}: {format_price(forecast)} by the end of the period"


def _bill_row(row: dict[str, Any]) -> list[Cell]:
    forecast = format_vibe(row["forecast_micro_vibe"])
    budget = row["budget_micro_vibe"]
    over: Cell = (f"{forecast} of {format_vibe(budget)}", "bold red")
    return [
        short_id(row["contract"]),
        row["role"],
        format_time(row["until_at"]),
        format_size(row["stored_bytes"]),
        format_size(row["transfer_bytes"]),
        format_vibe(row["storage_micro_vibe"]),
        format_vibe(row["transfer_micro_vibe"]),
        format_vibe(row["so_far_micro_vibe"]),
        over if budget and row["forecast_micro_vibe"] > budget else forecast,
    ]


def _statements(rows: list[dict[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "No period is closed yet. The one that runs: sovereign bill"
        return
    names = ("storage", "transfer", "bonus", "credits", "paid", "closing")
    headings = ["!CONTRACT", ">PERIOD", "FROM", "UNTIL", *(f">{name.upper()}" for name in names), "SIGNED"]
    yield table(headings, ([*_period(row), *_lines(row, names), _signed(row)] for row in rows))
    for row in rows:
        if row["sponsor_bonus_micro_vibe"]:
            yield _sponsored(row)


def _sponsored(row: dict[str, Any]) -> Any:
    words = f"{short_id(row['contract'])}, period {row['period']}: uptime earns "
    words += format_price(row["sponsor_bonus_micro_vibe"]) + " from the sponsor"
    if row["role"] == "customer":
        return words
    if row["sponsor_paid_micro_vibe"]:
        return f"{words}, which promised {format_price(row['sponsor_paid_micro_vibe'])}"
    return styled(f"{words}, which has not promised it yet", "yellow")


def _period(row: dict[str, Any]) -> list[Cell]:
    return [
        short_id(row["contract"]),
        str(row["period"]),
        format_time(row["from_at"]),
        format_time(row["until_at"]),
    ]


def _lines(row: dict[str, Any], names: tuple[str, ...]) -> list[Cell]:
    return [format_vibe(row[f"{name}_micro_vibe"]) for name in names]


def _signed(row: dict[str, Any]) -> Cell:
    return "by both" if row["signed_by_both"] else ("by you", "yellow")


def _csv(rows: list[dict[str, Any]]) -> Iterator[Any]:
    buffer = io.StringIO()
    names = list(rows[0]) if rows else ["contract"]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    yield buffer.getvalue().rstrip("\n")
