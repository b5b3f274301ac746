"""A backup that begins through a relay and ends through a hole in two routers. Needs root."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from sovereign_devnet.processes import wait_until
from sovereign_devnet.program import Finished
from sovereign_devnet.topology.namespace import missing_requirement
from sovereign_devnet.topology.network import HomesNetwork

pytestmark = [
    pytest.mark.root,
    pytest.mark.processes,
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement() or "namespaces can be made"),
]

PROJECT = "papers"
SIZE_BYTES = 60_000_000
# Of the whole backup, half a minute; what is under way at a time is some 16 MB.
UPLOAD_BYTES_PER_S = 2_000_000
BACKUP_TIMEOUT_S = 180


def sent_bytes(homes: HomesNetwork, peer_id: str, word: str) -> int:
    """Return what the laptop has sent to a peer on paths whose text begins with a word."""
    peers: list[dict[str, Any]] = homes.laptop.call("peers")
    return sum(
        item["bytes_sent"] for item in peers if item["peer_id"] == peer_id and item["path_text"].startswith(word)
    )


def test_a_backup_moves_through_the_hole_that_was_punched_in_its_middle(tmp_path: Path) -> None:
    with HomesNetwork(tmp_path) as homes:
        homes.laptop.configure(net={"upload_limit_bytes_per_s": UPLOAD_BYTES_PER_S})
        homes.topology.separate(*homes.homes)
        homes.up()
        peer_id = homes.open_contract()
        homes.wait_path("relayed via")
        documents = tmp_path / "documents"
        documents.mkdir()
        (documents / "noise").write_bytes(random.Random(1).randbytes(SIZE_BYTES))
        homes.laptop.run("protect", str(documents), "--name", PROJECT)

        outcome: list[Finished] = []
        backup = threading.Thread(
            target=lambda: outcome.append(homes.laptop.attempt("backup", PROJECT, timeout_s=BACKUP_TIMEOUT_S))
        )
        backup.start()
        wait_until(lambda: sent_bytes(homes, peer_id, "relayed via") > 5_000_000, 60, "bytes through the relay")
        homes.topology.reunite(homes.homes[0])
        homes.wait_path("hole-punched")
        assert backup.is_alive()
        wait_until(lambda: sent_bytes(homes, peer_id, "hole-punched") > 5_000_000, 60, "bytes through the hole")
        backup.join(BACKUP_TIMEOUT_S)
        assert outcome[0].require_success()["errors"] == []
        verified = homes.laptop.run("verify", PROJECT, "--read-data")
        assert verified["errors"] == []
        assert verified["chunks_checked"] > 0
