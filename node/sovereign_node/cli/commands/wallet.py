"""``sovereign wallet`` and what moves money: transfer, settle, and the check of the books."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app, ledger
from sovereign_node.cli.output import Cell, escape, facts, short_id, styled, table
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_count, format_price, format_size, format_vibe, parse_vibe

IdentityArgument = Annotated[
    str, typer.Argument(metavar="IDENTITY", help="Whom, by id or its beginning; see wallet.")
]
AmountArgument = Annotated[
    int, typer.Argument(metavar="AMOUNT", parser=parse_vibe, help="How much, e.g. 5 or '$0.05'.")
]


@command(app, "wallet")
def wallet(session: Session) -> None:
    """Show what was used, promised and paid, with each peer, and what a month will cost or earn."""
    session.show(session.call("wallet"), _wallet)


@command(app, "transfer")
def transfer(session: Session, identity: IdentityArgument, amount: AmountArgument) -> None:
    """Pay an identity that you have a contract with, by a note that both sign."""
    session.report(session.call("transfer", identity=identity, amount_micro_vibe=amount), _paid)


@command(app, "pay")
def pay(session: Session, identity: IdentityArgument, amount: AmountArgument) -> None:
    """Say that you have paid; the other side confirms it with settle --confirm. The same as transfer."""
    session.report(session.call("transfer", identity=identity, amount_micro_vibe=amount), _paid)


@command(app, "settle")
def settle(
    session: Session,
    contract: Annotated[
        str | None, typer.Argument(metavar="[CONTRACT]", help="Id or its beginning; all without it.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The payments that customers announced have arrived.")
    ] = False,
) -> None:
    """Promise what is owed now, as a customer; with --confirm, sign for payments, as a provider."""
    rows = session.call("settle", contract=contract, confirm=confirm)
    troubled = any(not row.get("reached", True) for row in rows)
    session.report(rows, _settled, ExitCode.UNREACHABLE if troubled else ExitCode.OK)


@command(ledger, "verify")
def verify(session: Session) -> None:
    """Recompute every hash and balance of the ledger."""
    answer = session.call("ledger_verify")
    session.report(answer, _verified, ExitCode.OK if answer["ok"] else ExitCode.DAMAGE_FOUND)


def _wallet(found: dict[str, Any]) -> Iterator[Any]:
    forecast = found["forecast"]
    yield facts(
        [
            ("you owe", format_price(found["owed_micro_vibe"])),
            ("others owe you", format_price(found["due_to_you_micro_vibe"])),
            ("not promised yet", format_price(found["exposed_micro_vibe"])),
            ("a month costs", format_price(forecast["spend_per_month_micro_vibe"])),
            ("a month earns", format_price(forecast["earn_per_month_micro_vibe"])),
        ]
    )
    if not found["peers"]:
        yield "No contracts yet. See prices with: sovereign offers"
        return
    yield ""
    yield table(
        [
            "!CONTRACT",
            "YOU ARE",
            "WITH",
            "!IDENTITY",
            ">STORED",
            ">USED",
            ">PROMISED",
            ">PAID",
            ">EXPOSURE",
            "STATE",
        ],
        (_row(row) for row in found["peers"]),
    )
    for row in found["peers"]:
        yield from _waiting(row)
    if found["sponsored"]:
        yield "Bonuses that you sponsor: sovereign sponsor list"


def _row(row: dict[str, Any]) -> list[Cell]:
    exposure = f"{format_vibe(row['exposed_micro_vibe'])} of {format_vibe(row['credit_limit_micro_vibe'])}"
    colours = {"warn": "yellow", "demand": "bold yellow", "stop": "bold red"}
    return [
        short_id(row["contract"]),
        row["role"],
        row["name"] or short_id(row["peer_id"]),
        short_id(row["identity"]),
        format_size(row["stored_bytes"]),
        format_vibe(row["accrued_micro_vibe"]),
        format_vibe(row["promised_micro_vibe"]),
        format_vibe(row["settled_micro_vibe"]),
        (exposure, colours[row["level"]]) if row["level"] in colours else exposure,
        row["state"],
    ]


def _waiting(row: dict[str, Any]) -> Iterator[Any]:
    for note in row.get("waiting", []):
        amount = format_price(note["amount_micro_vibe"])
        hint = "settle --confirm signs for it" if row["role"] == "provider" else "the other side has not signed yet"
        yield styled(f"Payment of {amount} on {short_id(row['contract'])}: {hint}", "yellow")


def _paid(note: dict[str, Any]) -> Iterator[Any]:
    colour = "bold green" if note["state"] == "signed" else "bold yellow"
    yield styled(f"{format_price(note['amount_micro_vibe'])}: {note['state']}", colour)
    yield f"  note {short_id(note['note'])} on contract {short_id(note['contract'])}"


def _settled(rows: list[dict[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "Nothing to settle."
    for row in rows:
        open_amount = format_price(row["open_micro_vibe"])
        yield f"{short_id(row['contract'])}: promised and not yet paid {open_amount}"
        for note in row.get("confirmed", []):
            yield styled(f"  signed for {format_price(note['amount_micro_vibe'])}", "green")
        if not row.get("reached", True):
            yield styled(f"  {escape(str(row.get('reason', 'not reached')))}", "yellow")
        elif row.get("agreed") is False:
            yield styled("  both sides count differently: see `sovereign dispute export`", "bold yellow")
        yield from _waiting(row)


def _verified(answer: dict[str, Any]) -> Iterator[Any]:
    entries = format_count(answer["entries"], "entry", "entries")
    if answer["ok"]:
        yield styled(f"The books are whole: {entries}, {answer['accounts']} accounts, sum 0", "bold green")
        yield f"  newest hash {answer['head'] or '-'}"
        return
    yield styled(f"The books are broken at entry {answer['first_fault']} of {entries}", "bold red")
