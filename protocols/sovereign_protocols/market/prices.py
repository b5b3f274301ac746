"""What storage and transfer cost: integers only, the same function on both sides.

1 VIBE is 1,000,000 micro-VIBE, 1 GB is 10^9 bytes, a month is 720 hours. Usage is accumulated as byte-seconds and
bytes, both exact; each line of a statement is rounded once, half to even, so the order of usage never matters.

Source: protocols/specs/prices.md.
"""

from dataclasses import dataclass
from typing import Final

MICRO_VIBE: Final = 1_000_000
#: One VIBE is one US cent.
MICRO_VIBE_PER_DOLLAR: Final = 100 * MICRO_VIBE
GB: Final = 1_000_000_000
MONTH_S: Final = 720 * 3600
PERMILLE: Final = 1000

LIST_PRICE_PER_GB_MONTH: Final = 2 * MICRO_VIBE
LIST_PRICE_PER_GB_TRANSFER: Final = MICRO_VIBE // 2
LIST_BONUS_PERMILLE: Final = 1500

#: Uptime that earns the bonus, in good windows of a million observed ones.
BONUS_UPTIME_PPM: Final = 999_000
#: Below this share of observed windows there is neither bonus nor penalty.
OBSERVED_PERCENT: Final = 80


def round_half_even(numerator: int, denominator: int) -> int:
    """Divide exactly and round once; a half goes to the even neighbour.

    Args:
        numerator: not negative.
        denominator: positive.
    """
    if numerator < 0 or denominator <= 0:
        raise ValueError("amounts are not negative")
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


@dataclass(frozen=True)
class Prices:
    """The price fields of an offer or of a contract revision.

    Args:
        micro_vibe_per_gb_month: for storage.
        micro_vibe_per_gb_transfer: for bytes in either direction.
        bonus_permille: what the provider earns at high uptime, of 1000; 1000 for no bonus.
    """

    micro_vibe_per_gb_month: int
    micro_vibe_per_gb_transfer: int
    bonus_permille: int = PERMILLE


LIST_PRICES: Final = Prices(LIST_PRICE_PER_GB_MONTH, LIST_PRICE_PER_GB_TRANSFER, LIST_BONUS_PERMILLE)
#: Own devices and friends: the same code path, nothing to pay.
FREE: Final = Prices(0, 0)


@dataclass(frozen=True)
class Usage:
    """What one contract used while one set of prices was in force.

    Args:
        byte_seconds: stored bytes times seconds; not limited to 64 bits.
        transfer_bytes: both directions.
    """

    byte_seconds: int = 0
    transfer_bytes: int = 0


@dataclass(frozen=True)
class UptimeCount:
    """Ten-minute windows of one period.

    Args:
        good: windows with an authenticated answer.
        observed: windows in which an observer asked.
        total: windows of the period without announced maintenance.
    """

    good: int
    observed: int
    total: int

    @property
    def earns_bonus(self) -> bool:
        """Whether enough windows were observed and nearly all of them were good."""
        if self.observed == 0 or self.observed * 100 < self.total * OBSERVED_PERCENT:
            return False
        return self.good * 1_000_000 >= self.observed * BONUS_UPTIME_PPM


@dataclass(frozen=True)
class Charges:
    """The priced lines of a statement, in micro-VIBE.

    Args:
        storage: for byte-seconds.
        transfer: for bytes moved.
        bonus: what high uptime adds, 0 if it was not earned.
    """

    storage: int
    transfer: int
    bonus: int

    @property
    def price(self) -> int:
        """What the service costs without the bonus."""
        return self.storage + self.transfer

    @property
    def earnings(self) -> int:
        """What the provider earns if somebody pays the bonus."""
        return self.price + self.bonus


def storage_price(byte_seconds: int, micro_vibe_per_gb_month: int) -> int:
    """Price stored bytes.

    Returns:
        micro-VIBE, rounded once.
    """
    return round_half_even(byte_seconds * micro_vibe_per_gb_month, GB * MONTH_S)


def transfer_price(transfer_bytes: int, micro_vibe_per_gb_transfer: int) -> int:
    """Price moved bytes.

    Returns:
        micro-VIBE, rounded once.
    """
    return round_half_even(transfer_bytes * micro_vibe_per_gb_transfer, GB)


def bonus_price(prices: Prices, usage: Usage) -> int:
    """Price the uptime bonus from the exact usage, not from the rounded lines.

    Returns:
        micro-VIBE, rounded once.
    """
    storage = usage.byte_seconds * prices.micro_vibe_per_gb_month
    transfer = usage.transfer_bytes * prices.micro_vibe_per_gb_transfer * MONTH_S
    extra_permille = max(0, prices.bonus_permille - PERMILLE)
    return round_half_even((storage + transfer) * extra_permille, GB * MONTH_S * PERMILLE)


def charge(prices: Prices, usage: Usage, *, with_bonus: bool) -> Charges:
    """Price what was used.

    Args:
        prices: of the contract revision that was in force.
        usage: exact counters.
        with_bonus: whether the uptime of the period earns the bonus.
    """
    return Charges(
        storage=storage_price(usage.byte_seconds, prices.micro_vibe_per_gb_month),
        transfer=transfer_price(usage.transfer_bytes, prices.micro_vibe_per_gb_transfer),
        bonus=bonus_price(prices, usage) if with_bonus else 0,
    )


@dataclass(frozen=True)
class Quote:
    """The three figures that a customer must see before agreeing, in micro-VIBE.

    Args:
        price: without the bonus.
        bonus: what high uptime would add.
        customer_pays_bonus: whether it would be added to the customer's price.
    """

    price: int
    bonus: int
    customer_pays_bonus: bool

    @property
    def provider_earns_at_most(self) -> int:
        """What the provider earns with the bonus."""
        return self.price + self.bonus

    @property
    def customer_pays_at_most(self) -> int:
        """The largest price that the customer can owe."""
        return self.price + (self.bonus if self.customer_pays_bonus else 0)


def quote(
    prices: Prices,
    *,
    stored_bytes: int,
    duration_s: int,
    transfer_bytes: int = 0,
    customer_pays_bonus: bool = False,
) -> Quote:
    """Tell what a service will cost.

    Args:
        prices: of the offer or contract.
        stored_bytes: kept for the whole time.
        duration_s: seconds.
        transfer_bytes: both directions together.
        customer_pays_bonus: whether the contract names the customer as payer of the bonus.
    """
    usage = Usage(stored_bytes * duration_s, transfer_bytes)
    charges = charge(prices, usage, with_bonus=True)
    return Quote(charges.price, charges.bonus, customer_pays_bonus)


def format_vibe(micro_vibe: int) -> str:
    """Write an amount exactly: "15.75", "0.000001", "-2"."""
    whole, rest = divmod(abs(micro_vibe), MICRO_VIBE)
    text = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if micro_vibe < 0 else text


def format_dollars(micro_vibe: int) -> str:
    """Write an amount in US dollars, rounded half to even to a hundredth of a cent: "$0.1575"."""
    amount = round_half_even(abs(micro_vibe), MICRO_VIBE // 100)
    sign = "-" if micro_vibe < 0 and amount else ""
    return f"{sign}${amount // 10_000}.{amount % 10_000:04d}"
