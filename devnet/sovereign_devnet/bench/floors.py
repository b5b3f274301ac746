"""Floors: what the primitives alone cost for the same bytes on this machine, in the same run.

All in this process, one thread, in seconds of processor time per gigabyte, which hold on a shared machine. What a
backup can't do without is the sum of those that its bytes pass through, on both sides.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from pyfastcdc import FastCDC

from sovereign_devnet.bench.results import Cell, Part, Settings, Table, median

MIB = 1024 * 1024
_SAMPLE_BYTES = 64 * MIB
_TAKES = 3
_BLOB_BYTES = 1 * MIB
_NOISE_BYTES = 65_519  # of one Noise message
_ZSTD_LEVEL = 1
_NONCE = bytes(12)


def _cpu_s_per_gb(act: Callable[[], object], size_bytes: int) -> float:
    """Return the best of a few takes: what is above it is the machine's other work in shared caches."""
    best = float("inf")
    for _ in range(_TAKES):
        before = time.thread_time()
        act()
        best = min(best, time.thread_time() - before)
    return best / size_bytes * 1e9


def _pieces(data: bytes, size_bytes: int) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + size_bytes] for at in range(0, len(data), size_bytes)]


def load_sample(root: Path, limit_bytes: int = _SAMPLE_BYTES) -> list[Path]:
    """Choose files of a corpus up to a size, in the order of their names."""
    chosen: list[Path] = []
    total = 0
    for path in sorted(item for item in root.rglob("*") if item.is_file() and not item.is_symlink()):
        chosen.append(path)
        total += path.stat().st_size
        if total >= limit_bytes:
            break
    return chosen


def _read_files(paths: Sequence[Path], limit_bytes: int = _SAMPLE_BYTES) -> list[bytes]:
    contents = []
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        contents.append(os.read(descriptor, limit_bytes))
        os.close(descriptor)
    return contents


def measure_primitives(data: bytes) -> dict[str, float]:
    """Return CPU s/GB of every primitive over ``data`` (at least 1 MiB)."""
    blobs = _pieces(data, _BLOB_BYTES)
    messages = _pieces(data, _NOISE_BYTES)
    aes, chacha = AESGCM(bytes(32)), ChaCha20Poly1305(bytes(32))
    sealed = [aes.encrypt(_NONCE, blob, None) for blob in blobs]
    wire = [chacha.encrypt(_NONCE, message, None) for message in messages]
    cutter = FastCDC(_BLOB_BYTES, min_size=256 * 1024, max_size=4 * MIB)
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    packed = [compressor.compress(blob) for blob in blobs]
    expander = zstandard.ZstdDecompressor()
    acts: dict[str, Callable[[], object]] = {
        "SHA-256": lambda: [hashlib.sha256(blob).digest() for blob in blobs],
        "BLAKE3": lambda: [blake3(blob, key=bytes(32)).digest() for blob in blobs],
        "AES-256-GCM seal": lambda: [aes.encrypt(_NONCE, blob, None) for blob in blobs],
        "AES-256-GCM open": lambda: [aes.decrypt(_NONCE, item, None) for item in sealed],
        "ChaCha20-Poly1305 seal": lambda: [chacha.encrypt(_NONCE, message, None) for message in messages],
        "ChaCha20-Poly1305 open": lambda: [chacha.decrypt(_NONCE, item, None) for item in wire],
        "cut": lambda: list(cutter.cut_buf(data)),
        "zstd compress": lambda: [compressor.compress(blob) for blob in blobs],
        "zstd expand": lambda: [expander.decompress(item) for item in packed],
    }
    return {name: _cpu_s_per_gb(act, len(data)) for name, act in acts.items()}


def measure_write(folder: Path, data: bytes) -> float:
    """Return CPU s/GB of appending and syncing 8 MiB at a time."""
    path = folder / "floor.bin"

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for piece in _pieces(data, 8 * MIB):
                file.write(piece)
                os.fdatasync(file.fileno())

    result = _cpu_s_per_gb(write, len(data))
    path.unlink()
    return result


def measure_read(paths: Sequence[Path]) -> float:
    """Return CPU s/GB of reading files from the page cache."""
    size_bytes = sum(min(path.stat().st_size, _SAMPLE_BYTES) for path in paths)
    return _cpu_s_per_gb(lambda: _read_files(paths), size_bytes)


def backup_floor(root: Path, scratch: Path, wire_cpu_s_per_gb: float) -> dict[str, float]:
    """Return what the bytes of a corpus can't do without, CPU s per GB of corpus.

    Args:
        root: the corpus.
        scratch: folder for a file.
        wire_cpu_s_per_gb: both ends of ChaCha20-Poly1305 over a bare trio socket.

    Returns:
        The parts and their sums ``backup`` and ``restore``, and ``ratio``: size stored for each byte read.
    """
    paths = load_sample(root)
    data = b"".join(_read_files(paths))[:_SAMPLE_BYTES]
    primitives = measure_primitives(data)
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    stored = sum(min(len(blob), len(compressor.compress(blob))) for blob in _pieces(data, _BLOB_BYTES))
    ratio = stored / len(data)
    shrinks = ratio < 0.97
    write = measure_write(scratch, data)
    parts = {
        "read": measure_read(paths),
        "cut": primitives["cut"],
        "id (BLAKE3)": primitives["BLAKE3"],
        "zstd": primitives["zstd compress"],
        "seal (AES-256-GCM)": primitives["AES-256-GCM seal"] * ratio,
        "id (SHA-256)": primitives["SHA-256"] * ratio,
        "wire (ChaCha20, socket), both ends": wire_cpu_s_per_gb * ratio,
        "check (SHA-256)": primitives["SHA-256"] * ratio,
        "write": write * ratio,
    }
    restore = (
        (wire_cpu_s_per_gb + primitives["SHA-256"] + primitives["AES-256-GCM open"]) * ratio
        + (primitives["zstd expand"] if shrinks else 0.0)
        + primitives["BLAKE3"]
        + write
    )
    return {**parts, "backup": sum(parts.values()), "restore": restore, "ratio": ratio}


def measure(settings: Settings) -> Part:
    """Measure every primitive over random bytes and over text."""
    from sovereign_devnet.bench.corpora import make_source_tree

    size_bytes = settings.pick(16, 64) * MIB
    tree = make_source_tree(settings.folder / "text", files=size_bytes // 5000)
    kinds = {"random": os.urandom(size_bytes), "text": b"".join(_read_files(load_sample(tree.root, size_bytes)))}
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(settings.rounds):
        for kind, data in kinds.items():
            figures = measure_primitives(data)
            figures["write and sync"] = measure_write(settings.folder, data)
            found[kind].append(figures)
    medians = {
        kind: {name: median(take[name] for take in takes) for name in takes[0]} for kind, takes in found.items()
    }
    rows: list[list[Cell]] = [
        [name, medians["random"][name], 1000 / medians["random"][name], medians["text"][name]]
        for name in medians["random"]
    ]
    columns = ("primitive", "random CPU s/GB", "MB/s of one core", "text CPU s/GB")
    return Part([Table("Primitives, one thread", columns, rows)], [], medians)
