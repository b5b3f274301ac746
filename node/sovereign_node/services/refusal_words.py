"""Refusals in words: why the other side said no, with its figures, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.services.peer_finder import unreachable
from sovereign_node.units import format_duration, format_size, format_vibe
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.refusals import Reason, RefusedError


@dataclass(frozen=True)
class _Words:
    """A sentence and a hint; names of figures in braces are filled in."""

    message: str
    hint: str
    exit_code: ExitCode = ExitCode.ERROR


_OFFERS: Final = "choose another offer: sovereign offers"
_PAPERS: Final = "the papers are kept: sovereign dispute export CONTRACT"
_WORDS: Final[dict[Reason, _Words]] = {
    Reason.CAPACITY: _Words(
        "the provider has not enough room{free_bytes}{stored_bytes}",
        "ask for less, or " + _OFFERS,
        ExitCode.STORAGE_FULL,
    ),
    Reason.SIZE: _Words("the provider takes contracts{min_bytes}{max_bytes}", "change --capacity, or " + _OFFERS),
    Reason.DURATION: _Words(
        "the provider does not bind itself so long{max_s}{max_period_s}", "give fewer --months"
    ),
    Reason.PRICE_TOO_LOW: _Words(
        "the price is now{per_gb_month}{per_gb_transfer}", "look again: sovereign offers; friends open with --free"
    ),
    Reason.BONUS: _Words("the provider offers another uptime bonus", "look at it again: sovereign offers"),
    Reason.CREDIT: _Words("the provider gives less credit{max}", "pay what is owed: sovereign settle"),
    Reason.GRACE: _Words("the provider keeps deleted chunks for a shorter time{max_s}", _OFFERS),
    Reason.ADAPTER: _Words("the provider is not paid in that way", _OFFERS),
    Reason.OBSERVERS: _Words("the provider does not accept these observers", _OFFERS),
    Reason.OFFER_UNKNOWN: _Words("the offer is unknown to the provider", "look again: sovereign offers"),
    Reason.OFFER_EXPIRED: _Words("the offer is no longer valid", "look again: sovereign offers"),
    Reason.CLOSED_FOR_NEW: _Words("the provider takes no new customers", _OFFERS),
    Reason.TOO_MANY: _Words(
        "this identity has too many contracts there{max_contracts}",
        "close one that is not needed: sovereign contract list",
    ),
    Reason.IDENTITY: _Words(
        "the provider does not recognise this device as one of its identity",
        "see whether it was revoked: sovereign devices",
    ),
    Reason.UNKNOWN_CONTRACT: _Words("the provider knows no such contract of yours", "sovereign contract list"),
    Reason.STATE: _Words(
        "the contract is in a state that does not allow this", "see why: sovereign contract show CONTRACT"
    ),
    Reason.REVISION: _Words(
        "the provider has other terms in force", "another device may have changed them; try again in a minute"
    ),
    Reason.BUDGET: _Words("the budget of the period is used up", "raise it: sovereign contract renew --budget"),
    Reason.AMOUNT: _Words("the amount is not one that the other side can accept{cumulative}", _PAPERS),
    Reason.SEQUENCE: _Words(
        "the voucher is older than one that the provider holds{seq}",
        "this device may have been restored from a backup; restart the node",
    ),
    Reason.EQUIVOCATION: _Words("two different vouchers carry the same number", _PAPERS),
    Reason.FIGURES: _Words("the two sides count differently", _PAPERS),
    Reason.STORAGE: _Words("the provider's disk failed", "try again later, or " + _OFFERS),
    Reason.BUSY: _Words("the provider is busy", "try again in a minute"),
}
_FALLBACK: Final = _Words("the provider refused", "see the other offers: sovereign offers")


def refusal_in_words(error: ProtocolError, peer_id: str, now: int) -> NodeError:
    """Put a refusal of any money protocol, or a broken conversation, into words.

    Args:
        error: what the conversation ended with.
        peer_id: of the other side.
        now: Unix seconds UTC, by which its clock is judged.
    """
    if not isinstance(error, RefusedError):
        return unreachable(peer_id)
    code = f"provider_refused_{error.reason.value}"
    if error.reason is Reason.CLOCK_SKEW:
        return _clock_skew(code, now - error.data.get("peer_time", now))
    words = _WORDS.get(error.reason)
    if words is None:
        return NodeError(code, f"{_FALLBACK.message}: {error.reason.value}", _FALLBACK.hint)
    return NodeError(code, _filled(words.message, error.data), words.hint, words.exit_code)


def _clock_skew(code: str, difference_s: int) -> NodeError:
    message = f"the clocks of this device and of the provider differ by {abs(difference_s)} s"
    return NodeError(code, message, "set the clock of this device, if it is the wrong one")


def _filled(message: str, figures: Mapping[str, int]) -> str:
    shown = {name: write(figures[name]) if name in figures else "" for name, write in _FIGURES.items()}
    return message.format(**shown)


_FIGURES: Final[dict[str, Callable[[int], str]]] = {
    "free_bytes": lambda value: f": {format_size(value)} free",
    "stored_bytes": lambda value: f": {format_size(value)} stored already",
    "min_bytes": lambda value: f" from {format_size(value)}",
    "max_bytes": lambda value: f" up to {format_size(value)}",
    "max_s": lambda value: f": {format_duration(value)} at most",
    "max_period_s": lambda value: f": it settles every {format_duration(value)}",
    "per_gb_month": lambda value: f" {format_vibe(value)} for a GB and month",
    "per_gb_transfer": lambda value: f" and {format_vibe(value)} for a GB moved",
    "max": lambda value: f": {format_vibe(value)} at most",
    "max_contracts": lambda value: f": {value} at most",
    "cumulative": lambda value: f" ({format_vibe(value)} promised before)",
    "seq": lambda value: f" (its newest is number {value})",
}
