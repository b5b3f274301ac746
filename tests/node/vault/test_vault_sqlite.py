"""Databases: consistent while somebody writes, side files left out, small changes sent small."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import trio
from vault_bench import Bench, whole

from sovereign_node.store.sqlite_capture import (
    CaptureCancelledError,
    CaptureError,
    IdleDatabase,
    capture_database,
    check_idle,
)
from sovereign_node.vault.config import Source
from sovereign_node.vault.target import MemoryTarget, Sealed
from sovereign_protocols.vault.tree import Content, Flag

ROWS = 4000


def make(path: Path, *, mode: str = "wal", rows: int = ROWS) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE pairs (id INTEGER PRIMARY KEY, left INTEGER, right INTEGER, body BLOB)")
    values = ((number, number, -number, os.urandom(500)) for number in range(rows))
    connection.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", values)
    connection.commit()
    connection.close()


# Every transaction keeps left + right = 0 over the whole table, and says how often it has run.
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE pairs SET left = left + ?", (turn,))
    connection.execute("UPDATE pairs SET right = right - ?", (turn,))
    connection.execute("COMMIT")
"""


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_a_copy_is_consistent_while_another_process_writes(bench: Bench, tmp_path: Path, mode: str) -> None:
    root = tmp_path / "source"
    root.mkdir()
    make(root / "live.db", mode=mode)
    (root / "note").write_bytes(b"beside it")
    vault = bench.vault()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root / "live.db")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for turn in range(3):
            report = await vault.backup(whole(root))
            assert report.errors == ()
            await vault.restore(tmp_path / f"out{turn}")
        process.kill()
    sums = set()
    for turn in range(3):
        out = tmp_path / f"out{turn}"
        assert sorted(path.name for path in out.iterdir()) == ["live.db", "note"]
        connection = sqlite3.connect(out / "live.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), sum(left + right) FROM pairs").fetchone() == (ROWS, 0)
        sums.add(connection.execute("SELECT sum(left) FROM pairs").fetchone())
        connection.close()
    assert len(sums) > 1
    (entry,) = [item for item in await vault.list_tree() if item.name == b"live.db"]
    assert entry.flags == Flag.DATABASE


