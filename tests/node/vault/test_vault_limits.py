"""Bounds: memory independent of the data, an event loop that stays free, and a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from vault_bench import Bench, listing, whole

import sovereign_node.vault.read as read
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_node.vault.config import Source
from sovereign_node.vault.facade import Vault
from sovereign_node.vault.heads import FileSeenHeads
from sovereign_node.vault.target import DirectoryTarget, MemoryTarget

CHILD = """
import json, re, sys
from pathlib import Path
import trio
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.facade import Vault
from sovereign_node.vault.heads import FileSeenHeads
from sovereign_node.vault.target import DirectoryTarget

async def main():
    base = Path(sys.argv[1])
    target = DirectoryTarget(base / "disk")
    keys = ProjectKeys(b"p" * 32, (b"e" * 32,), b"d" * 32)
    with Vault(keys, SigningKey.from_seed(b"s" * 32), cache_dir=base / "cache", spool_dir=base / "spool",
               targets=[target], seen=FileSeenHeads(base / "seen"),
               config=VaultConfig(commit_bytes=4 << 20)) as vault:
        print("ready", flush=True)
        report = await vault.backup([Source(Path(sys.argv[2]))])
        if len(sys.argv) > 3:
            await vault.restore(Path(sys.argv[3]))
    # Not ru_maxrss: that begins with what the parent held when it forked.
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
    print(json.dumps({"peak_kib": peak, "bytes_new": report.bytes_new, "bytes_read": report.bytes_read}))

trio.run(main)
"""


def run_child(*arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.processes
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    peaks = []
    for size in (80, 320):
        root = tmp_path / f"source{size}"
        root.mkdir()
        with (root / "noise").open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(1_000_000))
        with run_child(tmp_path / f"base{size}", root, tmp_path / f"out{size}") as child:
            assert child.stdout is not None
            answer = json.loads(child.stdout.read().splitlines()[-1])
        assert answer["bytes_new"] == size * 1_000_000
        peaks.append(answer["peak_kib"])
    assert max(peaks) < 350 * 1024
    assert peaks[1] < peaks[0] + 100 * 1024


@pytest.mark.slow
@pytest.mark.processes
async def test_killed_backups_leave_a_project_that_verifies(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    for number in range(12):
        (root / f"noise{number}").write_bytes(os.urandom(9_000_000))
    base = tmp_path / "base"
    for chunks in (3, 8, 15, 22):
        with run_child(base, root) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            while child.poll() is None and len(list((base / "disk" / "chunks").glob("*/*"))) < chunks:
                pass
            child.send_signal(signal.SIGKILL)
    with run_child(base, root) as child:
        assert child.stdout is not None
        answer = json.loads(child.stdout.read().splitlines()[-1])
    # What the killed runs had noted was not sent a fifth time. How much that is depends on when they were killed,
    # but the first commit, 4 MiB, lies before the last of them.
    assert answer["bytes_new"] <= 12 * 9_000_000 - (4 << 20)
    keys = ProjectKeys(b"p" * 32, (b"e" * 32,), b"d" * 32)
    with Vault(
        keys,
        SigningKey.from_seed(b"s" * 32),
        cache_dir=base / "cache",
        spool_dir=base / "spool",
        targets=[DirectoryTarget(base / "disk")],
        seen=FileSeenHeads(base / "seen"),
    ) as vault:
        assert (await vault.verify(read_data=1.0)).errors == ()
        await vault.restore(tmp_path / "out")
    assert listing(tmp_path / "out") == listing(root)


async def test_a_file_that_keeps_changing_is_stored_and_marked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "source"
    root.mkdir()
    (root / "small").write_bytes(b"x" * 3000)
    (root / "large").write_bytes(os.urandom(6_000_000))
    monkeypatch.setattr(read, "same_state", lambda *_: False)
    vault = bench.vault()
    report = await vault.backup(whole(root))
    assert sorted(error.path.rsplit("/", 1)[1] for error in report.errors) == ["large", "small"]
    assert {error.reason for error in report.errors} == {"kept changing while it was read"}
    flags = {entry.name: entry.flags for entry in await vault.list_tree()}
    assert flags == {b"small": 1, b"large": 1}
    monkeypatch.undo()
    report = await vault.backup(whole(root))
    assert (report.errors, report.files_changed) == ((), 2)
    assert {entry.flags for entry in await vault.list_tree()} == {0}


async def test_no_stored_byte_tells_a_name_or_content(bench: Bench, tmp_path: Path) -> None:
    marker = b"MARKER-OF-THE-OWNER"
    root = tmp_path / "source"
    root.mkdir()
    (root / marker.decode()).write_bytes(marker * 300)
    (root / "inline").write_bytes(marker)
    await bench.vault().backup([Source(root, marker.decode())])
    for stored in [*bench.target.chunks.values(), *bench.target.stored_heads.values()]:
        assert marker not in stored
        assert bench.keys.project_id not in stored


async def test_stored_sizes_are_size_classes(bench: Bench, source: Path) -> None:
    from sovereign_crypto.chunks import padme

    await bench.vault().backup(whole(source))
    for stored in bench.target.chunks.values():
        plain = len(stored) - 88
        assert plain >= 4096
        assert padme(plain) == plain


async def test_vaults_of_two_projects_share_nothing(bench: Bench, source: Path, tmp_path: Path) -> None:
    await bench.vault("one").backup(whole(source))
    other = Bench(tmp_path / "others", target=MemoryTarget())
    other.folder.mkdir()
    vault = other.vault()
    await vault.backup(whole(source))
    vault.close()
    assert not set(bench.target.chunks) & set(other.target.chunks)
