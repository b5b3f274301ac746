"""How the cost of a stored chunk grows with their number, for the chunk store and for two simpler designs.

    python -m sovereign_devnet.bench.chunkstore [--counts 10000 100000 1000000] [--json]

Chunks have the smallest size, so that the number and not the bytes is what is measured. Batches of 16 are put
durably; reads are of random chunks, one by one.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import lmdb

from sovereign_node.chunkstore import LogChunkStore

CHUNK_BYTES: Final = 4_184
BATCH: Final = 16
_FILL_BATCH: Final = 2_000
_SAMPLES: Final = 2_000
_CONTRACT: Final = b"\x01" * 32
DEFAULT_COUNTS: Final = (10_000, 100_000, 1_000_000)
#: Above this, one file per chunk only shows that it takes long.
_MOST_FILES: Final = 10_000
#: With more, a design that is there to be compared with costs a minute each.
MOST_COMPARED: Final = 100_000


class Design(Protocol):
    """What is compared."""

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Store a batch durably."""

    def get(self, chunk_id: bytes) -> bytes | None:
        """Return a chunk."""

    def close(self) -> None:
        """Release files."""


class Segments:
    """The chunk store."""

    def __init__(self, directory: Path) -> None:
        self._store = LogChunkStore(directory, reserve_bytes=0)
        self._store.set_quota(_CONTRACT, 2**60)

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Store a batch durably."""
        self._store.put_many(_CONTRACT, items, verified=True)

    def get(self, chunk_id: bytes) -> bytes | None:
        """Return a chunk."""
        return self._store.get(_CONTRACT, chunk_id)

    def close(self) -> None:
        """Release files."""
        self._store.close()


class FilePerChunk:
    """A file per chunk in 256 folders: write, sync, rename, sync of the folders."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for prefix in range(256):
            (directory / f"{prefix:02x}").mkdir(parents=True, exist_ok=True)

    def _path(self, chunk_id: bytes) -> Path:
        name = chunk_id.hex()
        return self._directory / name[:2] / name

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Store a batch durably."""
        for chunk_id, data in items:
            path = self._path(chunk_id)
            with path.with_suffix(".partial").open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.with_suffix(".partial").replace(path)
        for folder in {self._path(chunk_id).parent for chunk_id, _ in items}:
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def get(self, chunk_id: bytes) -> bytes | None:
        """Return a chunk."""
        return self._path(chunk_id).read_bytes()

    def close(self) -> None:
        """Release files."""


class ValuesInLmdb:
    """Chunks as values of an LMDB table."""

    def __init__(self, directory: Path) -> None:
        self._environment = lmdb.open(str(directory), map_size=64 * 1024**3, readahead=False)

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Store a batch durably."""
        with self._environment.begin(write=True) as transaction:
            for chunk_id, data in items:
                transaction.put(chunk_id, data)

    def get(self, chunk_id: bytes) -> bytes | None:
        """Return a chunk."""
        with self._environment.begin() as transaction:
            value: bytes | None = transaction.get(chunk_id)
            return value

    def close(self) -> None:
        """Release files."""
        self._environment.close()


_OURS: Final = "segments + LMDB index"
_DESIGNS: Final[dict[str, Callable[[Path], Design]]] = {
    _OURS: Segments,
    "file per chunk": FilePerChunk,
    "values in LMDB": ValuesInLmdb,
}


def make_chunk(number: int) -> tuple[bytes, bytes]:
    """Return (id, bytes) of one of 2^64 different chunks."""
    data = number.to_bytes(8, "big") * (CHUNK_BYTES // 8)
    return hashlib.sha256(data).digest(), data


def measure(
    directory: Path,
    *,
    counts: tuple[int, ...] = DEFAULT_COUNTS,
    designs: tuple[str, ...] = tuple(_DESIGNS),
    most_compared: int | None = None,
) -> dict[str, Any]:
    """Fill each design up to each count and measure there.

    Args:
        directory: empty; about 5 GB are written per million chunks and design.
        counts: ascending numbers of chunks.
        designs: names of what to measure.
        most_compared: where designs other than the chunk store stop; None for the last count.

    Returns:
        For each design a list of rows: chunks, put_us, get_us (medians per chunk), open_s, disk_bytes, rss_bytes.
    """
    results: dict[str, Any] = {}
    for position, name in enumerate(designs):
        limit = max(counts) if name == _OURS else most_compared or max(counts)
        limit = min(limit, _MOST_FILES) if name == "file per chunk" else limit
        rows = [row for row in _grow(_DESIGNS[name], directory / str(position), counts, limit)]
        results[name] = rows
    rows = results.get(_OURS, [])
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        results["bars"] = {
            "put cost at most / least chunks <= 1.5": last["put_us"] / first["put_us"],
            "get cost at most / least chunks <= 1.5": last["get_us"] / first["get_us"],
            "start-up with most chunks <= 2 s": last["open_s"],
        }
    return results


def _grow(
    design: Callable[[Path], Design], directory: Path, counts: tuple[int, ...], limit: int
) -> Iterator[dict[str, Any]]:
    store = design(directory)
    filled = 0
    for count in counts:
        if count > limit:
            break
        while filled < count:
            store.put([make_chunk(number) for number in range(filled, min(filled + _FILL_BATCH, count))])
            filled = min(filled + _FILL_BATCH, count)
        store.close()
        began = time.perf_counter()
        store = design(directory)
        open_s = time.perf_counter() - began
        new = [make_chunk(2**40 + count + number) for number in range(_SAMPLES)]
        put_us = _median_us(store.put, [new[i : i + BATCH] for i in range(0, _SAMPLES, BATCH)])
        chosen = random.Random(count).sample(range(count), _SAMPLES)  # noqa: S311 - no secret
        ids = [make_chunk(number)[0] for number in chosen]
        get_us = _median_us(store.get, ids)
        yield {
            "chunks": count,
            "put_us": put_us / BATCH,
            "get_us": get_us,
            "open_s": open_s,
            "disk_bytes": sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file()),
            "rss_bytes": _rss_bytes(),
        }
    store.close()


def _median_us(act: Callable[[Any], object], items: list[Any]) -> float:
    # The median: other work on the machine makes single writes and reads a hundred times slower.
    times = []
    for item in items:
        began = time.perf_counter()
        act(item)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _rss_bytes() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=list(DEFAULT_COUNTS))
    parser.add_argument("--designs", nargs="+", choices=list(_DESIGNS), default=list(_DESIGNS))
    parser.add_argument("--directory", help="where to write; a temporary folder by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        results = measure(Path(folder), counts=tuple(options.counts), designs=tuple(options.designs))
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return 0
    for name, rows in results.items():
        sys.stdout.write(f"{name}\n")
        for row in rows if isinstance(rows, list) else [rows]:
            cells = (
                f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value:,}"
                for key, value in row.items()
            )
            sys.stdout.write("  " + ", ".join(cells) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
