"""Corpora change as they should, tools are driven as their users do, and ratios become bars."""

import os
import shutil

import pytest

from sovereign_devnet.bench import backup, chunks, chunkstore, contracts, floors
from sovereign_devnet.bench.backup_report import OURS, build_report
from sovereign_devnet.bench.corpora import make_incompressible, make_source_tree
from sovereign_devnet.bench.ours import open_sovereign
from sovereign_devnet.bench.results import Settings
from sovereign_devnet.bench.watch import Sample


def quick(folder) -> Settings:
    return Settings(folder, quick=True, full=False, rounds=1, say=lambda _text: None)


def test_a_share_of_the_noise_changes(tmp_path):
    corpus = make_incompressible(tmp_path / "noise", size_bytes=16 << 20)
    before = [path.read_bytes() for path in sorted(corpus.root.iterdir())]
    assert backup.edit_noise(corpus, seed=1, share=0.05) == 12 * 65536
    after = [path.read_bytes() for path in sorted(corpus.root.iterdir())]
    assert [len(data) for data in before] == [len(data) for data in after]
    assert before != after


def report_of(samples):
    corpora = {"database": (10**9, 1, "100 rows changed")}
    floor = {"read": 1.0, "backup": 4.0, "restore": 2.0, "ratio": 0.5}
    return build_report(samples, corpora, {"database": floor}, {OURS: "sovereign", "restic": "restic"}, [])


def samples_of(tool: str, seconds: float, sent_bytes: int) -> dict:
    sample = Sample(seconds, {"laptop": 5.0}, {"laptop": 300.0}, sent_bytes)
    phases = ("first", "unchanged", "100 rows changed", "restore")
    return {(tool, "database", phase): [sample] for phase in phases}


def test_ratios_become_bars():
    part = report_of(samples_of(OURS, 4.0, 1_000) | samples_of("restic", 10.0, 20_000))
    bars = {bar.name: bar for bar in part.bars}
    assert bars["database: first backup / restic"].value == 2.5
    assert bars["database: 100 rows changed, bytes sent / restic"].value == 0.05
    assert bars["database: first backup, CPU of primitives / ours"].value == pytest.approx(0.8)
    assert bars["database: laptop RSS while backing up"].met
    assert part.data["plot"]["first"]["database"] == {"sovereign": 250.0, "restic": 100.0}
    rows = part.tables[0].rows
    assert [row[0] for row in rows[:2]] == ["sovereign", "restic"]
    assert rows[-1][0].startswith("floor")
    processes = part.tables[1].rows
    assert processes == [["database", name, "laptop", 5.0, 5.0, 300.0] for name in ("sovereign", "restic")]


def test_the_machine_limits_the_lead_over_others():
    part = report_of(samples_of(OURS, 4.0, 1_000) | samples_of("restic", 10.0, 20_000))
    possible = {bar.name: bar.possible for bar in part.bars}
    cores = os.cpu_count() or 1
    # A gigabyte takes 4 s of processor time to back up and 2 s to restore.
    assert possible["database: first backup / restic"] == pytest.approx(10.0 * cores / 4.0)
    assert possible["database: restore / restic"] == pytest.approx(10.0 * cores / 2.0)


def test_a_way_without_a_restore_has_gaps():
    samples = samples_of(OURS, 4.0, 1_000) | samples_of("restic", 10.0, 20_000)
    corpora = {"database": (10**9, 1, "100 rows changed")}
    floor = {"read": 1.0, "backup": 4.0, "restore": 2.0, "ratio": 0.5}
    samples |= {("other", *key[1:]): taken for key, taken in samples.items() if key[2] != "restore"}
    names = {OURS: "sovereign", "other": "another"}
    part = build_report(samples, corpora, {"database": floor}, names, [])
    row = next(row for row in part.tables[0].rows if row[0] == "another")
    assert row[1] is not None
    assert row[6:8] == [None, None]
    assert part.data["plot"]["restore"]["database"] == {"sovereign": 250.0}


