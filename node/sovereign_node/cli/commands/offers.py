"""``sovereign offers``: who stores for whom, at what price."""

from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, short_id, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_price, format_size


@command(app, "offers")
def offers(session: Session) -> None:
    """Find providers through the network and show their prices."""
    session.show(session.call("offers"), view)


def view(found: list[dict[str, Any]]) -> Iterator[Any]:
    """Draw offers, the cheapest first."""
    if not found:
        yield "No offers yet. A node that has just started may need a few seconds; see also: sovereign doctor"
        return
    ordered = sorted(found, key=lambda offer: (offer["price_micro_vibe_per_gb_month"], offer["name"]))
    yield table(
        ["!PROVIDER", "NAME", "REGION", ">FREE", "PER GB-MONTH", "PER GB MOVED", "YOUR DATA", ">UPTIME", ">AUDITS"],
        (_row(offer) for offer in ordered),
    )
    yield ""
    size = ordered[0].get("my_bytes")
    if size:
        yield f"YOUR DATA is {format_size(size)} for a month; with the uptime bonus where one is named."
    yield "UPTIME and AUDITS are what your devices saw in 30 days; - before the first contract."
    yield "Take one with: sovereign contract open PROVIDER --capacity 5GB"


def _row(offer: dict[str, Any]) -> list[Cell]:
    transfer = offer.get("price_micro_vibe_per_gb_transfer")
    own: Cell = ("free, yours", "green")
    return [
        short_id(offer["peer_id"]),
        offer["name"],
        offer.get("region") or "-",
        format_size(offer["free_bytes"]),
        own if offer.get("own") else format_price(offer["price_micro_vibe_per_gb_month"]),
        "-" if transfer is None or offer.get("own") else format_price(transfer),
        _own_price(offer),
        _uptime(offer),
        _audits(offer),
    ]


def _uptime(offer: dict[str, Any]) -> Cell:
    observed = offer.get("windows_observed") or 0
    return f"{100 * offer['windows_good'] / observed:.2f} %" if observed else "-"


def _audits(offer: dict[str, Any]) -> Cell:
    passed, failed = offer.get("audits_passed") or 0, offer.get("audits_failed") or 0
    if failed:
        return f"{failed:,} of {passed + failed:,} failed", "bold red"
    return f"{passed:,} passed" if passed else "-"


def _own_price(offer: dict[str, Any]) -> Cell:
    price = offer.get("my_price_micro_vibe_per_month")
    if price is None:
        return "-"
    most = offer.get("my_price_with_bonus_micro_vibe_per_month", price)
    return format_price(price) + (f", or {format_price(most)} at 99.9 %" if most > price else "")
