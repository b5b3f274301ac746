"""Dropping what a restore has written from the page cache."""

import os
import threading
from pathlib import Path

import pytest

from sovereign_node.vault import write_behind
from sovereign_node.vault.write_behind import WriteBehind

MIB = 1024 * 1024


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _descriptor, at, size, _advice: calls.append((at, size)))
    return calls


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_each_piece_is_written_early_and_dropped_later(tmp_path: Path, advised: list[tuple[int, int]]) -> None:
    before = open_files()
    behind = WriteBehind(lag_bytes=3 * MIB)
    with (tmp_path / "file").open("wb") as file:
        for number in range(6):
            behind.wrote(file.fileno(), number * MIB, MIB)
    begun = [(number * MIB, MIB) for number in range(6)]
    assert [piece for piece in advised if advised.count(piece) == 1] == begun[3:]
    assert sorted(advised) == sorted([*begun, *begun[:3]])
    # The file was closed; what is remembered has descriptors of its own.
    assert open_files() == before + 3
    behind.close()
    assert open_files() == before
    assert sorted(advised) == sorted([*begun, *begun])


def test_many_small_pieces_do_not_use_up_descriptors(tmp_path: Path, advised: list[tuple[int, int]]) -> None:
    behind = WriteBehind()
    before = open_files()
    with (tmp_path / "file").open("wb") as file:
        for number in range(300):
            behind.wrote(file.fileno(), number, 1)
    assert open_files() <= before + 128
    behind.close()


def test_a_slow_disk_is_left_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def slow(*_: object) -> None:
        nonlocal calls
        calls += 1
        threading.Event().wait(0.002)

    monkeypatch.setattr(os, "posix_fadvise", slow)
    monkeypatch.setattr(write_behind, "_PATIENCE_S", 0.001)
    behind = WriteBehind()
    with (tmp_path / "file").open("wb") as file:
        for _ in range(3):
            behind.wrote(file.fileno(), 0, 1000)
    behind.close()
    # To write the first piece and, in the end, to drop it.
    assert calls == 2


def test_a_file_system_that_takes_no_hints_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(29, "Illegal seek")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    behind = WriteBehind(lag_bytes=0)
    before = open_files()
    with (tmp_path / "file").open("wb") as file:
        behind.wrote(file.fileno(), 0, MIB)
    assert open_files() == before
    monkeypatch.delattr(os, "posix_fadvise")
    WriteBehind().wrote(-1, 0, MIB)
