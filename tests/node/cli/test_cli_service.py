"""Service files for systemd and launchd."""

from __future__ import annotations

import plistlib
import sys
from pathlib import Path
from typing import Any

import pytest

from sovereign_node.cli.commands.service import unit_for
from sovereign_node.errors import NodeError

HOME = Path("/home/ann")


def test_systemd_runs_this_interpreter_on_the_data_directory() -> None:
    unit = unit_for("linux", HOME, Path("/data/100%/my $node"))
    assert unit.path == HOME / ".config/systemd/user/sovereign.service"
    assert (
        f"ExecStart={sys.executable} -m sovereign_node.cli.main up --data-dir '/data/100%%/my $$node'" in unit.text
    )
    assert "systemctl --user enable --now sovereign" in unit.start


def test_launchd_gets_a_property_list() -> None:
    unit = unit_for("darwin", HOME, Path("/data/<a & b>"))
    document = plistlib.loads(unit.text.encode())
    assert document["ProgramArguments"][-2:] == ["--data-dir", "/data/<a & b>"]
    assert unit.path.name == f"{document['Label']}.plist"


def test_other_platforms_are_told() -> None:
    with pytest.raises(NodeError, match="not supported on win32"):
        unit_for("win32", HOME, Path("/x"))


def test_install_prints_unless_told_to_write(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    path = tmp_path / ".config/systemd/user/sovereign.service"
    printed = cli("service", "install")
    assert "[Service]" in printed.out
    assert not path.exists()
    assert "Not installed" in cli("service", "status").out
    written = cli("service", "install", "--write", "--json")
    assert written.document["written"]
    assert path.read_text() == written.document["content"] == printed.out
    assert "systemctl --user enable" in written.err
    assert cli("service", "status", "--json").document["installed"]
    assert "with --write" in cli("service", "uninstall").out
    assert path.exists()
    assert "Deleted" in cli("service", "uninstall", "--write").out
    assert not path.exists()


def test_status_asks_the_service_manager(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    cli("service", "install", "--write")
    manager = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Installed, not running" in cli("service", "status").out
    manager.write_text("#!/bin/sh\nexit 0\n")
    manager.chmod(0o755)
    assert "Running" in cli("service", "status").out