def test_without_restic_there_are_no_bars_against_it():
    part = report_of(samples_of(OURS, 4.0, 1_000))
    assert not any("restic" in bar.name for bar in part.bars)


def test_floors_of_a_corpus(tmp_path):
    tree = make_source_tree(tmp_path / "tree", files=400)
    floor = floors.backup_floor(tree.root, tmp_path, 1.5)
    assert 0.1 < floor["ratio"] < 0.9
    assert floor["backup"] > floor["read"] > 0
    assert floor["restore"] > 0


def test_the_first_files_of_a_corpus_are_its_sample(tmp_path):
    tree = make_source_tree(tmp_path / "tree", files=100)
    assert len(floors.load_sample(tree.root)) == 100
    assert len(floors.load_sample(tree.root, limit_bytes=1)) == 1


def test_designs_to_compare_with_stop_early(tmp_path, monkeypatch):
    monkeypatch.setattr(chunkstore, "_SAMPLES", 16)
    found = chunkstore.measure(tmp_path, counts=(64, 128), most_compared=64)
    counts = {name: [row["chunks"] for row in rows] for name, rows in found.items() if name != "bars"}
    assert counts == {"segments + LMDB index": [64, 128], "file per chunk": [64], "values in LMDB": [64]}
    assert len(found["bars"]) == 3


def test_contracts_cost_about_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(contracts, "_SAMPLES", 5)
    part = contracts.measure(quick(tmp_path))
    assert [row["contracts"] for row in part.data] == [10, 100]


@pytest.mark.processes
@pytest.mark.slow
def test_chunks_between_two_processes(tmp_path):
    figures = chunks.run_round("fast", tmp_path / "store", 2 << 20, (65536, 1 << 20))
    assert set(figures) == {"put 64 KiB", "get 64 KiB", "put 1024 KiB", "get 1024 KiB"}
    assert all(item["mb_per_s"] > 0 for item in figures.values())


@pytest.mark.processes
@pytest.mark.slow
def test_sovereign_as_a_tool(tmp_path):
    tree = make_source_tree(tmp_path / "tree", files=200)
    with open_sovereign(tmp_path / "nodes") as ours:
        first = ours.backup("tree", tree.root)
        again = ours.backup("tree", tree.root)
        ours.restore("tree", tree.root, tmp_path / "restored")
    assert first.sent_bytes > again.sent_bytes
    assert set(first.cpu_s) == {"provider", "laptop", "command"}
    assert set(first.peak_rss_mb) == {"provider", "laptop"}
    backup._check_restored(tree.root, tmp_path / "restored")
    next((tmp_path / "restored").rglob("*.py")).write_text("damage")
    with pytest.raises(RuntimeError, match="differs"):
        backup._check_restored(tree.root, tmp_path / "restored")


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("program", ["restic", "borg", "syncthing", "tahoe"])
def test_peers_as_tools(tmp_path, program):
    if shutil.which(program) is None:
        assert any(line.startswith(program) for line in backup.missing_peers())
        return
    tree = make_source_tree(tmp_path / "tree", files=12)
    (tmp_path / "tool").mkdir()
    with backup.openers()[program](tmp_path / "tool") as tool:
        first = tool.backup("tree", tree.root)
        assert first.sent_bytes > 0
        assert all(peak > 5 for peak in first.peak_rss_mb.values())
        if tool.restore("tree", tree.root, tmp_path / "restored") is None:
            # It keeps a second copy in step, and no more.
            assert program == "syncthing"
            return
    backup._check_restored(tree.root, tmp_path / "restored")


def test_a_tool_of_others_that_fails_costs_its_own_figures():
    measured = backup.Measured()
    for way in ("restic", "borg"):
        measured.add(way, "database", "first", Sample(1.0))
    with measured.guard("borg"):
        raise RuntimeError("no space")
    assert measured.failures == {"borg": "RuntimeError: no space"}
    assert list(measured.samples) == [("restic", "database", "first")]
    with pytest.raises(RuntimeError, match="ours"), measured.guard(OURS):
        raise RuntimeError("ours")
