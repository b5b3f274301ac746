"""A process dies at every file operation of a store, in four ways; what was acknowledged is there afterwards."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chunk_store_scenario as scenario
import pytest
from chunk_store_scenario import STEPS, CountingFiles, open_store

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def count_operations(directory: Path) -> list[str]:
    files = CountingFiles()
    store = open_store(directory, files)
    for step in STEPS.values():
        step(store)
    store.close()
    return files.names


def crash_and_check(directory: Path, at: int, mode: str) -> int:
    run = subprocess.run(
        [sys.executable, scenario.__file__, str(directory), str(at), mode],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode in (0, 9), run.stderr
    done = run.stdout.splitlines()
    store = open_store(directory)
    scenario.check(store, done)
    for step in STEPS.values():
        step(store)
    scenario.check(store, list(STEPS))
    store.close()
    return run.returncode


@pytest.mark.parametrize("mode", ["before", "after", "torn", "lost"])
def test_a_crash_at_every_operation(tmp_path: Path, mode: str) -> None:
    names = count_operations(tmp_path / "count")
    assert {"open", "write", "sync", "sync directory", "truncate", "unlink", "commit"} <= set(names)
    points = [at for at, name in enumerate(names, 1) if mode != "torn" or name == "write"]
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda at: crash_and_check(tmp_path / str(at), at, mode), points))
    assert codes == [9] * len(points)
