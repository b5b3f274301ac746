"""Corpora made from a seed: the same bytes on every machine, so that figures can be compared.

SQL may only be used in ``sovereign_node.store``; the database corpus is therefore made in a child process of the
interpreter, which also keeps the maker's memory out of measurements.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1024 * 1024
_LINE_WORDS = 9


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk.

    Args:
        name: one word.
        root: folder (or file) to back up.
        files: number of files.
        size_bytes: sum of their lengths.
    """

    name: str
    root: Path
    files: int
    size_bytes: int


def random_blocks(seed: int, size_bytes: int) -> Iterator[bytes]:
    """Yield incompressible bytes that only depend on ``seed``, at most 1 MiB at a time."""
    source = random.Random(seed)  # noqa: S311 - test data, not a secret
    left = size_bytes
    while left:
        count = min(left, BLOCK_BYTES)
        yield source.randbytes(count)
        left -= count


def make_incompressible(folder: Path, seed: int = 1, size_bytes: int = 1 << 30, files: int = 4) -> Corpus:
    """Make a few large files of random bytes."""
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"noise-{number}.bin").open("wb") as file:
            for block in random_blocks(seed * 1000 + number, size_bytes // files):
                file.write(block)
    return Corpus("incompressible", folder, files, size_bytes // files * files)


def make_source_tree(folder: Path, seed: int = 2, files: int = 50_000, median_bytes: int = 3000) -> Corpus:
    """Make a tree of small text files that compress like source code, some 25 per folder."""
    source = random.Random(seed)  # noqa: S311 - test data, not a secret
    line_of = _line_maker(source)
    total = 0
    for number in range(files):
        below = folder / f"part{number // 5000:02}" / f"module{number // 25 % 200:03}"
        if number % 25 == 0:
            below.mkdir(parents=True, exist_ok=True)
        size_bytes = min(200_000, max(80, int(source.lognormvariate(0, 1) * median_bytes)))
        data = _text(source, line_of, size_bytes)
        (below / f"file_{number:05}.py").write_bytes(data)
        total += len(data)
    return Corpus("source-tree", folder, files, total)


def edit_source_tree(corpus: Corpus, seed: int = 3, share: float = 0.01) -> int:
    """Change a share of the files of a source tree; return how many."""
    source = random.Random(seed)  # noqa: S311 - test data, not a secret
    paths = sorted(path for path in corpus.root.rglob("*.py"))
    chosen = source.sample(paths, int(len(paths) * share))
    for path in chosen:
        data = bytearray(path.read_bytes())
        at = source.randrange(len(data))
        data[at:at] = b"    changed = %d\n" % source.randrange(10**6)
        path.write_bytes(data)
    return len(chosen)


def make_database(folder: Path, seed: int = 4, rows: int = 400_000) -> Corpus:
    """Make a SQLite database with an index; 400,000 rows give some 200 MB."""
    folder.mkdir(parents=True)
    path = folder / "records.db"
    _run_sqlite(_MAKE_DATABASE, path, seed, rows)
    return Corpus("database", folder, 1, path.stat().st_size)


def edit_database(corpus: Corpus, seed: int = 5, rows: int = 100) -> None:
    """Change random rows of the database, their indexed column included."""
    _run_sqlite(_EDIT_DATABASE, corpus.root / "records.db", seed, rows)


def make_mixed(folder: Path, seed: int = 6, scale: float = 1.0) -> Corpus:
    """Make a home folder in small: source files, noise, a database, an empty folder and links."""
    text = make_source_tree(folder / "projects", seed, max(25, int(5000 * scale)))
    noise = make_incompressible(folder / "photos", seed + 1, max(8, int(200 * scale)) * BLOCK_BYTES, 8)
    database = make_database(folder / "mail", seed + 2, max(1000, int(60_000 * scale)))
    (folder / "empty").mkdir()
    (folder / "latest").symlink_to("projects/part00")
    parts = (text, noise, database)
    return Corpus("mixed", folder, sum(part.files for part in parts), sum(part.size_bytes for part in parts))


MAKERS: dict[str, Callable[[Path], Corpus]] = {
    "incompressible": make_incompressible,
    "source-tree": make_source_tree,
    "database": make_database,
    "mixed": make_mixed,
}


def _line_maker(source: random.Random) -> list[bytes]:
    """Return a stock of lines; files are drawn from it, so they share words but hardly any longer run."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(source.choices(letters, k=source.randint(2, 11))) for _ in range(4000)]
    lines = []
    for _ in range(20_000):
        parts = source.choices(words, k=source.randint(2, _LINE_WORDS))
        lines.append(
            f"{'    ' * source.randint(0, 3)}{parts[0]} = {'_'.join(parts[1:])}({source.randrange(10**4)})\n"
        )
    return [line.encode() for line in lines]


def _text(source: random.Random, lines: list[bytes], size_bytes: int) -> bytes:
    count = max(1, size_bytes // 48)
    return b"".join(source.choices(lines, k=count))


def _run_sqlite(script: str, path: Path, seed: int, rows: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
    subprocess.run([sys.executable, "-c", script, str(path), str(seed), str(rows)], check=True, env=environment)


_MAKE_DATABASE = """
import random, sqlite3, sys
path, seed, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = random.Random(seed)
words = ["".join(source.choices("etaoinshrdlu", k=source.randint(3, 9))) for _ in range(3000)]
connection = sqlite3.connect(path)
connection.execute("PRAGMA journal_mode = OFF")
columns = "id INTEGER PRIMARY KEY, token TEXT, author TEXT, body TEXT, amount INTEGER"
connection.execute(f"CREATE TABLE records ({columns})")
batch = (
    (n, "%016x" % source.getrandbits(64), source.choice(words), " ".join(source.choices(words, k=60)),
     source.randrange(10**9))
    for n in range(rows)
)
connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", batch)
connection.execute("CREATE INDEX by_token ON records (token)")
connection.commit()
connection.close()
"""

_EDIT_DATABASE = """
import random, sqlite3, sys
path, seed, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = random.Random(seed)
connection = sqlite3.connect(path)
(count,) = connection.execute("SELECT count(*) FROM records").fetchone()
for _ in range(rows):
    connection.execute("UPDATE records SET token = ?, amount = amount + 1 WHERE id = ?",
                       ("%016x" % source.getrandbits(64), source.randrange(count)))
connection.commit()
connection.close()
"""
