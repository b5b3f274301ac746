"""The parts of topologies: what can be said without root, and namespaces, cables and routers with it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.topology import namespace as namespaces
from sovereign_devnet.topology import show
from sovereign_devnet.topology.namespace import Namespace, missing_requirement, remove_leftovers, run
from sovereign_devnet.topology.nat import PUBLIC_NET, Nat, NatTopology

needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement() or "namespaces can be made"),
]


def root(test):
    for mark in needs_root:
        test = mark(test)
    return test


def test_without_root_or_tools_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing_requirement() == "network namespaces need root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces.shutil, "which", lambda _tool: None)
    assert "iproute2, nftables" in missing_requirement()
    said: list[str] = []
    assert not show.run_topology("nat", said.append)
    assert said == [f"skipped: {missing_requirement()}"]
    with pytest.raises(DevnetError, match="iproute2"):
        NatTopology()
    with pytest.raises(DevnetError, match="unknown"):
        show.run_topology("mesh", said.append)


def test_a_root_who_may_not_make_namespaces_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: str, script: str = "") -> str:
        raise DevnetError("ip netns add: Operation not permitted")

    monkeypatch.setattr(namespaces, "run", refuse)
    # Without the memory of an earlier answer.
    assert namespaces._refusal.__wrapped__() == (
        "network namespaces can't be made here: ip netns add: Operation not permitted"
    )


def test_only_leftovers_of_ended_processes_are_removed() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [f"svd{os.getpid()}-home", "svdx-home", "other", f"svd{ended.pid}-home"]
    assert remove_leftovers(names) == [f"svd{ended.pid}-home"]


def test_a_failing_program_is_an_error() -> None:
    with pytest.raises(DevnetError, match="false"):
        run("false")


def echo_server(host: Namespace, address: str) -> socket.socket:
    def listen() -> socket.socket:
        server = socket.create_server((address, 7000))
        server.settimeout(5)
        return server

    return host.inside(listen)


def connect(host: Namespace, address: str, source_port: int = 0) -> socket.socket:
    return host.inside(
        lambda: socket.create_connection((address, 7000), timeout=3, source_address=("0.0.0.0", source_port))
    )


@root
def test_routers_translate_as_they_are_told_and_let_nobody_in() -> None:
    with NatTopology() as topology:
        public, address = topology.public_host("public")
        seen: dict[Nat, list[tuple[str, int]]] = {}
        for nat in Nat:
            home = topology.home(nat.name.lower(), nat)
            with echo_server(public, address) as server, connect(home.hosts[0], address, 5000):
                accepted, seen_from = server.accept()
                accepted.close()
            seen[nat] = [seen_from]
            with pytest.raises(OSError):
                connect(public, home.public_ip)
        assert seen[Nat.CONE] == [(f"{PUBLIC_NET}.101", 5000)]
        assert seen[Nat.SYMMETRIC][0][0] == f"{PUBLIC_NET}.102"
        assert seen[Nat.SYMMETRIC][0][1] != 5000
        full_names = [home.full_name for home in (public,)]
    assert not any(Path("/run/netns", name).exists() for name in full_names)


@root
def test_a_cable_delays_loses_and_is_cut() -> None:
    with NatTopology() as topology:
        public, address = topology.public_host("public")
        home = topology.home("home", Nat.CONE)
        with echo_server(public, address) as server:
            home.cable.set(delay_s=0.1)
            started = time.monotonic()
            connect(home.hosts[0], address).close()
            # One round trip, and one more if the routers have to find each other first.
            assert 0.2 <= time.monotonic() - started < 1.5
            server.accept()[0].close()
            home.cable.set(is_cut=True)
            with pytest.raises(OSError):
                connect(home.hosts[0], address)
            assert home.cable.lost
            home.cable.set()
            connect(home.hosts[0], address).close()


@root
def test_everything_is_removed_after_a_failure() -> None:
    names: list[str] = []

    def fail() -> None:
        with NatTopology() as topology:
            names.append(topology.public_host("public")[0].full_name)
            names.append(topology.home("home", Nat.CONE).router.full_name)
            raise DevnetError("a failure")

    with pytest.raises(DevnetError, match="a failure"):
        fail()
    assert len(names) == 2
    assert not any(Path("/run/netns", name).exists() for name in names)


@root
def test_what_fails_inside_is_raised_outside() -> None:
    namespace = Namespace("alone")
    try:
        with pytest.raises(ZeroDivisionError):
            namespace.inside(lambda: 1 / 0)
        assert "lo" in namespace.inside(lambda: [name for _, name in socket.if_nameindex()])
    finally:
        namespace.remove()
        namespace.remove()
