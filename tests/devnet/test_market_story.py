"""The hurried market, a few days of it; its whole length is run by command."""

import json

import pytest

from sovereign_devnet.cli import main
from sovereign_devnet.market.world import ScaledClock


async def test_the_clock_moves_by_the_story_and_not_too_fast(autojump_clock) -> None:
    clock = ScaledClock(1000, 0)
    await clock.advance(600)
    assert clock() == 1600
    assert clock.reached_speed > 0


@pytest.mark.slow
def test_a_week_of_the_market(tmp_path, capsys) -> None:
    code = main(
        ["market", "--months", "0", "--days", "7", "--speed", "0", "--dir", str(tmp_path / "net"), "--json"]
    )
    document = json.loads(capsys.readouterr().out)
    assert [check["claim"] for check in document["checks"] if not check["ok"]] == []
    assert code == 0
    claims = " ".join(check["claim"] for check in document["checks"])
    for person in ("dave", "frank", "flaky", "alice"):
        assert person in claims
    assert "10.5" in document["figures"]["5 GB and 1 GB moved"]


def test_time_must_pass(capsys) -> None:
    assert main(["market", "--months", "0"]) == 1
    assert "no time passes" in capsys.readouterr().err
