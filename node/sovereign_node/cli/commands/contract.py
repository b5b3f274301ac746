"""``sovereign contract``: open, list and show contracts."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import contract as group
from sovereign_node.cli.output import Cell, facts, short_id, styled, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import BYTES_PER_GB, format_price, format_size, format_time, parse_size, parse_vibe


class BonusFrom(StrEnum):
    """Who pays what high uptime adds."""

    NOBODY = "nobody"
    CUSTOMER = "customer"
    SPONSOR = "sponsor"


BudgetOption = Annotated[
    int | None,
    typer.Option(
        "--budget", metavar="AMOUNT", parser=parse_vibe, help="Most that a month may cost, e.g. 20 or '$0.2'."
    ),
]


@command(group, "open")
def open_contract(
    session: Session,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="Name, peer id or its beginning; see offers.")
    ],
    capacity: Annotated[
        int, typer.Option("--capacity", metavar="SIZE", parser=parse_size, help="Storage to reserve, e.g. 5GB.")
    ],
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", min=1, help="How long; the usual time without it.")
    ] = None,
    budget: BudgetOption = None,
    bonus: Annotated[
        BonusFrom,
        typer.Option("--bonus", metavar="WHO", help="Who pays for uptime: nobody, customer (you) or sponsor."),
    ] = BonusFrom.NOBODY,
    sponsor: Annotated[
        str | None,
        typer.Option("--sponsor", metavar="IDENTITY", help="With --bonus sponsor: who pays; see sponsor grant."),
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="The provider counts you as a friend: pay nothing.")] = False,
) -> None:
    """Reserve storage at a provider, at the price of its offer."""
    answer = session.call(
        "contract_open",
        provider=provider,
        capacity_bytes=capacity,
        months=months,
        budget_micro_vibe=budget or 0,
        bonus=bonus.value,
        sponsor=sponsor or "",
        free=free,
    )
    session.report(answer, _opened)


@command(group, "list")
def list_contracts(session: Session) -> None:
    """List contracts, as customer and as provider."""
    session.show(session.call("contract_list"), _list)


@command(group, "show")
def show(
    session: Session,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Id or its beginning.")],
) -> None:
    """Show one contract with all its terms."""
    session.show(session.call("contract_show", contract=contract), lambda found: [facts(contract_facts(found))])


@command(group, "renew")
def renew(
    session: Session,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Id or its beginning.")],
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", min=1, help="From now on; as long as before without it.")
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option("--capacity", metavar="SIZE", parser=parse_size, help="Another size, e.g. 10GB."),
    ] = None,
    budget: BudgetOption = None,
) -> None:
    """Extend a contract or change its size, at the price of the provider's offer now."""
    answer = session.call(
        "contract_renew", contract=contract, months=months, capacity_bytes=capacity, budget_micro_vibe=budget
    )
    session.report(answer, _renewed)


@command(group, "close")
def close(
    session: Session,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Id or its beginning.")],
) -> None:
    """Pay what is owed and end a contract; its data is deleted after the grace period."""
    answer = session.call("contract_close", contract=contract)
    session.report(answer, _closed)


def _renewed(renewed: dict[str, Any]) -> Iterator[Any]:
    yield styled("Both sides have signed the new terms", "bold green")
    yield facts(contract_facts(renewed))


def _closed(closed: dict[str, Any]) -> Iterator[Any]:
    yield styled(f"The contract {short_id(closed['id'])} is closed", "bold green")
    yield "See its papers with: sovereign statement, sovereign dispute export"


def _opened(opened: dict[str, Any]) -> Iterator[Any]:
    yield styled("The contract is open", "bold green")
    yield facts(contract_facts(opened))
    yield "Next: sovereign protect PATH, then sovereign backup"


def contract_facts(contract: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Yield what a contract says, in words."""
    for name, value in contract.items():
        label = name.removesuffix("_bytes").removesuffix("_at").replace("_micro_vibe", "").replace("_", " ")
        yield label, _in_words(name, value)
    price, capacity = contract.get("price_micro_vibe_per_gb_month"), contract.get("capacity_bytes")
    if price is not None and capacity is not None:
        # A preview for people; what is owed is computed from bytes and seconds by the metering code.
        yield "when full", f"{format_price(price * capacity // BYTES_PER_GB)} per month"


def _in_words(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if name.endswith("_at") and isinstance(value, int):
        return format_time(value)
    if name == "budget_micro_vibe" and not value:
        return "no limit"
    if "micro_vibe" in name and isinstance(value, int):
        return format_price(value)
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "-" if value is None else str(value)


def _list(contracts: list[dict[str, Any]]) -> Iterator[Any]:
    if not contracts:
        yield "No contracts yet. See prices with: sovereign offers"
        return
    yield table(
        ["!CONTRACT", "YOU ARE", "WITH", ">STORED", ">OF", "STATE", "UNTIL"],
        (_row(contract) for contract in contracts),
    )


def _row(contract: dict[str, Any]) -> list[Cell]:
    other = contract["provider"] if contract["role"] == "customer" else contract["customer"]
    ends_at = contract.get("ends_at")
    return [
        short_id(contract["id"]),
        contract["role"],
        contract.get("provider_name" if contract["role"] == "customer" else "customer_name")
        or short_id(str(other)),
        format_size(contract.get("stored_bytes") or 0),
        format_size(contract["capacity_bytes"]),
        contract["state"],
        format_time(ends_at) if ends_at else "-",
    ]
