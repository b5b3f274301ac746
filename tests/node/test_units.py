"""Quantities as people write and read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_node import units


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("5GB", 5_000_000_000),
        ("5 gb", 5_000_000_000),
        (" 1.5TB ", 1_500_000_000_000),
        (".5KB", 500),
        ("512MiB", 512 * 1024**2),
        ("1PB", 10**15),
        ("7B", 7),
        ("1PiB", 1024**5),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "GB", "-5GB", "5 XB", "5G B", "1.5", "0.0001KB", "5GB!", "1e9", "٥GB", "5%", "9" * 40]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size: write for example"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 KB"),
        (9994, "9.99 KB"),
        (9996, "10.0 KB"),
        (99_960, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (1_234_567_890, "1.23 GB"),
        (5 * 10**17, "500 PB"),
        (5 * 10**20, "500000 PB"),
        (-1500, "-1.50 KB"),
    ],
)
def test_sizes_have_three_digits(size_bytes: int, text: str) -> None:
    assert units.format_size(size_bytes) == text


@given(st.integers(0, 10**18))
def test_a_formatted_size_is_read_back_within_its_precision(size_bytes: int) -> None:
    text = units.format_size(size_bytes)
    assert abs(units.parse_size(text) - size_bytes) <= size_bytes * 0.006


def test_rates() -> None:
    assert units.format_rate(12_340_000.7) == "12.3 MB/s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15min", 900),
        ("12h", 43_200),
        ("30d", 2_592_000),
        ("8w", 4_838_400),
        ("6mo", 15_552_000),
        ("1y6mo", 47_088_000),
        ("1d 12H", 129_600),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5m", "d", "-5d", "1d!", "1.5d", "d5", "99999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.04, "40 ms"),
        (0.44, "0.4 s"),
        (3, "3 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (754, "12 min 34 s"),
        (3599.7, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(("text", "percent"), [("10%", 10.0), ("2.5 %", 2.5), ("100", 100.0), ("0", 0.0)])
def test_percentages(text: str, percent: float) -> None:
    assert units.parse_percent(text) == percent


@pytest.mark.parametrize("text", ["", "101%", "-1%", "ten", "10%%", "10 percent"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a percentage"):
        units.parse_percent(text)


@pytest.mark.parametrize(
    ("text", "micro_vibe"),
    [
        ("2", 2_000_000),
        ("0.5 VIBE", 500_000),
        ("10.5vibe", 10_500_000),
        ("0.000001", 1),
        ("$0.02", 2_000_000),
        ("$1", 100_000_000),
        ("$0.00000001", 1),
    ],
)
def test_amounts(text: str, micro_vibe: int) -> None:
    assert units.parse_vibe(text) == micro_vibe


@pytest.mark.parametrize("text", ["", "-2", "2 EUR", "$2 VIBE", "0.0000001", "$0.000000001", "2%", "two"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        units.parse_vibe(text)


@given(st.integers(0, 10**15))
def test_amounts_are_shown_exactly(micro_vibe: int) -> None:
    assert units.parse_vibe(units.format_vibe(micro_vibe)) == micro_vibe


@pytest.mark.parametrize(
    ("micro_vibe", "vibe", "dollars"),
    [
        (0, "0 VIBE", "$0.00"),
        (2_000_000, "2 VIBE", "$0.02"),
        (10_500_000, "10.5 VIBE", "$0.105"),
        (15_750_000, "15.75 VIBE", "$0.1575"),
        (500_000, "0.5 VIBE", "$0.005"),
        (1, "0.000001 VIBE", "$0.00000001"),
        (12_345, "0.012345 VIBE", "$0.00012"),
        (-2_500_000, "-2.5 VIBE", "-$0.025"),
        (123_456_000_000, "123456 VIBE", "$1,234.56"),
    ],
)
def test_amounts_in_both_units(micro_vibe: int, vibe: str, dollars: str) -> None:
    assert units.format_vibe(micro_vibe) == vibe
    assert units.format_dollars(micro_vibe) == dollars
    assert units.format_price(micro_vibe) == f"{vibe} ({dollars})"


@pytest.fixture
def _in_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_in_utc")
def test_times_are_those_of_this_machine() -> None:
    assert units.format_time(1_800_000_000) == "2027-01-15 08:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (9, "just now"),
        (60, "60 s ago"),
        (120, "2 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 days ago"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert units.format_age(1000, 1000 + seconds) == text


def test_counts() -> None:
    assert units.format_count(1, "file") == "1 file"
    assert units.format_count(1234, "file") == "1,234 files"
    assert units.format_count(2, "more", "more") == "2 more"
