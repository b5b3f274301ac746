"""The comparisons of the stories: what they must not miss."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign_devnet.checks import check_hash_names, compare_trees, find_words, tree_size
from sovereign_devnet.sample_files import Markers, make_home

MARKERS = Markers("content-1", "name-2", "project-3", "passphrase-4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "home"
    make_home(folder, MARKERS, seed=1, noise_bytes=400_000)
    return folder


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    shutil.copytree(home, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_a_copy_is_equal(home: Path, copy: Path) -> None:
    assert compare_trees(home, copy) == []


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _flip(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _relink(path: Path) -> None:
    status = path.lstat()
    path.unlink()
    path.symlink_to("elsewhere")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "odd" / "empty file").unlink(), "missing"),
        (lambda root: (root / "odd" / "new").touch(), "not expected"),
        (lambda root: (root / "odd" / "script.sh").chmod(0o644), "mode 644, not 755"),
        (lambda root: _touch(root / "odd" / "script.sh"), "changed at"),
        (lambda root: _flip(root / "photos" / "photo 1.jpg"), "other bytes"),
        (lambda root: _relink(root / "odd" / "dangling link"), "points to elsewhere"),
        (lambda root: _to_folder(root / "odd" / "dangling link"), "another kind"),
        (lambda root: _touch(root / "odd" / "empty folder"), "changed at"),
    ],
)
def test_every_difference_is_named(home: Path, copy: Path, change: Callable[[Path], None], expected: str) -> None:
    change(copy)
    assert expected in "\n".join(compare_trees(home, copy))


def test_the_content_of_a_file_may_be_left_out(home: Path, copy: Path) -> None:
    _flip(copy / "photos" / "photo 1.jpg")
    name = "photos/photo 1.jpg"
    assert compare_trees(home, copy, content_differs=[name]) == []


def test_words_are_found_in_content_and_names(home: Path) -> None:
    words = {name: word.encode() for name, word in vars(MARKERS).items()}
    hits = find_words(words, [home])
    assert len([hit for hit in hits if hit.startswith("content is in ")]) == 2
    assert len([hit for hit in hits if hit.startswith("file_name is in the name of ")]) == 1
    assert not [hit for hit in hits if hit.startswith(("project", "passphrase"))]


def test_files_named_by_their_hash(tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        (tmp_path / hashlib.sha256(data).hexdigest()).write_bytes(data)
    assert check_hash_names(tmp_path) == (2, [])
    (tmp_path / ("0" * 64)).write_bytes(b"three")
    assert check_hash_names(tmp_path) == (3, [str(tmp_path / ("0" * 64))])
    assert tree_size(tmp_path) == (3, 11)


def test_the_same_seed_gives_the_same_files(home: Path, tmp_path: Path) -> None:
    make_home(tmp_path / "again", MARKERS, seed=1, noise_bytes=400_000)
    differences = [line for line in compare_trees(home, tmp_path / "again") if "changed at" not in line]
    assert differences == []


def test_markers_are_fresh() -> None:
    words = set(vars(Markers.plant()).values()) | set(vars(Markers.plant()).values())
    assert len(words) == 8
