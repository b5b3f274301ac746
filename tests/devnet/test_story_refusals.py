"""What a node refuses, and how: nothing is touched, and the message says what to do."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from sovereign_devnet.checks import hash_file
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.member import Member
from sovereign_node.errors import ExitCode

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.create("node", ["provider"], capacity="1GB")
        yield cluster


@pytest.fixture
def node(cluster: Cluster) -> Member:
    return cluster.members["node"]


def test_ctrl_c_stops_within_two_seconds_and_cleans_up(cluster: Cluster, node: Member) -> None:
    cluster.up(node)
    assert node.data_dir.api_file.exists()
    pid = node.pid
    assert pid is not None
    started = time.monotonic()
    os.kill(pid, signal.SIGINT)
    assert node._process is not None
    assert node._process.wait(timeout=10) == 0
    assert time.monotonic() - started < 2
    assert not node.data_dir.api_file.exists()
    assert "Traceback" not in node.log_tail(100_000)


def test_a_second_node_on_a_data_directory_is_refused_with_the_pid(cluster: Cluster, node: Member) -> None:
    cluster.up(node)
    try:
        second = node.attempt("up")
        assert second.exit_code == ExitCode.IN_USE
        assert str(node.pid) in second.error["message"]
        assert node.call("status")["pid"] == node.pid
    finally:
        assert node.stop()


def test_a_killed_node_starts_again(cluster: Cluster, node: Member) -> None:
    before = cluster.up(node)[0]
    node.kill()
    # The files of the killed process are still there.
    assert node.data_dir.api_file.exists()
    assert node.attempt("status").exit_code == ExitCode.NOT_RUNNING
    after = node.up()
    assert (after["peer_id"], after["addresses"]) == (before["peer_id"], before["addresses"])
    assert node.stop()


def test_state_of_a_newer_program_is_refused_untouched(cluster: Cluster, node: Member) -> None:
    state = node.data_dir.state
    with closing(sqlite3.connect(state)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version + 1000}")
        database.commit()
    before = hash_file(state)
    try:
        refused = node.attempt("up")
        assert refused.exit_code == ExitCode.STATE_TOO_NEW
        assert refused.error["hint"]
        assert hash_file(state) == before
    finally:
        with closing(sqlite3.connect(state)) as database:
            database.execute(f"PRAGMA user_version = {version}")
            database.commit()


def test_commands_without_a_node_say_how_to_start_one(node: Member) -> None:
    refused = node.attempt("backup")
    assert refused.exit_code == ExitCode.NOT_RUNNING
    assert "sovereign up" in refused.error["hint"]