async def test_a_change_that_is_only_in_the_log_is_found(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    make(root / "live.db")
    vault = bench.vault()
    await vault.backup(whole(root))
    connection = sqlite3.connect(root / "live.db")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE pairs SET left = 12345 WHERE id = 7")
    connection.commit()
    report = await vault.backup(whole(root))
    assert report.files_changed == 1
    assert report.bytes_new < 100_000
    assert report.bytes_sent < 200_000
    await vault.restore(tmp_path / "out")
    restored = sqlite3.connect(tmp_path / "out" / "live.db")
    assert restored.execute("SELECT left FROM pairs WHERE id = 7").fetchone() == (12345,)
    restored.close()
    connection.close()


async def test_a_single_database_is_a_source(bench: Bench, tmp_path: Path) -> None:
    make(tmp_path / "one.db", mode="delete")
    vault = bench.vault()
    await vault.backup([Source(tmp_path / "one.db")])
    await vault.restore(tmp_path / "out")
    connection = sqlite3.connect(tmp_path / "out" / "one.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert (tmp_path / "out" / "one.db").stat().st_mtime_ns == (tmp_path / "one.db").stat().st_mtime_ns


async def test_what_only_looks_like_a_database_is_copied_as_a_file(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    fake = b"SQLite format 3\0" + os.urandom(1024 * 5 - 16)
    (root / "fake.db").write_bytes(fake)
    vault = bench.vault()
    report = await vault.backup(whole(root))
    assert report.partial
    assert "not captured" in report.errors[0].reason
    await vault.restore(tmp_path / "out")
    assert (tmp_path / "out" / "fake.db").read_bytes() == fake


async def test_capturing_can_be_switched_off(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    make(root / "live.db", mode="delete")
    (root / "live.db-wal").write_bytes(b"kept as it is")
    vault = bench.vault(capture_databases=False)
    await vault.backup(whole(root))
    await vault.restore(tmp_path / "out")
    assert (tmp_path / "out" / "live.db").read_bytes() == (root / "live.db").read_bytes()
    assert (tmp_path / "out" / "live.db-wal").exists()


def test_capture_leaves_nothing_behind(tmp_path: Path) -> None:
    make(tmp_path / "a.db")
    spool = tmp_path / "spool"
    spool.mkdir()
    with capture_database(tmp_path / "a.db", spool, threading.Event()) as copy:
        assert copy.page_bytes == 4096
        assert copy.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CaptureError), capture_database(tmp_path / "missing.db", spool, threading.Event()):
        pass
    stop = threading.Event()
    stop.set()
    with pytest.raises(CaptureCancelledError), capture_database(tmp_path / "a.db", spool, stop):
        pass
    assert list(spool.iterdir()) == []


def test_an_idle_database_gets_no_files_beside_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make(source / "a.db")
    long_ago = source.stat().st_mtime_ns - 10**9
    os.utime(source / "a.db", ns=(long_ago, long_ago))
    before = source.stat().st_mtime_ns
    with capture_database(source / "a.db", tmp_path, threading.Event()) as copy:
        assert copy.path.stat().st_size == (source / "a.db").stat().st_size
        with closing(sqlite3.connect(copy.path)) as connection:
            (copied,) = connection.execute("SELECT count(*) FROM pairs").fetchone()
    assert copied == ROWS
    assert [path.name for path in source.iterdir()] == ["a.db"]
    assert source.stat().st_mtime_ns == before


def idle(path: Path, *, at_ns: int = 2**62) -> IdleDatabase | None:
    with path.open("rb") as file:
        return check_idle(path, file.fileno(), at_ns)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_is_idle_while_nobody_writes_and_no_log_is_there(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.db"
    make(path, mode=mode)
    found = idle(path)
    assert found is not None
    assert found.page_bytes == 4096
    assert [item.name for item in tmp_path.iterdir()] == ["a.db"]
    # Written so recently that another write might not show in the times.
    assert idle(path, at_ns=path.stat().st_mtime_ns) is None
    for log in ("-wal", "-journal"):
        beside = path.with_name(path.name + log)
        beside.write_bytes(b"something")
        assert idle(path) is None
        beside.unlink()


def test_pages_of_an_open_transaction_are_never_taken_for_a_state(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, mode="delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        # No journal on disk, and a cache so small that changed pages go to the file before the commit.
        writer.execute("PRAGMA journal_mode = MEMORY")
        writer.execute("PRAGMA cache_size = 5")
        writer.execute("BEGIN")
        writer.execute("UPDATE pairs SET body = zeroblob(500)")
        assert [item.name for item in tmp_path.iterdir()] == ["a.db"]
        assert idle(path) is None
        writer.execute("ROLLBACK")
    assert idle(path) is not None


def test_a_write_after_the_check_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, mode="delete")
    with path.open("rb") as file:
        found = check_idle(path, file.fileno(), 2**62)
        assert found is not None
        assert found.is_unchanged()
        with closing(sqlite3.connect(path)) as writer:
            writer.execute("DELETE FROM pairs WHERE id = 3")
            writer.commit()
        assert not found.is_unchanged()


@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_what_is_not_a_whole_database_is_not_idle(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.db"
    make(path, mode="delete")
    if damage == "header":
        with path.open("r+b") as file:
            file.write(b"no database")
    else:
        os.truncate(path, 0 if damage == "empty" else path.stat().st_size - 4096)
    assert idle(path) is None


class Writing(MemoryTarget):
    """Writes to a database while the first chunks of it are stored."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.writes = 0

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        if not self.writes:
            self.writes += 1
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("UPDATE pairs SET left = 1, right = -1")
                connection.commit()
        await super().put(chunk_id, sealed)


async def test_a_database_written_while_it_is_read_is_captured_instead(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    make(root / "a.db", mode="delete", rows=60_000)
    long_ago = root.stat().st_mtime_ns - 10**9
    os.utime(root / "a.db", ns=(long_ago, long_ago))
    # The inode's own time of change can't be set back.
    await trio.sleep(0.2)
    target = Writing(root / "a.db")
    vault = bench.vault(targets=[target])
    report = await vault.backup(whole(root))
    assert report.errors == ()
    assert report.files == 1
    assert target.writes == 1
    assert report.bytes_read > (root / "a.db").stat().st_size
    await vault.restore(tmp_path / "out")
    with closing(sqlite3.connect(tmp_path / "out" / "a.db")) as restored:
        assert restored.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert restored.execute("SELECT count(*), sum(left + right) FROM pairs").fetchone() == (60_000, 0)
    (entry,) = await vault.list_tree()
    assert entry.flags == Flag.DATABASE
    # 4 KiB each, 16 to a list: more than 64 lists, so the entry names lists of them.
    assert entry.content_kind is Content.LISTS_OF_LISTS
    assert len(entry.ids) <= 64
