"""Opening, closing and the rules that every table obeys."""

import sqlite3
import stat
import threading

import pytest

from sovereign_node.store import State, StateConflictError, StateForeignError, open_state
from sovereign_node.store.schema import SCHEMA_FILE, generate_schema


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


def shell(path):
    """What a user's sqlite3 shell would open."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection


def test_files_are_private(state: State) -> None:
    state.meta.set("key", "value")
    for file in state.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_an_existing_readable_file_is_made_private(tmp_path) -> None:
    path = tmp_path / "state.sqlite"
    path.touch(mode=0o644)
    open_state(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_in_place_of_the_file_is_refused(tmp_path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "state.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"state\.sqlite"):
        open_state(tmp_path / "state.sqlite")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_schema_file_is_what_the_migrations_make() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == generate_schema(), (
        "run: python -m sovereign_node.store.schema"
    )


def test_tables_that_users_query_have_their_columns(state: State) -> None:
    expected = {
        "device_registry": {"device_id", "device_name", "device_type", "is_online", "last_seen", "peer_id"},
        "storage_contracts": {"contract_id", "provider_device", "storage_gb", "stored_bytes", "state", "ends_at"},
        "storage_metrics": {"contract_id", "measured_at", "stored_bytes", "bytes_in", "bytes_out"},
        "project_collaborators": {"project_id", "identity", "role", "added_at", "removed_at"},
        "content_index": {"project_id", "path", "kind", "size_bytes", "modified_at", "snapshot_id"},
    }
    connection = shell(state.path)
    for table, columns in expected.items():
        found = {row["name"] for row in connection.execute(f"PRAGMA table_xinfo({table})")}
        assert columns | {"created_at", "updated_at"} <= found, table
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == []
    connection.close()


def test_every_table_is_strict(state: State) -> None:
    connection = shell(state.path)
    rows = connection.execute("PRAGMA table_list").fetchall()
    connection.close()
    own = [row for row in rows if row["schema"] == "main" and not row["name"].startswith("sqlite_")]
    assert own
    assert all(row["strict"] for row in own)


def test_settings_of_the_file(state: State) -> None:
    connection = shell(state.path)
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA application_id").fetchone()[0] == 0x53565354
    connection.close()


def test_the_sqlite_shell_reads_while_the_node_writes(state: State) -> None:
    connection = shell(state.path)
    with state.transaction():
        state.meta.set("key", "value")
        assert connection.execute("SELECT count(*) FROM meta WHERE key = 'key'").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM meta WHERE key = 'key'").fetchone()[0] == 1
    connection.close()


def test_another_programs_database_is_refused_untouched(tmp_path) -> None:
    path = tmp_path / "state.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateForeignError) as caught:
        open_state(path)
    assert caught.value.application_id == 0
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.sqlite"]


def test_a_failed_transaction_leaves_nothing(state: State) -> None:
    def write() -> None:
        with state.transaction():
            state.meta.set("key", "value")
            assert state.meta.get("key") == "value"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert state.meta.get("key") is None


def test_a_failed_inner_transaction_leaves_the_outer_one(state: State) -> None:
    def write() -> None:
        with state.transaction():
            state.meta.set("inner", "1")
            raise RuntimeError

    with state.transaction():
        state.meta.set("outer", "1")
        with pytest.raises(RuntimeError):
            write()
    assert state.meta.get("outer") == "1"
    assert state.meta.get("inner") is None


def test_many_threads_count_without_losing_one(state: State) -> None:
    def count() -> None:
        for _ in range(25):
            state.meta.next_number("counter")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.meta.get("counter") == "200"


def test_another_thread_does_not_see_an_open_transaction(state: State) -> None:
    seen: list[str | None] = []
    with state.transaction():
        state.meta.set("key", "value")
        thread = threading.Thread(target=lambda: seen.append(state.meta.get("key")))
        thread.start()
        thread.join()
    assert seen == [None]


def test_meta_keeps_typed_facts(state: State) -> None:
    assert state.meta.identity_id is None
    assert (state.meta.node_name, state.meta.roles, state.meta.peer_id) == ("", (), "")
    state.meta.node_name = "Studio"
    state.meta.roles = ("server", "provider")
    state.meta.identity_id = bytes(range(32))
    state.meta.peer_id = "12D3KooWExample"
    assert state.meta.node_name == "Studio"
    assert state.meta.roles == ("server", "provider")
    assert state.meta.identity_id == bytes(range(32))
    assert state.meta.peer_id == "12D3KooWExample"
    assert len(state.meta.writer_instance) == 8
    state.meta.set("setting", "on")
    state.meta.delete("setting")
    assert state.meta.get("setting") is None


def test_conflicts_name_the_rule(state: State) -> None:
    state.audit.record("user", "opened", "x", "ok", at=1)
    with pytest.raises(StateConflictError, match="append-only"):
        state._database.execute("DELETE FROM audit_log")


def test_closing_twice_is_harmless(tmp_path) -> None:
    state = open_state(tmp_path / "state.sqlite")
    state.close()
    state.close()
    assert {file.name for file in tmp_path.iterdir()} == {"state.sqlite", "state.sqlite.marker"}
