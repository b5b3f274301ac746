"""SIGKILL of client and provider in the middle of backups loses nothing that was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sovereign_devnet.chaos import ChaosOptions, run_chaos

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_kills_in_the_middle_of_backups(tmp_path: Path) -> None:
    report = run_chaos(ChaosOptions(tmp_path, rounds=6, seed=7))
    assert [check for check in report.checks if not check.ok] == []
    assert report.ok
    # A kill that comes too late tests nothing.
    assert not report.figures["backups_killed_before_their_end"].startswith("0 ")
