"""Settings of one project's vault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VaultConfig:
    """What may be chosen; the defaults suit a laptop with one to three providers.

    Args:
        compression_level: zstd level, 1 to 19; 0 stores raw.
        copies: targets that get each chunk; 0 means all.
        min_acks: targets that must have acknowledged a chunk before it counts as stored.
        worker_threads: threads that hash, compress and seal; 0 means one per core, at most 8.
        puts_per_target: chunks under way to one target at once.
        commit_bytes: stored bytes after which progress is made durable, so that a killed run resumes there; it
            happens every five seconds in any case.
        exclude: shell patterns; matched against the name and against the path inside the source.
        exclude_paths: absolute paths that are left out, such as the node's own data directory.
        capture_databases: capture SQLite files through the online backup API.
        read_ahead_chunks: chunks being fetched while one is written, on restore.
    """

    compression_level: int = 1
    copies: int = 0
    min_acks: int = 1
    worker_threads: int = 0
    puts_per_target: int = 4
    commit_bytes: int = 64 * 1024 * 1024
    exclude: tuple[str, ...] = ()
    exclude_paths: tuple[Path, ...] = ()
    capture_databases: bool = True
    read_ahead_chunks: int = 6


@dataclass(frozen=True)
class Source:
    """What is protected.

    Args:
        path: a folder or a file.
        name: its name inside the project; empty takes the name of ``path``. A single folder with an empty name is
            the root of the project itself, so its entries lie at the top.
    """

    path: Path
    name: str = ""
