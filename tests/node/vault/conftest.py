"""Fixtures of the vault's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from vault_bench import Bench, age


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "devices")
    bench.folder.mkdir()
    yield bench
    for vault in bench.opened:
        vault.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one of everything, old enough to be trusted by its times."""
    root = tmp_path / "source"
    root.mkdir()
    (root / "empty folder").mkdir()
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "note.txt").write_bytes(b"hello")
    (root / "nothing").write_bytes(b"")
    (root / "sub" / "text").write_bytes(b"one line after another\n" * 4000)
    (root / "sub" / "deep" / "random").write_bytes(os.urandom(700_000))
    (root / "large").write_bytes(os.urandom(9_000_000))
    (root / os.fsdecode(b"odd\xff\n\\name")).write_bytes(b"odd")
    (root / "sub" / "script").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "script").chmod(0o750)
    (root / "link").symlink_to("sub/text")
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "sub").chmod(0o705)
    age(root)
    return root
