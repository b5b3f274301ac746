"""``sovereign offers``: who stores for whom, at what price."""

import time
from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, short_id, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_duration, format_price, format_size


@command(app, "offers")
def offers(session: Session) -> None:
    """Find providers through the network and show their prices."""
    now = int(time.time())
    session.show(session.call("offers"), lambda found: view(found, now))


def view(found: list[dict[str, Any]], now: int) -> Iterator[Any]:
    """Draw offers, the cheapest first; ``now`` in seconds since 1970 UTC."""
    if not found:
        yield "No offers yet. A node that has just started may need a few seconds; see also: sovereign doctor"
        return
    ordered = sorted(found, key=lambda offer: (offer["price_micro_vibe_per_gb_month"], offer["name"]))
    yield table(
        ["!PROVIDER", "NAME", ">FREE", ">OF", "PER GB-MONTH", "PER GB MOVED", "YOUR DATA", "VALID"],
        (_row(offer, now) for offer in ordered),
    )
    yield ""
    size = ordered[0].get("my_bytes")
    if size:
        yield f"YOUR DATA is {format_size(size)} for a month; with the uptime bonus where one is named."
    yield "Take one with: sovereign contract open PROVIDER --capacity 5GB"


def _row(offer: dict[str, Any], now: int) -> list[Cell]:
    expires_at = offer.get("expires_at")
    left = f"{format_duration(expires_at - now)}" if expires_at else "-"
    transfer = offer.get("price_micro_vibe_per_gb_transfer")
    own: Cell = ("free, yours", "green")
    return [
        short_id(offer["peer_id"]),
        offer["name"],
        format_size(offer["free_bytes"]),
        format_size(offer["capacity_bytes"]),
        own if offer.get("own") else format_price(offer["price_micro_vibe_per_gb_month"]),
        "-" if transfer is None or offer.get("own") else format_price(transfer),
        _own_price(offer),
        left,
    ]


def _own_price(offer: dict[str, Any]) -> Cell:
    price = offer.get("my_price_micro_vibe_per_month")
    if price is None:
        return "-"
    most = offer.get("my_price_with_bonus_micro_vibe_per_month", price)
    return format_price(price) + (f", or {format_price(most)} at 99.9 %" if most > price else "")
