"""The database that is written to while it is backed up, and the proof that a copy is consistent."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.live_database import LiveWriter, inspect_database

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "bank.db"
    with LiveWriter(path), closing(sqlite3.connect(path, timeout=30)) as database:
        while database.execute("SELECT count(*) FROM transfer").fetchone()[0] < 200:
            pass
    return path


def test_what_the_writer_leaves_is_consistent(bank: Path) -> None:
    state = inspect_database(bank)
    assert state.is_consistent
    assert state.transfers >= 200
    assert inspect_database(bank) == state
    assert [path.name for path in bank.parent.iterdir()] == ["bank.db"]


@pytest.mark.parametrize(
    "tear",
    [
        "UPDATE account SET balance = balance + 1 WHERE id = 3",
        "DELETE FROM transfer WHERE id = (SELECT min(id) FROM transfer WHERE source != target)",
    ],
)
def test_a_torn_copy_is_not(bank: Path, tmp_path: Path, tear: str) -> None:
    torn = tmp_path / "torn.db"
    shutil.copy(bank, torn)
    with closing(sqlite3.connect(torn)) as database:
        database.execute(tear)
        database.commit()
    assert not inspect_database(torn).is_consistent


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(DevnetError, match="text cannot be read"):
        inspect_database(tmp_path / "text")
