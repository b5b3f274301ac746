"""Crashes, damaged pages, a full disk, restored copies: what the state database survives and what it says."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sovereign_node.store import (
    Device,
    State,
    StateAccessError,
    StateBusyError,
    StateCorruptError,
    StateFullError,
    StateUnsupportedError,
    open_state,
)
from sovereign_node.store import database as database_module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def fill(path: Path, count: int = 400) -> None:
    with open_state(path) as state, state.transaction():
        for number in range(count):
            state.audit.record("user", "tested", f"object {number}", "ok", at=number)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateCorruptError) as caught:
        open_state(path)
    assert caught.value.path == path
    assert "not a database" in caught.value.detail


def test_a_damaged_page_is_found_at_start(path: Path) -> None:
    fill(path)
    data = bytearray(path.read_bytes())
    page = 4096 * (len(data) // 4096 // 2)
    data[page : page + 2048] = os.urandom(2048)
    path.write_bytes(data)
    with pytest.raises(StateCorruptError) as caught:
        open_state(path)
    assert caught.value.detail


def test_damage_that_comes_later_is_the_same_error(path: Path) -> None:
    fill(path)
    state = open_state(path)
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    with path.open("r+b") as file:
        file.write(data)
    with pytest.raises(StateCorruptError):
        state.audit.verify()
    state._database._reader.close()
    state._database._writer.close()


def test_a_truncated_file_is_found(path: Path) -> None:
    fill(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StateCorruptError):
        open_state(path)


def write_much(state: State) -> None:
    with state.transaction():
        for number in range(10_000):
            state.meta.set(f"key {number}", "x" * 500)


def test_a_full_disk_undoes_the_transaction_and_no_more(path: Path) -> None:
    with open_state(path) as state:
        state.meta.set("before", "kept")
        pages = state._database.query("PRAGMA page_count")[0][0]
        state._database._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StateFullError):
            write_much(state)
        assert state.meta.get("before") == "kept"
        assert state.meta.get("key 0") is None
        state._database._writer.execute("PRAGMA max_page_count = 1073741823")
        state.meta.set("after", "works")
        assert state.meta.get("after") == "works"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StateAccessError):
        open_state(tmp_path / "missing" / "state.sqlite")


def test_a_lock_held_by_another_program_is_named(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_MS", 50)
    with open_state(path) as state:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateBusyError):
            state.meta.set("key", "value")
        other.execute("ROLLBACK")
        other.close()
        state.meta.set("key", "value")


def test_an_old_sqlite_is_refused(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(database_module.sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StateUnsupportedError):
        open_state(path)


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from sovereign_node.store import open_state
    state = open_state(Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        with state.transaction():
            state.audit.record("user", "counted", str(number), "ok", at=number)
            state.meta.set("number", str(number))
        print(number, flush=True)
    """
)


@pytest.mark.processes
def test_kill_at_any_moment_keeps_every_acknowledged_write(path: Path) -> None:
    for round_number in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        assert child.stdout is not None
        acknowledged = 0
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= 20 + 7 * round_number:
                break
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        if rest:
            acknowledged = int(rest[-1])
        with open_state(path) as state:
            assert not state.was_restored
            assert int(state.meta.get("number") or 0) >= acknowledged
            assert state.audit.verify().ok


def copy_of(path: Path) -> Path:
    """Copy a database as a backup program would: the file while nobody writes."""
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    return copy


def test_a_restored_old_database_is_recognized_until_it_is_accepted(path: Path) -> None:
    open_state(path).close()
    yesterday = copy_of(path)
    with open_state(path) as state:
        instance = state.meta.writer_instance
        assert not state.was_restored
    shutil.copy(yesterday, path)
    for _ in range(2):
        with open_state(path) as state:
            assert state.was_restored
            state.refresh_marker()
            assert state.meta.writer_instance == instance
    with open_state(path) as state:
        assert state.accept_restore() != instance
        assert not state.was_restored
    with open_state(path) as state:
        assert not state.was_restored


def test_a_copy_of_the_running_session_is_recognized_after_a_refresh(path: Path) -> None:
    with open_state(path) as state:
        state._database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        morning = copy_of(path)
        state.refresh_marker()
    shutil.copy(morning, path)
    with open_state(path) as state:
        assert state.was_restored


def test_a_database_on_another_machine_is_a_restored_one(path: Path) -> None:
    open_state(path).close()
    path.with_name("state.sqlite.marker").unlink()
    with open_state(path) as state:
        assert state.was_restored


def test_a_lost_database_beside_its_marker_counts_as_restored(path: Path) -> None:
    open_state(path).close()
    path.unlink()
    with open_state(path) as state:
        assert state.was_restored


def test_a_crash_between_the_two_markers_is_no_restore(path: Path, monkeypatch) -> None:
    from sovereign_node.store import marker

    with open_state(path):
        pass

    def crash(_path: Path, _text: str) -> None:
        raise OSError("power cut")

    state = open_state(path)
    monkeypatch.setattr(marker, "_write_private", crash)
    with pytest.raises(OSError, match="power cut"):
        state.close()
    monkeypatch.undo()
    with open_state(path) as again:
        assert not again.was_restored


def test_secrets_do_not_stay_in_deleted_pages(path: Path) -> None:
    with open_state(path) as state:
        state.devices.save(Device(bytes(32), "x", "server", "12D3KooWa", 1, certificate=b"PLANTED-MARKER" * 50))
        state.devices.save(Device(bytes(32), "x", "server", "12D3KooWa", 1))
        state.dht_records._database.execute("DELETE FROM device_registry")
    assert b"PLANTED-MARKER" not in path.read_bytes()
