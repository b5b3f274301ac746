"""What is known of a test network by other terminals: ``devnet.json`` and ``devnet.lock`` in its folder.

The process of ``sovereign-devnet up`` holds the lock as long as it lives. Nodes are found through their own data
directories, so commands work on a network whose terminal was closed, too.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.member import Member, stop_all
from sovereign_devnet.nats_process import stop_leftover
from sovereign_devnet.processes import request_stop, wait_until

DOWN_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Entry:
    """A node of the network.

    Args:
        name: of the device.
        roles: server, mobile, provider.
        peer_id: base58 text.
    """

    name: str
    roles: list[str]
    peer_id: str


class Registry:
    """The nodes of one folder.

    Args:
        folder: of the network.
        entries: its nodes.
    """

    def __init__(self, folder: Path, entries: Sequence[Entry]) -> None:
        self.folder = folder.absolute()
        self.entries = list(entries)

    @classmethod
    def open(cls, folder: Path) -> Registry:
        """Read the registry of a folder.

        Raises:
            DevnetError: there is none.
        """
        try:
            rows = json.loads((folder / "devnet.json").read_text("utf-8"))
        except FileNotFoundError:
            raise DevnetError(
                f"there is no test network in {folder}; start one with: sovereign-devnet up --dir {folder}"
            ) from None
        return cls(folder, [Entry(**row) for row in rows])

    @classmethod
    def open_or_new(cls, folder: Path) -> Registry:
        """Read the registry of a folder, or return an empty one."""
        return cls.open(folder) if (folder / "devnet.json").exists() else cls(folder, [])

    def add(self, entry: Entry) -> None:
        """Add a node and save."""
        self.entries.append(entry)
        temporary = self.folder / ".devnet.json.new"
        temporary.write_text(json.dumps([asdict(item) for item in self.entries], indent=2) + "\n", "utf-8")
        temporary.replace(self.folder / "devnet.json")

    def members(self) -> list[tuple[Entry, Member]]:
        """Return the nodes."""
        return [(entry, Member(entry.name, self.folder)) for entry in self.entries]

    def member(self, name: str) -> Member:
        """Return a node by its name.

        Raises:
            DevnetError: there is none of that name.
        """
        if name not in {entry.name for entry in self.entries}:
            known = ", ".join(entry.name for entry in self.entries)
            raise DevnetError(f"no node is named {name}; there are {known}")
        return Member(name, self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second ``up``.

        Raises:
            DevnetError: one runs already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DevnetError(
                    f"a test network runs in {self.folder}; stop it with: sovereign-devnet down"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def stop(self) -> list[str]:
        """Stop the network and whatever still runs of it.

        Returns:
            Names of nodes that had to be killed.
        """
        pid = self._holder()
        if pid is not None:
            request_stop(pid)
            with suppress(DevnetError):
                wait_until(lambda: self._holder() is None, DOWN_TIMEOUT_S, "stopping the network")
        killed = stop_all([member for _, member in self.members()])
        stop_leftover(self.folder)
        return killed

    @property
    def _lock_file(self) -> Path:
        return self.folder / "devnet.lock"

    def _holder(self) -> int | None:
        """Return the process id of the ``up`` that holds the lock."""
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(descriptor)
        return None
