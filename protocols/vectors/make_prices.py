"""Writes prices.json from the rules of the specification, with rational numbers instead of the code under test."""

import json
from fractions import Fraction
from pathlib import Path

GB = 10**9
MONTH_S = 720 * 3600
VIBE = 10**6


def half_even(value: Fraction) -> int:
    """Python rounds fractions half to even."""
    return round(value)


def case(
    name: str, *, bytes_stored: int, seconds: int, moved: int, prices: tuple[int, int, int], copies: int = 1
) -> dict:
    """Price one customer's usage and multiply by the number of equal customers."""
    per_month, per_transfer, permille = prices
    storage = Fraction(bytes_stored * seconds * per_month, GB * MONTH_S)
    transfer = Fraction(moved * per_transfer, GB)
    bonus = (storage + transfer) * Fraction(permille - 1000, 1000)
    lines = [half_even(storage), half_even(transfer), half_even(bonus)]
    return {
        "name": name,
        "customers": copies,
        "byte_seconds": str(bytes_stored * seconds),
        "transfer_bytes": moved,
        "micro_vibe_per_gb_month": per_month,
        "micro_vibe_per_gb_transfer": per_transfer,
        "bonus_permille": permille,
        "storage_micro_vibe": lines[0],
        "transfer_micro_vibe": lines[1],
        "bonus_micro_vibe": lines[2],
        "price_micro_vibe_of_all": copies * (lines[0] + lines[1]),
        "earnings_micro_vibe_of_all": copies * sum(lines),
    }


LIST = (2 * VIBE, VIBE // 2, 1500)
CASES = [
    case("5 GB stored one month", bytes_stored=5 * GB, seconds=MONTH_S, moved=0, prices=LIST),
    case("1 GB transferred", bytes_stored=0, seconds=0, moved=GB, prices=LIST),
    case("5 GB stored and 1 GB transferred", bytes_stored=5 * GB, seconds=MONTH_S, moved=GB, prices=LIST),
    *[
        case(f"{n} customers", bytes_stored=5 * GB, seconds=MONTH_S, moved=GB, prices=LIST, copies=n)
        for n in (10, 100, 1000)
    ],
    case("own devices and friends", bytes_stored=5 * GB, seconds=MONTH_S, moved=GB, prices=(0, 0, 1000)),
    case("a half to the even neighbour below", bytes_stored=0, seconds=0, moved=1000, prices=(0, 500_000, 1000)),
    case("a half to the even neighbour above", bytes_stored=0, seconds=0, moved=3000, prices=(0, 500_000, 1000)),
    case("just below a half", bytes_stored=0, seconds=0, moved=2999, prices=(0, 500_000, 1000)),
    case("one byte for one second", bytes_stored=1, seconds=1, moved=1, prices=LIST),
    case("a bonus from exact usage, not from rounded lines", bytes_stored=648, seconds=1000, moved=1, prices=LIST),
    case("4 EB for five years", bytes_stored=4 * 10**18, seconds=5 * 366 * 86400, moved=10**18, prices=LIST),
]

if __name__ == "__main__":
    document = {"spec": "protocols/specs/prices.md", "cases": CASES}
    text = json.dumps(document, indent=1) + "\n"
    Path(__file__).with_name("prices.json").write_text(text, encoding="utf-8")
