"""``sovereign provider``: what this device offers, stores and earns."""

import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import offer
from sovereign_node.cli.application import provider as group
from sovereign_node.cli.commands.contract import contract_facts
from sovereign_node.cli.commands.status import count_of
from sovereign_node.cli.output import Cell, escape, facts, short_id, styled
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.units import format_count, format_duration, format_price, format_size, parse_size, parse_vibe

CapacityOption = Annotated[
    int | None, typer.Option("--capacity", metavar="SIZE", parser=parse_size, help="Storage offered in all.")
]
ReserveOption = Annotated[
    int | None,
    typer.Option(
        "--reserve", metavar="SIZE", parser=parse_size, help="Free space of the disk never to be touched."
    ),
]
PriceOption = Annotated[
    int | None,
    typer.Option("--price", metavar="AMOUNT", parser=parse_vibe, help="For 1 GB and month, e.g. 2 or '$0.02'."),
]
TransferPriceOption = Annotated[
    int | None,
    typer.Option("--transfer-price", metavar="AMOUNT", parser=parse_vibe, help="For 1 GB moved, e.g. 0.5."),
]


@command(group, "status")
def status(session: Session) -> None:
    """Show replicas, stored bytes, contracts and VIBE per month."""
    session.show(session.call("provider_status"), lambda state: [facts(_facts(state))])


@command(offer, "set")
def set_offer(
    session: Session,
    capacity: CapacityOption = None,
    price: PriceOption = None,
    transfer_price: TransferPriceOption = None,
    reserve: ReserveOption = None,
) -> None:
    """Change capacity, prices or reserve; open contracts keep their price."""
    if capacity is None and price is None and transfer_price is None and reserve is None:
        raise NodeError(
            "nothing_to_set",
            "nothing says what to change",
            "give --capacity, --price, --transfer-price or --reserve",
            ExitCode.USAGE,
        )
    answer = session.call(
        "provider_offer_set",
        capacity_bytes=capacity,
        price_micro_vibe_per_gb_month=price,
        price_micro_vibe_per_gb_transfer=transfer_price,
        reserve_bytes=reserve,
    )
    session.report(answer, lambda made: [styled("The offer is changed", "bold green"), facts(contract_facts(made))])


@command(group, "export")
def export(
    session: Session,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the sealed chunks.")],
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="ID", help="Only those of this contract.")
    ] = None,
) -> None:
    """Write stored chunks as files named by their SHA-256, so that sha256sum can check them."""
    answer = session.stream("provider_export", "exporting", contract=contract, to=os.path.abspath(to))
    session.report(answer, _exported)


@command(group, "scrub")
def scrub(session: Session) -> None:
    """Read every stored chunk and check its hash."""
    answer = session.stream("provider_scrub", "scrubbing")
    session.report(answer, _scrubbed, ExitCode.DAMAGE_FOUND if answer["damaged"] else ExitCode.OK)


def _facts(state: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "peer id", state["peer_id"]
    yield "replicas", f"{count_of(state.get('replicas')):,}"
    yield "stored", f"{format_size(state['stored_bytes'])} of {format_size(state['capacity_bytes'])}"
    yield "free", format_size(state["free_bytes"])
    yield "contracts", f"{count_of(state.get('contracts')):,}"
    yield "earns", f"{format_price(state.get('vibe_per_month_micro') or 0)} per month"
    if state.get("quarantined"):
        yield "damaged", (f"{format_count(state['quarantined'], 'chunk')} in quarantine", "bold red")
    terms = state.get("offer") or {}
    for label, key in (
        ("price per GB and month", "price_micro_vibe_per_gb_month"),
        ("price per GB moved", "price_micro_vibe_per_gb_transfer"),
    ):
        if key in terms:
            yield label, format_price(terms[key])


def _exported(answer: dict[str, Any]) -> Iterator[Any]:
    amount = format_count(answer["chunks"], "chunk")
    if "bytes" in answer:
        amount += f", {format_size(answer['bytes'])}"
    yield styled(f"{amount} written to {answer['to']}", "bold green")
    yield "Each file is named by the SHA-256 of its bytes: sha256sum FILE prints the name again."


def _scrubbed(answer: dict[str, Any]) -> Iterator[Any]:
    checked = f"{format_count(answer['chunks_checked'], 'chunk')} checked in {format_duration(answer['seconds'])}"
    if not answer["damaged"]:
        yield styled(f"All is well: {checked}", "bold green")
        return
    yield styled(
        f"{format_count(len(answer['damaged']), 'chunk')} damaged, put in quarantine; {checked}", "bold red"
    )
    for damaged in answer["damaged"]:
        chunk = damaged["chunk"] if isinstance(damaged, dict) else damaged
        yield f"  {escape(short_id(str(chunk)))}"
