"""Writes `schema.sql` beside this file: `python -m sovereign_node.store.schema`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sovereign_node.store.database import create_private_file
from sovereign_node.store.migrate import migrate, render_schema

SCHEMA_FILE = Path(__file__).with_name("schema.sql")


def generate_schema() -> str:
    """Apply all migrations to a new database and describe the result.

    Returns:
        The text that `schema.sql` must have.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        create_private_file(path)
        migrate(path)
        return render_schema(path)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(generate_schema(), encoding="utf-8")
