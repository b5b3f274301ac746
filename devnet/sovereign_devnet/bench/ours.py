"""Sovereign itself as a backup program: a provider and a laptop as real processes, driven through the CLI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sovereign_devnet.bench.watch import Sample, Stopwatch
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.member import Member

_TIMEOUT_S = 1800.0
_CAPACITY_BYTES = 60_000_000_000
_CREDIT_MICRO_VIBE = 10**12


class Sovereign:
    """A laptop with a contract at a provider in another process.

    Args:
        name: in tables.
        provider: running.
        laptop: running, with a contract.
    """

    def __init__(self, name: str, provider: Member, laptop: Member) -> None:
        self.name = name
        self.provider = provider
        self.laptop = laptop
        self._projects: set[str] = set()

    def processes(self) -> dict[str, int]:
        """Return the process ids of both nodes."""
        assert self.provider.pid is not None
        assert self.laptop.pid is not None
        return {"provider": self.provider.pid, "laptop": self.laptop.pid}

    def protect(self, corpus: str, root: Path) -> None:
        """Make a project of a folder, once."""
        if corpus not in self._projects:
            self.laptop.run("protect", str(root), "--name", corpus)
            self._projects.add(corpus)

    def backup(self, corpus: str, root: Path) -> Sample:
        """Back up, from typing the command to its end."""
        self.protect(corpus, root)
        watch = Stopwatch(self.processes(), "command").start()
        done = self.laptop.run("backup", corpus, timeout_s=_TIMEOUT_S)
        sample = watch.stop(done["bytes_sent"])
        _require_complete(done)
        return sample

    def restore(self, corpus: str, root: Path, target: Path) -> Sample:
        """Restore the newest snapshot, from typing the command to its end."""
        watch = Stopwatch(self.processes(), "command").start()
        done = self.laptop.run("restore", corpus, "--to", str(target), timeout_s=_TIMEOUT_S)
        sample = watch.stop()
        _require_complete(done)
        return sample


@contextmanager
def open_sovereign(folder: Path, *, stack: str = "fast", name: str = "sovereign") -> Iterator[Sovereign]:
    """Run a provider and a laptop that has a contract with it; both end with the block.

    Args:
        folder: for everything on disk.
        stack: ``fast`` or ``stock``, of both nodes.
        name: in tables.
    """
    with Cluster(folder) as cluster:
        provider = cluster.create("provider", ["provider"], capacity=str(_CAPACITY_BYTES))
        provider.configure(
            net={"stack": stack}, provider={"credit_limit_micro_vibe": _CREDIT_MICRO_VIBE, "reserve_bytes": 0}
        )
        status = cluster.up(provider)[0]
        laptop = cluster.create("laptop", ["mobile"], bootstrap=[status["addresses"][0]])
        laptop.configure(net={"stack": stack})
        cluster.up(laptop)
        laptop.run("contract", "open", status["peer_id"], "--capacity", str(_CAPACITY_BYTES // 2))
        yield Sovereign(name, provider, laptop)


def _require_complete(done: dict[str, Any]) -> None:
    if done["partial"] or done["errors"]:
        raise RuntimeError(f"incomplete: {done['errors'][:5]}")
