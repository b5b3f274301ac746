"""A dead network, a device that sleeps and one that dies: local work goes on, and what waits goes out."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sovereign_devnet.checks import compare_trees
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.member import Member
from sovereign_devnet.processes import wait_until
from sovereign_node.errors import NodeError

pytestmark = [pytest.mark.processes, pytest.mark.slow]

# A peer that nobody is: the address leads somewhere, the identity does not answer there.
NOBODY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
# No call may take longer on a network that swallows everything; on a quiet machine none takes three seconds but the
# first that asks for a peer, which takes ten at most.
BOUND_S = 15.0
PRESENCE_S = 60.0
WAKE_S = 10.0


@dataclass(frozen=True)
class Home:
    """A provider, and two devices of one identity: a laptop and a desktop that is always on."""

    cluster: Cluster
    disk: Member
    laptop: Member
    desk: Member

    def folder(self, name: str) -> Path:
        folder = self.cluster.folder / "sources" / name
        folder.mkdir(parents=True)
        (folder / "noise").write_bytes(os.urandom(1_000_000))
        return folder

    def sees(self, name: str) -> bool:
        """Whether the laptop says that a device is on line."""
        return {row["name"]: row["is_online"] for row in self.laptop.call("devices")}[name]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Cluster(tmp_path_factory.mktemp("home")) as cluster:
        disk = cluster.create("disk", ["provider"], capacity="1GB")
        bootstrap = cluster.up(disk)[0]["addresses"]
        laptop = cluster.create("laptop", ["mobile"], bootstrap=bootstrap)
        cluster.up(laptop)
        laptop.run("contract", "open", disk.call("status")["peer_id"], "--capacity", "200MB")
        desk = cluster.join("desk", ["server"], laptop.kit_file, bootstrap=bootstrap)
        cluster.up(desk)
        home = Home(cluster, disk, laptop, desk)
        wait_until(lambda: "desk" in {row["name"] for row in laptop.call("devices")}, 60, "learning of the desktop")
        yield home


@contextmanager
def silent(port: int = 0) -> Iterator[int]:
    """Listen and say nothing: a connection is made, and then nothing ever comes."""
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        yield listener.getsockname()[1]


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["name"] for row in rows}


def test_presence_follows_a_device_that_sleeps_and_it_is_back_at_once(home: Home) -> None:
    wait_until(lambda: home.sees("desk"), PRESENCE_S, "the desktop coming on line")
    home.desk.pause()
    try:
        wait_until(lambda: not home.sees("desk"), PRESENCE_S, "noticing that the desktop is silent")
        asleep = {row["name"]: row for row in home.laptop.call("devices")}["desk"]
        assert time.time() - asleep["last_seen"] < PRESENCE_S
    finally:
        home.desk.resume()
    wait_until(lambda: {"disk", "laptop"} <= names(home.desk.call("peers")), WAKE_S, "reconnecting after sleep")
    wait_until(lambda: home.sees("desk"), PRESENCE_S, "noticing that the desktop is back")


def test_presence_follows_a_device_that_dies(home: Home) -> None:
    wait_until(lambda: home.sees("desk"), PRESENCE_S, "the desktop coming on line")
    home.desk.kill()
    wait_until(lambda: not home.sees("desk"), PRESENCE_S, "noticing that the desktop is dead")


class Stopwatch:
    """Asks a node through its local API, and keeps how long each answer took."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.took_s: dict[str, float] = {}

    def call(self, operation: str, **parameters: Any) -> Any:
        return self._measured(operation, lambda: self._member.call(operation, **parameters))

    def stream(self, operation: str, **parameters: Any) -> Any:
        return self._measured(operation, lambda: self._member.stream(operation, **parameters))

    def _measured(self, operation: str, ask: Callable[[], Any]) -> Any:
        started = time.monotonic()
        try:
            return ask()
        finally:
            self.took_s[operation] = max(self.took_s.get(operation, 0), time.monotonic() - started)


def test_on_a_dead_network_local_work_goes_on_and_waits_for_its_turn(home: Home, tmp_path: Path) -> None:
    laptop, watch = home.laptop, Stopwatch(home.laptop)
    laptop.call("protect", path=str(home.folder("before")))
    laptop.stream("backup", project="before")
    provider_port = int(home.disk.address().split("/tcp/")[1].split("/")[0])
    laptop.stop()
    home.disk.stop()
    with ExitStack() as exits:
        # The provider's address swallows everything, as a firewall does; so does a bootstrap node; another is dead.
        exits.enter_context(silent(provider_port))
        deaf = exits.enter_context(silent())
        with silent() as refused:
            pass
        dead = [f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}" for port in (deaf, refused)]
        laptop.up(bootstrap=dead)
        sources = {name: home.folder(name) for name in ("older", "newer")}
        for name, source in sources.items():
            watch.call("protect", path=str(source))
            assert watch.stream("backup", project=name)["queued"]
        assert [row["path"] for row in watch.call("ls", project="older")] == ["noise"]
        assert len(watch.call("snapshots", project="older")) == 1
        assert watch.stream("restore", project="older", to=str(tmp_path / "older"))["errors"] == []
        assert compare_trees(sources["older"], tmp_path / "older") == []
        assert watch.call("peers") == watch.call("offers") == []
        with pytest.raises(NodeError, match="can't be reached"):
            watch.call("ping", peer="disk")
        with pytest.raises(NodeError):
            watch.stream("restore", project="before", to=str(tmp_path / "before"))
        for operation in ("project_list", "devices", "contract_list", "wallet", "limits", "config_show"):
            watch.call(operation)
        check_that_it_is_told(watch.call("status")["waiting"], watch.call("doctor")["findings"])
        # Killed, not stopped: the queue is on disk.
        laptop.kill()
        laptop.up(bootstrap=dead)
        assert [item["project"] for item in laptop.call("status")["waiting"]] == ["older", "newer"]
    assert max(watch.took_s.values()) < BOUND_S, watch.took_s

    home.disk.up()
    wait_until(lambda: not laptop.call("status")["waiting"], PRESENCE_S, "sending what waited")
    for name in ("before", "older", "newer"):
        assert laptop.stream("verify", project=name, read_data_percent=100.0)["errors"] == []


def check_that_it_is_told(waiting: list[dict[str, Any]], findings: list[dict[str, Any]]) -> None:
    assert [item["project"] for item in waiting] == ["older", "newer"]
    for item in waiting:
        assert [peer["name"] for peer in item["waits_for"]] == ["disk"]
        assert item["reason"] == "off line: disk"
        assert item["bytes"] > 1_000_000
        assert 0 <= time.time() - item["since"] < 60
        assert item["next_try_at"] is not None
    told = [finding for finding in findings if finding["check"] == "waiting"]
    assert len(told) == 2
    assert all("for disk" in finding["message"] and finding["next_step"] for finding in told)
    assert {finding["check"] for finding in findings} >= {
        "listen",
        "nat",
        "dht",
        "disk",
        "kit",
        "clock",
        "contracts",
    }
