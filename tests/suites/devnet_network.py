"""A small network of real processes; every test module has its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sovereign_devnet.cluster import Cluster
from sovereign_devnet.member import Member


@dataclass(frozen=True)
class TwoProviders:
    """Two providers and a laptop that has a contract with both.

    Args:
        cluster: with all three running.
        first: a provider, whose address all know.
        second: a provider.
        laptop: the customer.
    """

    cluster: Cluster
    first: Member
    second: Member
    laptop: Member

    def project(self, name: str, *, copies: int = 2, size_bytes: int = 5_000_000) -> Path:
        """Make a folder of incompressible files and protect it under ``name``."""
        folder = self.cluster.folder / "sources" / name
        folder.mkdir(parents=True)
        (folder / "noise").write_bytes(os.urandom(size_bytes))
        (folder / "text.txt").write_text("one line\n" * 1000, "utf-8")
        self.laptop.run("protect", str(folder), "--name", name, "--copies", str(copies))
        return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProviders]:
    with Cluster(tmp_path_factory.mktemp("network")) as cluster:
        first = cluster.create("first", ["provider"], capacity="1GB")
        bootstrap = cluster.up(first)[0]["addresses"]
        second = cluster.create("second", ["provider"], bootstrap=bootstrap, capacity="1GB")
        laptop = cluster.create("laptop", ["mobile"], bootstrap=bootstrap)
        cluster.up(second, laptop)
        for provider in (first, second):
            laptop.run("contract", "open", provider.call("status")["peer_id"], "--capacity", "200MB")
        yield TwoProviders(cluster, first, second, laptop)
