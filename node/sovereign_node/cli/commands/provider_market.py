"""``sovereign provider`` in the market: start, contracts, earnings, maintenance, drain."""

import time
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import maintenance
from sovereign_node.cli.application import provider as group
from sovereign_node.cli.commands.provider import CapacityOption, PriceOption, ReserveOption, TransferPriceOption
from sovereign_node.cli.commands.up import Banner
from sovereign_node.cli.output import Cell, facts, short_id, styled, table, write_message
from sovereign_node.cli.parameters import PassphraseCommandOption, PassphraseFileOption
from sovereign_node.cli.session import Session, command
from sovereign_node.units import (
    format_count,
    format_price,
    format_size,
    format_time,
    format_vibe,
    parse_duration,
    parse_size,
    parse_vibe,
)

LOOK_AGAIN_S = 5.0


class Accept(StrEnum):
    """Whose contracts a provider accepts."""

    EVERYONE = "everyone"
    FRIENDS = "friends"
    OWN = "own"


@command(group, "start")
def start(
    session: Session,
    capacity: CapacityOption = None,
    reserve: ReserveOption = None,
    price: PriceOption = None,
    transfer_price: TransferPriceOption = None,
    credit: Annotated[
        int | None,
        typer.Option("--credit", metavar="AMOUNT", parser=parse_vibe, help="What a new customer may owe."),
    ] = None,
    free_allowance: Annotated[
        int | None,
        typer.Option("--free", metavar="SIZE", parser=parse_size, help="Stored for each customer without charge."),
    ] = None,
    accept: Annotated[
        Accept | None,
        typer.Option("--accept", metavar="WHOM", help="Whose contracts: everyone, friends or own."),
    ] = None,
    friend: Annotated[
        list[str] | None,
        typer.Option("--friend", metavar="IDENTITY", help="Stores without charge; may be repeated."),
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="LABEL", help="Place of this device, as offers show it.")
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
) -> None:
    """Become a provider with these settings, and run the node until Ctrl-C.

    With a passphrase file or command, it renews the certificate of this device by itself, once a year.
    """
    session.data_dir.require_initialised()
    from sovereign_node.app import RunOptions, run_node
    from sovereign_node.cli.passphrase import passphrase_source
    from sovereign_node.config import check_config, load_config, save_config

    config = load_config(session.data_dir.config)
    wanted = {
        "capacity_bytes": capacity,
        "reserve_bytes": reserve,
        "price_micro_vibe_per_gb_month": price,
        "price_micro_vibe_per_gb_transfer": transfer_price,
        "credit_limit_micro_vibe": credit,
        "free_allowance_bytes": free_allowance,
        "accept": accept.value if accept else None,
        "friends": tuple(friend) if friend else None,
        "region": region,
    }
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    roles = config.roles if config.is_provider else (*config.roles, "provider")
    config = replace(config, roles=roles, provider=replace(config.provider, **changes))
    check_config(config)
    save_config(config, session.data_dir.config)
    run_node(
        RunOptions(
            data_dir=session.data_dir,
            on_status=ProviderBanner(session).update,
            read_passphrase=passphrase_source(passphrase_file, passphrase_command),
        )
    )


class ProviderBanner(Banner):
    """Shows a provider's figures when it is ready, and what changes."""

    def update(self, state: dict[str, Any]) -> None:
        """Take a status document."""
        is_first = self._last is None
        super().update(state)
        if is_first and not self._session.json and not self._session.quiet:
            for line in provider_lines(state):
                write_message(line)


def provider_lines(state: dict[str, Any]) -> Iterator[str]:
    """Yield what a provider wants to see at its start."""
    yield f"device id: {state.get('device_id') or state['peer_id']}"
    yield f"replicas: {state.get('replicas') or 0:,}"
    yield f"stored: {format_size((state.get('stored') or {}).get('bytes') or 0)}"
    yield f"contracts: {state.get('contracts') or 0:,}"
    yield f"VIBE per month: {format_vibe(state.get('vibe_per_month_micro') or 0).removesuffix(' VIBE')}"


