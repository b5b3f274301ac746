"""Tahoe-LAFS: an introducer and one node that is storage and client at once, all on loopback, one share of one.

Its backup command makes a directory per run and uploads file by file, so it takes part only with the corpus that is
one file; source trees would take it the better part of an hour.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sovereign_devnet.bench.tools import Tool, folder_bytes, free_port, tool_environment, wait_port
from sovereign_devnet.bench.watch import Sample, Stopwatch, run_measured
from sovereign_devnet.processes import wait_until

_START_S = 60.0


class Tahoe:
    """A grid of one.

    Args:
        node: its folder.
        pid: of its process.
    """

    name = "tahoe, grid of one node"

    def __init__(self, node: Path, pid: int) -> None:
        self._node = node
        self._pid = pid
        run_measured(["tahoe", "--node-directory", str(node), "create-alias", "backups"], tool_environment())

    def backup(self, corpus: str, root: Path) -> Sample:
        """See :class:`sovereign_devnet.bench.tools.Tool`."""
        return self._run(["backup", str(root), f"backups:{corpus}"])

    def restore(self, corpus: str, root: Path, target: Path) -> Sample:
        """See :class:`sovereign_devnet.bench.tools.Tool`."""
        # The copy gets the name of the directory below the folder that is named.
        around = target.with_name(f"{target.name}-around")
        around.mkdir(parents=True)
        sample = self._run(["cp", "--recursive", f"backups:{corpus}/Latest", str(around)])
        (around / "Latest").rename(target)
        around.rmdir()
        return sample

    def _run(self, words: list[str]) -> Sample:
        before = folder_bytes(self._node / "storage")
        watch = Stopwatch({"node": self._pid}, "tahoe").start()
        _, _, peak_mb, _ = run_measured(["tahoe", "--node-directory", str(self._node), *words], tool_environment())
        sample = watch.stop(child_peak_mb=peak_mb)
        sent_bytes = max(0, folder_bytes(self._node / "storage") - before)
        return Sample(sample.seconds, sample.cpu_s, sample.peak_rss_mb, sent_bytes)


@contextmanager
def open_tahoe(folder: Path) -> Iterator[Tool]:
    """Start the introducer and the node, and wait until the node has found its own storage."""
    introducer, node = folder / "introducer", folder / "node"
    with ExitStack() as stack:
        _create("create-introducer", introducer, [])
        stack.enter_context(_running(introducer))
        furl = introducer / "private" / "introducer.furl"
        wait_until(furl.exists, _START_S, "the introducer of tahoe")
        web_port = free_port()
        shares = [f"--shares-{name}=1" for name in ("needed", "happy", "total")]
        web = f"--webport=tcp:{web_port}:interface=127.0.0.1"
        _create("create-node", node, [f"--introducer={furl.read_text('ascii').strip()}", web, *shares])
        pid = stack.enter_context(_running(node))
        wait_port(web_port)
        yield Tahoe(node, pid)


def _create(command: str, folder: Path, words: list[str]) -> None:
    port = free_port()
    place = [f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}"]
    run_measured(["tahoe", command, *place, *words, str(folder)], tool_environment())


@contextmanager
def _running(folder: Path) -> Iterator[int]:
    with (folder / "log.txt").open("wb") as log:
        # It ends when its standard input does.
        command = ["tahoe", "run", str(folder)]
        with subprocess.Popen(command, env=tool_environment(), stdin=-1, stdout=log, stderr=log) as process:
            yield process.pid
