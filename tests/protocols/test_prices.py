"""The arithmetic of money against its vectors and against rational numbers."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.market import prices as p

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors" / "prices.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
FIVE_GB_MONTH = p.Usage(5 * p.GB * p.MONTH_S, 0)
BOTH = p.Usage(5 * p.GB * p.MONTH_S, p.GB)
amounts = st.integers(0, 10**12)
usages = st.builds(p.Usage, st.integers(0, 10**30), st.integers(0, 10**20))
price_sets = st.builds(p.Prices, amounts, amounts, st.integers(1000, 10_000))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_vectors(case) -> None:
    prices = p.Prices(case["micro_vibe_per_gb_month"], case["micro_vibe_per_gb_transfer"], case["bonus_permille"])
    usage = p.Usage(int(case["byte_seconds"]), case["transfer_bytes"])
    charges = p.charge(prices, usage, with_bonus=True)
    assert charges.storage == case["storage_micro_vibe"]
    assert charges.transfer == case["transfer_micro_vibe"]
    assert charges.bonus == case["bonus_micro_vibe"]
    assert charges.price * case["customers"] == case["price_micro_vibe_of_all"]
    assert charges.earnings * case["customers"] == case["earnings_micro_vibe_of_all"]


def test_the_published_examples() -> None:
    assert p.charge(p.LIST_PRICES, FIVE_GB_MONTH, with_bonus=False).price == 10_000_000
    assert p.charge(p.LIST_PRICES, p.Usage(0, p.GB), with_bonus=False).price == 500_000
    charges = p.charge(p.LIST_PRICES, BOTH, with_bonus=True)
    assert (charges.price, charges.earnings) == (10_500_000, 15_750_000)
    assert [n * charges.earnings for n in (10, 100, 1000)] == [157_500_000, 1_575_000_000, 15_750_000_000]
    assert p.charge(p.FREE, BOTH, with_bonus=True).earnings == 0


@given(st.integers(0, 10**40), st.integers(1, 10**20))
def test_rounding_is_half_even(numerator: int, denominator: int) -> None:
    assert p.round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(("numerator", "denominator"), [(-1, 2), (1, 0), (1, -1)])
def test_rounding_refuses_what_is_no_amount(numerator: int, denominator: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        p.round_half_even(numerator, denominator)


@given(price_sets, usages, st.booleans())
def test_every_line_is_within_half_a_micro_vibe(prices: p.Prices, usage: p.Usage, with_bonus: bool) -> None:
    charges = p.charge(prices, usage, with_bonus=with_bonus)
    storage = Fraction(usage.byte_seconds * prices.micro_vibe_per_gb_month, p.GB * p.MONTH_S)
    transfer = Fraction(usage.transfer_bytes * prices.micro_vibe_per_gb_transfer, p.GB)
    bonus = (storage + transfer) * Fraction(prices.bonus_permille - 1000, 1000) if with_bonus else 0
    for line, exact in ((charges.storage, storage), (charges.transfer, transfer), (charges.bonus, bonus)):
        assert abs(line - exact) <= Fraction(1, 2)


@given(price_sets, usages, usages)
def test_more_usage_never_costs_less(prices: p.Prices, first: p.Usage, more: p.Usage) -> None:
    both = p.Usage(first.byte_seconds + more.byte_seconds, first.transfer_bytes + more.transfer_bytes)
    assert p.charge(prices, both, with_bonus=True).earnings >= p.charge(prices, first, with_bonus=True).earnings


@pytest.mark.parametrize(
    ("good", "observed", "total", "earned"),
    [
        (4320, 4320, 4320, True),
        (4316, 4320, 4320, True),
        (4315, 4320, 4320, False),
        (3456, 3456, 4320, True),
        (3455, 3455, 4320, False),
        (0, 0, 0, False),
        (0, 0, 4320, False),
    ],
)
def test_uptime_that_earns_the_bonus(good: int, observed: int, total: int, earned: bool) -> None:
    assert p.UptimeCount(good, observed, total).earns_bonus is earned


def test_a_quote_shows_three_figures() -> None:
    offered = p.quote(p.LIST_PRICES, stored_bytes=5 * p.GB, duration_s=p.MONTH_S, transfer_bytes=p.GB)
    assert (offered.price, offered.bonus, offered.provider_earns_at_most) == (10_500_000, 5_250_000, 15_750_000)
    assert offered.customer_pays_at_most == 10_500_000
    paid = p.quote(
        p.LIST_PRICES,
        stored_bytes=5 * p.GB,
        duration_s=p.MONTH_S,
        transfer_bytes=p.GB,
        customer_pays_bonus=True,
    )
    assert paid.customer_pays_at_most == 15_750_000


@pytest.mark.parametrize(
    ("micro_vibe", "vibe", "dollars"),
    [
        (15_750_000, "15.75", "$0.1575"),
        (0, "0", "$0.0000"),
        (1, "0.000001", "$0.0000"),
        (-2_000_000, "-2", "-$0.0200"),
        (-1, "-0.000001", "$0.0000"),
        (10_000_000_000, "10000", "$100.0000"),
    ],
)
def test_amounts_as_text(micro_vibe: int, vibe: str, dollars: str) -> None:
    assert p.format_vibe(micro_vibe) == vibe
    assert p.format_dollars(micro_vibe) == dollars