@command(group, "contracts")
def contracts(session: Session) -> None:
    """List the contracts of customers: what they store, have used, promised and paid."""
    session.show(session.call("provider_contracts"), _contracts)


@command(group, "earnings")
def earnings(
    session: Session,
    forecast: Annotated[bool, typer.Option("--forecast", help="Also what a month will earn.")] = False,
) -> None:
    """Show what closed periods earned, and the one that runs."""
    session.show(session.call("earnings", forecast=forecast), _earnings)


@command(maintenance, "announce")
def announce(
    session: Session,
    begins: Annotated[
        int, typer.Option("--in", metavar="DURATION", parser=parse_duration, help="When it begins, e.g. 2h.")
    ],
    lasts: Annotated[
        int,
        typer.Option("--for", metavar="DURATION", parser=parse_duration, help="How long, e.g. 20min."),
    ],
) -> None:
    """Tell customers about a pause; up to 30 minutes a month do not count against uptime."""
    session.report(session.call("maintenance_announce", in_s=begins, for_s=lasts), _announced)


@command(group, "drain")
def drain(
    session: Session,
    stop: Annotated[bool, typer.Option("--stop", help="Take customers again instead.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until everything is elsewhere; Ctrl-C changes nothing.")
    ] = False,
) -> None:
    """Leave the market: take nobody new, and give every customer notice; run it again to see what is left.

    Customers' nodes hear of it within a day, copy their data to other providers, and end their contracts then.
    """
    answer = session.call("drain", stop=stop)
    left = answer["bytes_left"]
    while wait and answer["draining"] and not answer["safe_to_stop"]:
        time.sleep(LOOK_AGAIN_S)
        answer = session.call("drain")
        if answer["bytes_left"] != left and not session.quiet:
            left = answer["bytes_left"]
            write_message(f"{format_count(answer['contracts_left'], 'contract')}, {format_size(left)} left")
    session.report(answer, _drained)


def _contracts(rows: list[dict[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "No contracts yet."
        return
    yield table(
        ["!CONTRACT", "!CUSTOMER", ">STORED", ">USED", ">PROMISED", ">PAID", ">A MONTH", "CREDIT", "STATE"],
        (_contract(row) for row in rows),
    )


def _contract(row: dict[str, Any]) -> list[Cell]:
    return [
        short_id(row["contract"]),
        short_id(row["identity"]),
        format_size(row["stored_bytes"]),
        format_vibe(row["accrued_micro_vibe"]),
        format_vibe(row["promised_micro_vibe"]),
        format_vibe(row["settled_micro_vibe"]),
        format_vibe(row["per_month_micro_vibe"]),
        row["level"],
        row["state"],
    ]


def _earnings(found: dict[str, Any]) -> Iterator[Any]:
    pairs: list[tuple[str, Cell]] = [
        ("closed periods", format_price(found["earned_micro_vibe"])),
        ("running period", format_price(found["so_far_micro_vibe"])),
    ]
    if "per_month_micro_vibe" in found:
        pairs.append(("a month", format_price(found["per_month_micro_vibe"])))
        pairs.append(("with uptime bonus", format_price(found["per_month_with_bonus_micro_vibe"])))
    yield facts(pairs)


def _announced(answer: dict[str, Any]) -> Iterator[Any]:
    begin, end = format_time(answer["from_at"]), format_time(answer["until_at"])
    notices = format_count(answer["notices"], "notice")
    yield styled(f"Maintenance from {begin} to {end}: {notices} signed", "bold green")


def _drained(answer: dict[str, Any]) -> Iterator[Any]:
    if not answer["draining"]:
        yield styled("This provider takes customers again", "bold green")
        return
    if answer["safe_to_stop"]:
        yield styled("Nothing is left here: it is safe to stop", "bold green")
        return
    left = f"{format_count(answer['contracts_left'], 'contract')}, {format_size(answer['bytes_left'])}"
    yield styled(f"Still here: {left}. Keep this node running.", "bold yellow")
    for row in answer["contracts"]:
        yield f"  {short_id(row['contract'])}: {format_size(row['bytes_left'])} until {format_time(row['ends_at'])}"
