"""`sovereign-devnet` as a program: a network in one terminal, commands in another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovereign_devnet.cli import main
from sovereign_devnet.processes import arguments_of

PROGRAM = [sys.executable, "-m", "sovereign_devnet.cli"]


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    folder = tmp_path_factory.mktemp("terminal") / "network"
    words = ["up", "--providers", "1", "--servers", "0", "--mobiles", "1", "--dir", str(folder)]
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert lines[-1].startswith("Ctrl-C"), lines
        yield process, folder
        process.send_signal(signal.SIGINT)


def rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["status", "--dir", str(folder), "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


@pytest.mark.processes
@pytest.mark.slow
def test_faults_from_another_terminal(
    terminal: tuple[subprocess.Popen[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process, folder = terminal
    at = ["--dir", str(folder)]
    before = rows(folder, capfd)
    assert {name: row["state"] for name, row in before.items()} == {"provider-1": "up", "mobile-1": "up"}
    assert main(["status", *at]) == 0
    assert before["provider-1"]["peer_id"] in capfd.readouterr().out

    assert main(["pause", "provider-1", *at]) == 0
    assert rows(folder, capfd)["provider-1"]["state"] == "silent"
    assert main(["resume", "provider-1", *at]) == 0
    assert rows(folder, capfd)["provider-1"]["state"] == "up"

    (tmp_path / "file").write_bytes(os.urandom(100_000))
    assert main(["exec", "mobile-1", *at, "--", "protect", str(tmp_path / "file"), "--name", "docs"]) == 0
    assert main(["exec", "mobile-1", *at, "--", "backup", "docs"]) == 0
    assert main(["corrupt-chunk", "provider-1", *at, "--json"]) == 0
    capfd.readouterr()
    assert main(["exec", "mobile-1", *at, "--", "verify", "docs", "--read-data"]) == 9

    assert main(["kill", "provider-1", *at]) == 0
    assert rows(folder, capfd)["provider-1"]["state"] == "down"
    assert main(["kill", "provider-1", *at]) == 1
    assert "not running" in capfd.readouterr().err
    # Who starts it again ends at once; the node goes on.
    assert subprocess.run([*PROGRAM, "start", "provider-1", *at], check=False).returncode == 0
    after = rows(folder, capfd)["provider-1"]
    assert after["state"] == "up"
    assert after["pid"] != before["provider-1"]["pid"]
    assert after["address"] == before["provider-1"]["address"]

    assert main(["up", *at]) == 1
    assert "runs in" in capfd.readouterr().err
    assert process.poll() is None


@pytest.mark.processes
@pytest.mark.slow
def test_down_stops_the_terminal_and_all_nodes(
    terminal: tuple[subprocess.Popen[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    process, folder = terminal
    pids = [row["pid"] for row in rows(folder, capfd).values()]
    started = time.monotonic()
    assert main(["down", "--dir", str(folder)]) == 0
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - started < 4
    assert not any(arguments_of(pid) for pid in pids)
    assert {row["state"] for row in rows(folder, capfd).values()} == {"down"}
    # Once more is no error.
    assert main(["down", "--dir", str(folder)]) == 0


def test_mistakes_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--dir", str(tmp_path)]) == 1
    assert "sovereign-devnet up --dir" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["demo", "--dir", str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main(["up", "--providers", "9", "--mobiles", "9", "--dir", str(tmp_path / "new")]) == 1
    assert "at most 12" in capsys.readouterr().err
    assert main(["explode"]) == 2
    (tmp_path / "devnet.json").write_text('[{"name": "one", "roles": ["mobile"], "peer_id": "12D3"}]')
    assert main(["kill", "two", "--dir", str(tmp_path)]) == 1
    assert "there are one" in capsys.readouterr().err
    assert main(["pause", "one", "--dir", str(tmp_path)]) == 1
    assert "one is not running" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["up", "demo", "chaos", "status", "kill", "corrupt-chunk", "exec", "down", "bench"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--" in capsys.readouterr().out


def test_help_needs_no_network_stack() -> None:
    code = (
        "import sys; from sovereign_devnet.cli import main; main(['--help'])\n"
        "sys.exit(bool({'libp2p', 'trio', 'rich.table'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
