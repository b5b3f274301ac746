"""Migrations: forward only, one transaction each, a copy first, newer files untouched."""

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from sovereign_node.store import StateError, StateTooNewError, open_state
from sovereign_node.store.database import create_private_file
from sovereign_node.store.errors import StateConflictError, StateCorruptError
from sovereign_node.store.migrate import Migration, load_migrations, migrate, split_statements
from sovereign_node.store.schema import generate_schema

FIXTURES = Path(__file__).parents[2] / "fixtures" / "db"
REAL = load_migrations()
NEXT = REAL[-1].number + 1


def load_fixture(file: Path, path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(file.read_text(encoding="utf-8"))
    connection.close()


def tables(path: Path) -> dict[str, list[tuple]]:
    connection = sqlite3.connect(path)
    names = [
        row[0]
        for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        if not row[0].startswith("sqlite_")
    ]
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    connection.close()
    return found


def test_there_is_a_fixture_of_every_version() -> None:
    assert [file.name for file in sorted(FIXTURES.glob("v*.sql"))] == [
        f"v{migration.number:04d}.sql" for migration in REAL
    ]


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("v*.sql")), ids=lambda file: file.stem)
def test_a_database_of_an_older_version_keeps_its_rows(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    load_fixture(file, path)
    before = tables(path)
    with open_state(path) as state:
        device = state.devices.find("Studio")[0]
        assert device.addresses == ("/ip4/192.0.2.1/tcp/4001",)
    after = tables(path)
    for name in set(before) - {"schema_migrations", "meta"}:
        assert len(after[name]) == len(before[name]), name
    assert len(after["schema_migrations"]) == len(REAL)
    version = int(file.stem[1:])
    copies = list(tmp_path.glob("state.sqlite.v*"))
    assert [copy.name for copy in copies] == ([f"state.sqlite.v{version:04d}"] if version < NEXT - 1 else [])


def test_a_fixture_that_is_migrated_has_the_schema_of_a_new_database(tmp_path: Path) -> None:
    from sovereign_node.store.migrate import render_schema

    path = tmp_path / "state.sqlite"
    load_fixture(sorted(FIXTURES.glob("v*.sql"))[0], path)
    migrate(path)
    rendered = render_schema(path)
    assert rendered.replace('"', "") == generate_schema().replace('"', "")


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    open_state(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateTooNewError) as caught:
        open_state(path)
    assert (caught.value.found, caught.value.known) == (9999, NEXT - 1)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"state.sqlite", "state.sqlite.marker"}


def new_database(tmp_path: Path) -> Path:
    path = tmp_path / "state.sqlite"
    create_private_file(path)
    migrate(path)
    return path


def test_a_copy_is_made_before_an_existing_database_changes(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    before = tables(path)
    more = (*REAL, Migration(NEXT, f"{NEXT:04d}-add-test.sql", "CREATE TABLE test (x INTEGER) STRICT;"))
    copies = migrate(path, more)
    assert [copy.name for copy in copies] == [f"state.sqlite.v{NEXT - 1:04d}"]
    assert stat.S_IMODE(copies[0].stat().st_mode) == 0o600
    assert tables(copies[0]) == before
    assert tables(path)["test"] == []
    assert migrate(path, more) == []


def test_a_second_copy_never_replaces_the_first(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    old = path.read_bytes()
    more = (*REAL, Migration(NEXT, f"{NEXT:04d}-add-test.sql", "CREATE TABLE test (x INTEGER) STRICT;"))
    first = migrate(path, more)[0]
    path.write_bytes(old)
    assert migrate(path, more)[0].name == f"{first.name}-1"
    assert first.exists()


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("CREATE TABLE test (x INTEGER) STRICT;\nCREATE TABLE meta (x INTEGER) STRICT;\n", StateError),
        ("INSERT INTO peer_addresses VALUES ('p', 'a', 's', 1, NULL, NULL, 0);\n", StateCorruptError),
        ("INSERT INTO meta (key, value) VALUES (NULL, 'x');\n", StateConflictError),
        ("CREATE TABLE test (x INTEGER) STRICT;\nCREATE TABLE", StateError),
    ],
)
def test_a_failing_migration_changes_nothing(tmp_path: Path, sql: str, error: type[Exception]) -> None:
    path = new_database(tmp_path)
    before = tables(path)
    with pytest.raises(error):
        migrate(path, (*REAL, Migration(NEXT, f"{NEXT:04d}-add-test.sql", sql)))
    assert tables(path) == before
    open_state(path).close()


def test_migrations_before_the_failing_one_stay(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    good = Migration(NEXT, f"{NEXT:04d}-add-test.sql", "CREATE TABLE test (x INTEGER) STRICT;")
    bad = Migration(NEXT + 1, f"{NEXT + 1:04d}-add-more.sql", "CREATE TABLE test (x INTEGER) STRICT;")
    with pytest.raises(StateError):
        migrate(path, (*REAL, good, bad))
    assert "test" in tables(path)
    assert len(tables(path)["schema_migrations"]) == NEXT


def test_statements_are_split_where_they_end() -> None:
    script = (
        "-- a comment\nCREATE TABLE a (x); \nCREATE TRIGGER t AFTER INSERT ON a\nBEGIN\n  SELECT 1;\nEND;\n-- end\n"
    )
    statements = list(split_statements(script))
    assert len(statements) == 2
    assert statements[1].startswith("CREATE TRIGGER")


def test_an_unfinished_statement_is_an_error() -> None:
    with pytest.raises(StateError, match="inside a statement"):
        list(split_statements("CREATE TABLE a (x)"))


def test_file_names_obey_the_rule(monkeypatch, tmp_path: Path) -> None:
    from sovereign_node.store import migrate as module

    (tmp_path / "migrations").mkdir()
    monkeypatch.setattr(module.resources, "files", lambda _package: tmp_path)
    (tmp_path / "migrations" / "0002-add-thing.sql").touch()
    with pytest.raises(StateError, match="without a gap"):
        load_migrations()
    (tmp_path / "migrations" / "notes.txt").touch()
    (tmp_path / "migrations" / "0002-add-thing.sql").unlink()
    with pytest.raises(StateError, match="NNNN-verb-noun"):
        load_migrations()


def test_restoring_the_copy_works(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    more = (*REAL, Migration(NEXT, f"{NEXT:04d}-add-test.sql", "CREATE TABLE test (x INTEGER) STRICT;"))
    copy = migrate(path, more)[0]
    shutil.copy(copy, path)
    with open_state(path) as state:
        state.meta.set("works", "yes")
