"""Corpora: the same bytes from the same seed, and edits that change what they say."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sovereign_devnet.bench import corpora


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def test_files_depend_on_the_seed_only(tmp_path: Path) -> None:
    for make in (
        lambda folder, seed: corpora.make_incompressible(folder, seed, 3_000_000, 2),
        lambda folder, seed: corpora.make_source_tree(folder, seed, 60),
    ):
        name = hashlib.sha256(repr(make).encode()).hexdigest()[:8]
        one, same, other = (tmp_path / f"{name}-{number}" for number in range(3))
        corpus = make(one, 1)
        assert corpus.size_bytes == sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
        assert corpus.files == sum(path.is_file() for path in one.rglob("*"))
        make(same, 1)
        make(other, 2)
        assert digest(one) == digest(same) != digest(other)


def test_edits(tmp_path: Path) -> None:
    tree = corpora.make_source_tree(tmp_path / "tree", files=100)
    before = digest(tree.root)
    assert corpora.edit_source_tree(tree, share=0.05) == 5
    assert digest(tree.root) != before
    database = corpora.make_database(tmp_path / "db", rows=500)
    before = digest(database.root)
    corpora.edit_database(database, rows=3)
    assert digest(database.root) != before


def test_mixed(tmp_path: Path) -> None:
    corpus = corpora.make_mixed(tmp_path / "mixed", scale=0.001)
    assert (corpus.root / "latest").is_symlink()
    assert corpus.files == sum(path.is_file() for path in corpus.root.rglob("*") if "latest" not in path.parts)
    assert set(corpora.MAKERS) == {"incompressible", "source-tree", "database", "mixed"}
