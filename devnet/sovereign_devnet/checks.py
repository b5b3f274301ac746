"""Comparisons that tell whether a promise was kept; each returns what is wrong, so empty is good."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_BLOCK_BYTES = 1024 * 1024


def compare_trees(expected: Path, found: Path, *, content_differs: Iterable[str] = ()) -> list[str]:
    """Compare names, kinds, modes, times, link targets and every byte.

    Args:
        expected: a folder.
        found: what should equal it.
        content_differs: relative paths of files whose bytes, length and time are not compared.

    Returns:
        One line per difference.
    """
    loose = set(content_differs)
    left, right = dict(_entries(expected)), dict(_entries(found))
    differences = [f"{name!r} is missing" for name in sorted(left.keys() - right.keys())]
    differences += [f"{name!r} is not expected" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        differences += [
            f"{name!r}: {what}" for what in _compare(left[name], right[name], content=name not in loose)
        ]
    return differences


def find_words(words: Mapping[str, bytes], folders: Iterable[Path]) -> list[str]:
    """Search words in the bytes and the names of all files.

    Args:
        words: what is searched, by what it is called in the result.
        folders: or single files.

    Returns:
        One line per word and file that has it.
    """
    hits: list[str] = []
    for path in _files(folders):
        name = os.fsencode(path.name)
        hits += [f"{called} is in the name of {path}" for called, word in words.items() if word in name]
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            hits += [f"{called} is in {path}" for called, word in words.items() if content.find(word) >= 0]
    return hits


def check_hash_names(folder: Path) -> tuple[int, list[str]]:
    """Check files that are named by the SHA-256 of their bytes.

    Returns:
        How many there are, and the wrong ones.
    """
    paths = sorted(_files([folder]))
    wrong = [str(path) for path in paths if hash_file(path) != path.stem]
    return len(paths), wrong


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_size(folder: Path) -> tuple[int, int]:
    """Return the number of files and their bytes."""
    sizes = [path.stat().st_size for path in _files([folder])]
    return len(sizes), sum(sizes)


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*"):
        yield os.fsdecode(os.path.relpath(os.fsencode(path), os.fsencode(root))), path


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_file():
            yield folder
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


def _compare(left: Path, right: Path, *, content: bool) -> Iterator[str]:
    one, two = left.lstat(), right.lstat()
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(two.st_mode):
        yield "another kind of file"
        return
    if stat.S_ISLNK(one.st_mode):
        if left.readlink() != right.readlink():
            yield f"points to {right.readlink()}, not to {left.readlink()}"
    elif one.st_mode != two.st_mode:
        yield f"mode {two.st_mode & 0o7777:o}, not {one.st_mode & 0o7777:o}"
    if content and one.st_mtime_ns != two.st_mtime_ns:
        yield f"changed at {two.st_mtime_ns}, not at {one.st_mtime_ns}"
    if content and stat.S_ISREG(one.st_mode) and not _same_bytes(left, right):
        yield "other bytes"


def _same_bytes(left: Path, right: Path) -> bool:
    with left.open("rb") as one, right.open("rb") as two:
        while block := one.read(_BLOCK_BYTES):
            if two.read(_BLOCK_BYTES) != block:
                return False
        return not two.read(1)
