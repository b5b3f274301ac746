"""The main promise on real processes: everything comes back from the recovery kit alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sovereign_devnet.cli import main

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_the_story_of_the_lost_laptop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "story"
    exit_code = main(["demo", "--quick", "--json", "--keep", "--dir", str(folder)])
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert [check for check in report["checks"] if not check["ok"]] == []
    assert exit_code == 0
    assert report["ok"]
    assert report["folder"] == str(folder)
    assert len(report["checks"]) >= 20
    assert "VIBE" in report["figures"]["storage_costs"]
    assert "$" in report["figures"]["storage_costs"]
    # What happens is told as it happens, apart from the document.
    assert "Destroy the laptop" in told.err
    # Nothing is left running: what holds a lock could not be locked here.
    for name in ("provider", "studio", "laptop", "new laptop"):
        assert not (folder / "nodes" / name / "run" / "api.json").exists()
