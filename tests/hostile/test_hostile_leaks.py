"""What a provider and the logs get to see, what hostile names do, and a database from yesterday."""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hostile_world import MARKER, HostileWorld

from sovereign_devnet.program import command_line, environment

pytestmark = [pytest.mark.slow, pytest.mark.processes]

HOSTILE_NAMES = [
    b"\x1b[2J\x1b]0;owned\x07",
    b"two\nlines",
    b"carriage\rreturn",
    "\u202egpj.exe".encode(),
    b"-rf",
    b"--to",
    b" ",
    b"CON",
    b"a\\b",
    b"C:x",
    b"dot.",
    b"...",
    b"[bold]x",
    b"$(touch x)",
    b"<script>",
    b"not utf-8 \xff\xfe",
    "e\u0301".encode(),
    "\u00e9".encode(),
    b"n" * 255,
]


def needles() -> list[bytes]:
    """The marker in the forms in which it might be stored."""
    text = MARKER.encode()
    return [text, MARKER.encode("utf-16-le"), text.hex().encode(), text[::-1]]


def contents(folder: Path) -> list[tuple[Path, bytes]]:
    return [(path, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]


def test_no_byte_of_the_marker_leaves_the_laptop(world: HostileWorld) -> None:
    world.write(300_000)
    world.back_up()
    stored = contents(world.provider.data_dir.root)
    assert sum(len(data) for _, data in stored) > 300_000
    logs = [(member.log_file, member.log_file.read_bytes()) for member in world.cluster.members.values()]
    found = [path for path, data in stored + logs if any(needle in data for needle in needles())]
    assert found == []
    assert [path for path, _ in stored if MARKER in path.name] == []
    # The search works: the marker is in the laptop's own database, which names its files.
    own = b"".join(data for _, data in contents(world.laptop.data_dir.root))
    assert MARKER.encode() in own
    # The passphrase is nowhere, not even there.
    assert f"{MARKER} passphrase".encode() not in own


def test_hostile_names_come_back_and_steer_no_terminal(world: HostileWorld, tmp_path: Path) -> None:
    source = tmp_path / "names"
    source.mkdir()
    for number, name in enumerate(HOSTILE_NAMES):
        (Path(os.fsdecode(bytes(source))) / os.fsdecode(name)).write_text(str(number))
    world.laptop.run("protect", str(source), "--name", "hostile-names")
    world.laptop.run("backup", "hostile-names")
    shown = subprocess.run(
        command_line(world.laptop.data_dir.root, "ls", "hostile-names", as_json=False),
        capture_output=True,
        env=environment(),
        check=True,
    ).stdout.decode()
    steering = {letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cf") and letter != "\n"}
    assert steering == set()
    assert not any(line.strip() == "lines" for line in shown.splitlines())
    target = tmp_path / "restored"
    world.laptop.run("restore", "hostile-names", "--to", str(target))
    restored = {os.fsencode(path.name): path.read_text() for path in target.iterdir()}
    assert restored == {name: str(number) for number, name in enumerate(HOSTILE_NAMES)}


def test_a_database_from_yesterday_costs_no_snapshot(world: HostileWorld, tmp_path: Path) -> None:
    laptop = world.laptop
    world.back_up()
    laptop.stop()
    yesterday = tmp_path / "yesterday"
    shutil.copytree(laptop.data_dir.root, yesterday)
    laptop.up()
    world.write(50_000)
    world.back_up()
    newest = {item["id"] for item in laptop.run("snapshots", f"{MARKER}-project")}
    laptop.stop()
    shutil.rmtree(laptop.data_dir.root)
    shutil.copytree(yesterday, laptop.data_dir.root)
    laptop.up()
    world.write(60_000)
    world.back_up()
    # Nothing of what the forgotten day wrote is lost or overwritten, and the history has no fork.
    snapshots = {item["id"] for item in laptop.run("snapshots", f"{MARKER}-project")}
    assert newest < snapshots
    report = laptop.run("verify", f"{MARKER}-project", "--read-data")
    assert report["errors"] == []
    target = tmp_path / "restored"
    laptop.run("restore", f"{MARKER}-project", "--to", str(target))
    wanted = {path.name: path.read_bytes() for path in world.source.iterdir()}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == wanted
