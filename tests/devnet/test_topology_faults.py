"""Backups over bad lines: far away, lossy, cut in the middle; each ends and verifies. Needs root."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

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
FILES = 3
FILE_BYTES = 400_000


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HomesNetwork]:
    """Two homes with a contract between them, and a protected folder on the laptop."""
    folder = tmp_path_factory.mktemp("homes")
    with HomesNetwork(folder) as homes:
        homes.up()
        homes.open_contract()
        documents = folder / "documents"
        documents.mkdir()
        homes.laptop.run("protect", str(documents), "--name", PROJECT)
        yield homes


@pytest.fixture(autouse=True)
def good_lines(homes: HomesNetwork) -> Iterator[None]:
    """Mend every cable after a test, and wait until the laptop has the provider back."""
    homes.wait_path("")
    yield
    for home in homes.homes:
        home.cable.set()


def write_files(homes: HomesNetwork, seed: int) -> None:
    source = random.Random(seed)
    documents = Path(homes.laptop.call("status")["projects"][0]["sources"][0])
    for number in range(FILES):
        (documents / f"{seed}-{number}.bin").write_bytes(source.randbytes(FILE_BYTES))


def assert_verified(homes: HomesNetwork) -> None:
    verified = homes.laptop.run("verify", PROJECT, "--read-data")
    assert verified["errors"] == []
    assert verified["chunks_checked"] > 0


@pytest.mark.parametrize(
    ("delay_s", "loss"),
    [(0.25, 0.0), (0.0, 0.05), (0.0, 0.3)],
    ids=["500 ms round trip", "5 % loss", "30 % loss"],
)
def test_a_backup_survives_a_bad_line(homes: HomesNetwork, delay_s: float, loss: float) -> None:
    cable = homes.homes[1].cable
    write_files(homes, seed=int(delay_s * 1000 + loss * 100))
    lost = cable.lost
    cable.set(delay_s=delay_s, loss=loss)
    assert homes.laptop.run("backup", PROJECT)["errors"] == []
    assert (cable.lost > lost) == (loss > 0)
    wait_until(lambda: not pending(homes), 120, "sending what waits")
    assert_verified(homes)


def test_a_backup_survives_a_cut_line(homes: HomesNetwork) -> None:
    cable = homes.homes[1].cable
    write_files(homes, seed=777)
    # Slow enough that the cut falls into the middle.
    cable.set(delay_s=0.2)
    outcome: list[Finished] = []
    backup = threading.Thread(target=lambda: outcome.append(homes.laptop.attempt("backup", PROJECT)))
    provider_id = homes.provider.call("status")["peer_id"]
    backup.start()
    cable.set(is_cut=True)
    wait_until(lambda: not homes.laptop.paths(provider_id), 60, "noticing the cut")
    cable.set()
    homes.wait_path("")
    backup.join(120)
    assert outcome[0].require_success()["errors"] == []
    wait_until(lambda: not pending(homes), 120, "sending what waits")
    assert_verified(homes)


def pending(homes: HomesNetwork) -> bool:
    """Whether something of the project is not at the provider yet."""
    (project,) = homes.laptop.call("status")["projects"]
    return bool(project["pending"])
