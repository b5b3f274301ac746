"""`sovereign-devnet up --only-nats`: nodes whose one way to each other is a NATS server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovereign_devnet.cli import main
from sovereign_devnet.nats_process import NatsProcess, has_nats, stop_leftover
from sovereign_devnet.processes import arguments_of, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

UP = [sys.executable, "-m", "sovereign_devnet.cli", "up", "--servers", "0"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a network of one provider and one laptop that runs in another terminal."""
    folder = tmp_path / "network"
    with start(folder, "--only-nats") as process:
        yield folder
        process.send_signal(signal.SIGINT)
    assert not stop_leftover(folder)


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([*UP, *options, "--dir", str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            return process
    raise AssertionError(f"the network did not start: {lines}")


def run(folder: Path, capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    capfd.readouterr()
    assert main(["exec", "mobile-1", "--dir", str(folder), "--", *words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def server_pid(folder: Path) -> int:
    return int((folder / "nats.pid").read_text("ascii"))


def test_a_network_with_nothing_but_nats(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "noise").write_bytes(os.urandom(6_000_000))

    wait_until(lambda: bool(run(folder, capfd, "peers")), 20, "meeting at the NATS server")
    assert {item["path"] for item in run(folder, capfd, "peers")} == {"nats"}
    run(folder, capfd, "protect", str(source), "--name", "docs")
    assert run(folder, capfd, "backup", "docs")["errors"] == []
    assert run(folder, capfd, "verify", "docs", "--read-data")["errors"] == []
    run(folder, capfd, "restore", "docs", "--to", str(tmp_path / "restored"))
    assert (tmp_path / "restored" / "noise").read_bytes() == (source / "noise").read_bytes()

    pid = server_pid(folder)
    assert arguments_of(pid)
    assert main(["down", "--dir", str(folder)]) == 0
    assert not arguments_of(pid)
    # Started again, it is the network that it was.
    assert has_nats(folder)
    with start(folder) as process:
        wait_until(lambda: bool(run(folder, capfd, "peers")), 20, "meeting again")
        process.kill()
    # Whose terminal is gone, leaves nothing behind either.
    assert main(["down", "--dir", str(folder)]) == 0
    assert not arguments_of(server_pid(folder))


def test_a_server_keeps_its_port_and_is_not_left_over(tmp_path: Path) -> None:
    assert not has_nats(tmp_path)
    server = NatsProcess(tmp_path)
    url, pid = server.url, server_pid(tmp_path)
    server.stop()
    server.stop()
    assert not arguments_of(pid)
    server.start()
    assert server.url == url
    # A second one for the same folder takes the place of a first one that nobody looks after.
    second = NatsProcess(tmp_path)
    assert second.url == url
    server.stop()
    second.stop()
    assert not arguments_of(server_pid(tmp_path))
