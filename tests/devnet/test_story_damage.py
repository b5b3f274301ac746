"""Bit rot, frozen and vanished providers, full contracts: each is noticed, named, and gone round."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from devnet_network import TwoProviders

from sovereign_devnet.checks import compare_trees
from sovereign_devnet.processes import wait_until
from sovereign_devnet.stored_chunks import corrupt_chunk, stored_chunks
from sovereign_node.errors import ExitCode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CONNECT_TIMEOUT_S = 90


def test_rot_is_found_by_the_reader_and_repaired(network: TwoProviders, tmp_path: Path) -> None:
    source = network.project("rot-read")
    network.laptop.run("backup", "rot-read")
    damaged = corrupt_chunk(network.first.data_dir.chunks).chunk_id.hex()
    assert network.laptop.attempt("verify", "rot-read").exit_code == ExitCode.OK

    found = network.laptop.attempt("verify", "rot-read", "--read-data")
    assert found.exit_code == ExitCode.DAMAGE_FOUND
    assert [(error["chunk"], error["target"]) for error in found.document["errors"]] == [(damaged, "first")]

    network.laptop.run("restore", "rot-read", "--to", str(tmp_path / "out"))
    assert compare_trees(source, tmp_path / "out") == []

    repaired = network.laptop.attempt("verify", "rot-read", "--read-data", "--repair")
    assert repaired.document["repaired"] == [damaged]
    assert network.laptop.run("verify", "rot-read", "--read-data")["errors"] == []
    assert network.first.run("provider", "scrub")["damaged"] == []


def test_rot_is_found_by_scrub_and_repaired(network: TwoProviders) -> None:
    network.project("rot-scrub")
    network.laptop.run("backup", "rot-scrub")
    chunk = max(stored_chunks(network.second.data_dir.chunks), key=lambda item: (item.size_bytes, item.offset))
    assert corrupt_chunk(network.second.data_dir.chunks, chunk.chunk_id.hex()) == chunk

    scrubbed = network.second.attempt("provider", "scrub")
    assert scrubbed.exit_code == ExitCode.DAMAGE_FOUND
    assert [item["chunk"] for item in scrubbed.document["damaged"]] == [chunk.chunk_id.hex()]
    assert network.second.run("provider", "status")["quarantined"] == 1

    # The provider does not pretend to have it any more, so even a look without reading finds the gap.
    owner = [name for name in ("rot-read", "rot-scrub") if _misses(network, name, chunk.chunk_id.hex())]
    assert len(owner) == 1
    assert network.laptop.attempt("verify", owner[0], "--repair").document["repaired"] == [chunk.chunk_id.hex()]
    assert network.laptop.run("verify", owner[0], "--read-data")["errors"] == []
    assert network.second.run("provider", "status")["quarantined"] == 0


def _misses(network: TwoProviders, project: str, chunk: str) -> bool:
    done = network.laptop.attempt("verify", project)
    return chunk in {error["chunk"] for error in done.document["errors"]}


def test_a_frozen_provider_is_left_out_and_comes_back(network: TwoProviders, tmp_path: Path) -> None:
    source = network.project("frozen", copies=1)
    network.laptop.run("backup", "frozen")
    network.first.pause()
    try:
        (source / "more").write_bytes(os.urandom(1_000_000))
        done = network.laptop.run("backup", "frozen")
    finally:
        network.first.resume()
    assert done["targets"] == ["second"]
    assert done["missing"] == ["first"]
    assert not done["queued"]
    assert network.laptop.run("backup", "frozen")["missing"] == []
    network.laptop.run("restore", "frozen", "--to", str(tmp_path / "out"))
    assert compare_trees(source, tmp_path / "out") == []


def test_what_is_backed_up_off_line_waits_and_goes_out(network: TwoProviders, tmp_path: Path) -> None:
    source = network.project("off-line")
    network.laptop.run("backup", "off-line")
    for provider in (network.first, network.second):
        provider.kill()
    (source / "more").write_bytes(os.urandom(1_000_000))
    queued = network.laptop.run("backup", "off-line")
    assert queued["queued"]
    assert sorted(queued["missing"]) == ["first", "second"]
    assert _pending(network, "off-line") > 0
    assert len(network.laptop.run("snapshots", "off-line")) == 2
    # The owner's own data stays at hand as far as it is here.
    network.laptop.run("restore", "off-line", "--path", "more", "--to", str(tmp_path / "part"))
    assert (tmp_path / "part" / "more").read_bytes() == (source / "more").read_bytes()
    # Another one without any change: only a head waits.
    assert network.laptop.run("backup", "off-line")["chunks_sent"] == 0

    network.cluster.up(network.first, network.second)
    wait_until(lambda: _pending(network, "off-line") == 0, CONNECT_TIMEOUT_S, "sending what waits")
    assert not network.laptop.run("backup", "off-line")["queued"]
    assert network.laptop.run("verify", "off-line", "--read-data", "--repair")["lost"] == []
    network.laptop.run("restore", "off-line", "--to", str(tmp_path / "out"))
    assert compare_trees(source, tmp_path / "out") == []


def _pending(network: TwoProviders, name: str) -> int:
    return next(item["pending"] for item in network.laptop.call("status")["projects"] if item["name"] == name)


def test_a_full_contract_is_a_clean_error_and_the_next_backup_goes_on(network: TwoProviders) -> None:
    source = network.project("full")
    network.laptop.run("backup", "full")
    (source / "too much").write_bytes(os.urandom(250_000_000))
    full = network.laptop.attempt("backup", "full")
    assert full.exit_code == ExitCode.STORAGE_FULL
    assert "capacity" in full.error["message"]
    assert "contract" in full.error["hint"]
    (source / "too much").unlink()
    assert network.laptop.run("backup", "full")["errors"] == []
    assert len(network.laptop.run("snapshots", "full")) == 2
