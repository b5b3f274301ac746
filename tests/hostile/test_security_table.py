"""The table of hostile inputs names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"(tests/[\w/]+\.py)::(\w+)", (ROOT / "docs" / "security-tests.md").read_text())


def test_every_test_of_the_table_exists() -> None:
    assert len(NAMED) > 80
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_number_up_to_40_has_a_line() -> None:
    numbers = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "security-tests.md").read_text(), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 41)]
