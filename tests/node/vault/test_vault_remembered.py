"""Heads that are known although the target that has them is away."""

from __future__ import annotations

from pathlib import Path

import pytest
from vault_bench import Bench, listing, whole

from sovereign_node.vault.errors import RollbackError
from sovereign_node.vault.target import MemoryTarget


async def test_a_backup_goes_to_a_target_that_missed_the_last_one(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"first")
    late = MemoryTarget("late")
    vault = bench.vault()
    await vault.backup(whole(source))
    (source / "file").write_bytes(b"second")
    await vault.backup(whole(source))
    vault.close()
    head = next(iter(bench.target.stored_heads.values()))
    with pytest.raises(RollbackError):
        await bench.vault(targets=[late]).backup(whole(source))
    bench.opened.pop().close()
    alone = bench.vault(targets=[late], remembered=lambda: [head, b"no head"])
    (source / "file").write_bytes(b"third")
    await alone.backup(whole(source))
    assert len(await alone.snapshots()) == 3
    alone.close()
    both = bench.vault(targets=[bench.target, late])
    assert len(await both.snapshots()) == 3
    await both.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(source)
