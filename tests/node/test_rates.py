"""Limits as users write them."""

from datetime import datetime

import pytest

from sovereign_node.config import Config, NetConfig, check_config
from sovereign_node.errors import NodeError
from sovereign_node.rates import Rates, parse_peer_limit, parse_period
from sovereign_node.services.traffic import limits_at

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


def at(day: int, time: str) -> datetime:
    """Return a moment; day 0 is a Monday."""
    hour, minute = map(int, time.split(":"))
    return datetime(2026, 3, 2 + day, hour, minute).astimezone()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-18:00 up=1KB", [(0, "08:00"), (6, "17:59")], [(0, "07:59"), (3, "18:00")]),
        (
            "22:00-06:00 up=0",
            [(0, "22:00"), (1, "05:59"), (0, "05:00"), (6, "23:59")],
            [(0, "21:59"), (2, "06:00")],
        ),
        ("mon-fri 08:00-18:00 up=1", [(0, "12:00"), (4, "12:00")], [(5, "12:00"), (6, "12:00")]),
        ("SAT-MON 20:00-02:00 down=1", [(5, "20:00"), (0, "23:00"), (1, "01:59")], [(1, "20:00"), (5, "01:00")]),
        ("sun 00:00-00:00 up=1 down=2MB/s", [(6, "00:00"), (6, "23:59")], [(0, "00:00"), (5, "23:59")]),
    ],
)
def test_periods_hold_at_their_times(text, inside, outside):
    period = parse_period(text)
    assert all(period.holds_at(at(*moment)) for moment in inside)
    assert not any(period.holds_at(at(*moment)) for moment in outside)


@pytest.mark.parametrize(
    "text",
    [
        *["", "mon", "8:00-18:00 up=1", "08:00-18:00", "08:00-24:00 up=1", "someday 08:00-18:00 up=1"],
        *["08:00-18:00 up=fast", "08:00-18:00 up=1 up=2", "08:00-18:00 left=1", "mon-some 08:00-09:00 up=1"],
    ],
)
def test_periods_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="write for example"):
        parse_period(text)


def test_limits_of_peers():
    assert parse_peer_limit(f"{PEER} up=500KB") == (PEER, Rates(500_000, 0))
    assert parse_peer_limit(f"{PEER} down=1MiB up=0") == (PEER, Rates(0, 1 << 20))
    for text in ("studio up=1", PEER, f"{PEER} 500KB"):
        with pytest.raises(ValueError, match=r"peer id|write for example"):
            parse_peer_limit(text)


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("limit_schedule", ("always",), "limit_schedule"),
        ("peer_limits", ("me up=1",), "peer_limits"),
        ("metered", "maybe", "auto, yes, no"),
        ("max_connections", 5, "16 or more"),
    ],
)
def test_settings_are_checked_at_the_start(setting, value, word):
    with pytest.raises(NodeError) as caught:
        check_config(Config(net=NetConfig(**{setting: value})))
    assert word in f"{caught.value.message} {caught.value.hint}"


NET = NetConfig(
    upload_limit_bytes_per_s=1000,
    limit_schedule=("22:00-06:00 up=0", "12:00-23:00 up=500 down=700"),
    metered_upload_limit_bytes_per_s=300,
    metered_download_limit_bytes_per_s=900,
)
PERIODS = [parse_period(text) for text in NET.limit_schedule]


@pytest.mark.parametrize(
    ("time", "is_metered", "commanded", "rates", "reason"),
    [
        ("07:00", False, None, Rates(1000, 0), "settings"),
        ("13:00", False, None, Rates(500, 700), "schedule"),
        ("22:30", False, None, Rates(0, 0), "schedule"),
        ("13:00", False, Rates(1, 2), Rates(1, 2), "command"),
        ("07:00", True, None, Rates(300, 900), "settings"),
        ("13:00", True, None, Rates(300, 700), "schedule"),
        ("13:00", True, Rates(100, 0), Rates(100, 900), "command"),
    ],
)
def test_what_holds_when(time, is_metered, commanded, rates, reason):
    found = limits_at(NET, PERIODS, at(0, time), is_metered=is_metered, commanded=commanded)
    assert (found.rates, found.reason, found.is_metered) == (rates, reason, is_metered)
