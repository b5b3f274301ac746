"""Other backup programs, driven as their users drive them; only those found on PATH take part."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sovereign_devnet.bench.watch import Sample, Stopwatch, run_measured

PASSWORD = "benchmark"  # noqa: S105 - protects generated files
_START_S = 20.0


class Tool(Protocol):
    """A backup program with a repository of its own."""

    name: str

    def backup(self, corpus: str, root: Path) -> Sample:
        """Back up a folder; ``sent_bytes`` is what the repository grew by."""
        ...

    def restore(self, corpus: str, root: Path, target: Path) -> Sample | None:
        """Restore the newest backup of a corpus into a new folder; None if there is no such thing."""
        ...


def folder_bytes(folder: Path) -> int:
    """Return the sum of the lengths of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Restic:
    """restic, to a REST server in another process if there is one.

    Args:
        name: says where the repository is.
        folder: for repository and cache.
        url: of the repository.
        server: process id of its server.
    """

    def __init__(self, name: str, folder: Path, url: str, server: int | None) -> None:
        self.name = name
        self._repository = folder / "repository"
        self._servers = {"server": server} if server else {}
        self._environment = tool_environment() | {
            "RESTIC_REPOSITORY": url,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        run_measured(["restic", "init"], self._environment)

    def backup(self, corpus: str, root: Path) -> Sample:
        """See :class:`Tool`."""
        return self._run(["backup", "--quiet", "--tag", corpus, str(root)])

    def restore(self, corpus: str, root: Path, target: Path) -> Sample:
        """See :class:`Tool`."""
        return self._run(["restore", "--quiet", "--tag", corpus, "--target", str(target), "latest"])

    def _run(self, words: list[str]) -> Sample:
        before = folder_bytes(self._repository)
        watch = Stopwatch(self._servers, "restic").start()
        _, _, peak_mb, _ = run_measured(["restic", *words], self._environment)
        sample = watch.stop(child_peak_mb=peak_mb)
        return Sample(
            sample.seconds, sample.cpu_s, sample.peak_rss_mb, max(0, folder_bytes(self._repository) - before)
        )


class Borg:
    """Borg with a local, encrypted repository.

    Args:
        folder: for repository, cache and keys.
    """

    name = "borg, local repository"

    def __init__(self, folder: Path) -> None:
        self._repository = folder / "repository"
        self._environment = tool_environment() | {
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(folder / "base"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        self._archives: dict[str, str] = {}
        run_measured(["borg", "init", "--encryption", "repokey-blake2", str(self._repository)], self._environment)

    def backup(self, corpus: str, root: Path) -> Sample:
        """See :class:`Tool`."""
        archive = f"{self._repository}::{corpus}-{len(self._archives)}-{time.monotonic_ns()}"
        self._archives[corpus] = archive
        return self._run(["create", archive, "."], root)

    def restore(self, corpus: str, root: Path, target: Path) -> Sample:
        """See :class:`Tool`."""
        target.mkdir(parents=True)
        return self._run(["extract", self._archives[corpus]], target)

    def _run(self, words: list[str], folder: Path) -> Sample:
        before = folder_bytes(self._repository)
        watch = Stopwatch({}, "borg").start()
        _, _, peak_mb, _ = run_measured(["borg", *words], self._environment, folder)
        sample = watch.stop(child_peak_mb=peak_mb)
        return Sample(
            sample.seconds, sample.cpu_s, sample.peak_rss_mb, max(0, folder_bytes(self._repository) - before)
        )


@contextmanager
def open_restic(folder: Path) -> Iterator[Tool]:
    """Start restic's server and make a repository; without a server, a local one that is called so."""
    repository = folder / "repository"
    repository.mkdir(parents=True)
    port = free_port()
    command = _rest_server(repository, port)
    if command is None:
        yield Restic("restic, local repository (no REST server found)", folder, str(repository), None)
        return
    with (folder / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_port(port)
            yield Restic(f"restic, {command[0]}", folder, f"rest:http://127.0.0.1:{port}/", server.pid)
        finally:
            server.terminate()


@contextmanager
def open_borg(folder: Path) -> Iterator[Tool]:
    """Make a repository."""
    yield Borg(folder)


def peers() -> dict[str, bool]:
    """Tell which programs are on PATH."""
    names = ("restic", "rest-server", "rclone", "borg", "syncthing", "tahoe")
    return {name: shutil.which(name) is not None for name in names}


def _rest_server(repository: Path, port: int) -> list[str] | None:
    if shutil.which("rest-server"):
        return ["rest-server", "--no-auth", "--path", str(repository), "--listen", f"127.0.0.1:{port}"]
    if shutil.which("rclone"):
        return ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{port}", str(repository)]
    return None


def tool_environment() -> dict[str, str]:
    """Return what the programs get to see of the environment."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_port(port: int) -> None:
    """Wait until somebody listens on a port of loopback."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
