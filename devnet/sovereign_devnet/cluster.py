"""A network of real node processes on this machine, all of them on 127.0.0.1 and below one folder.

nodes/NAME        data directory of a device
logs/NAME.log     what its process printed
kits/NAME.kit     recovery kit of an identity
passphrase        of all identities
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.member import LISTEN, Member, stop_all
from sovereign_node.config import ROLES

MAX_RUNNING = 12  # a node takes some 100 MB; more of them only make a small machine slow


class Cluster:
    """Makes devices and stops all of their processes at the end of the block.

    Args:
        folder: for everything on disk; made if missing.
        passphrase: of every identity of a new folder; a random one if None.
        nats: URLs of NATS servers that all new devices use.
    """

    def __init__(self, folder: Path, passphrase: str | None = None, *, nats: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self._nats = tuple(nats)
        self.passphrase_file = self.folder / "passphrase"
        self.members: dict[str, Member] = {}
        for name in ("nodes", "logs", "kits"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.passphrase_file.exists():
            _write_secret(self.passphrase_file, passphrase or f"devnet {secrets.token_hex(8)}")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> list[str]:
        """Stop every process; returns the names of nodes that had to be killed."""
        return stop_all(list(self.members.values()))

    def take(self, name: str) -> Member:
        """Take charge of a device that is in the folder already."""
        member = Member(name, self.folder)
        member.data_dir.require_initialised()
        self.members[name] = member
        return member

    def create(
        self, name: str, roles: Sequence[str], *, bootstrap: Sequence[str] = (), capacity: str = ""
    ) -> Member:
        """Create an identity with its first device by ``sovereign init``.

        Args:
            name: of the device.
            roles: server, mobile, provider.
            bootstrap: addresses of nodes to ask first.
            capacity: what a provider or server offers, for example ``20GB``.
        """
        member = self._new(name)
        options = ["--capacity", capacity] if capacity else []
        member.run("init", *self._device_options(member, roles, bootstrap), *options)
        self._adopt(member)
        return member

    def join(self, name: str, roles: Sequence[str], kit_file: Path, *, bootstrap: Sequence[str]) -> Member:
        """Bring an identity to one more device by ``sovereign join``.

        Args:
            name: of the new device.
            roles: server, mobile, provider.
            kit_file: of the identity.
            bootstrap: addresses of nodes to ask first.
        """
        member = self._new(name)
        member.kit_file = kit_file
        member.run("join", *self._device_options(member, roles, bootstrap))
        self._adopt(member)
        return member

    def up(self, *members: Member) -> list[dict[str, Any]]:
        """Start nodes side by side and return their status documents."""
        running = sum(member.is_running for member in self.members.values())
        if running + len(members) > MAX_RUNNING:
            raise DevnetError(f"at most {MAX_RUNNING} nodes run at a time")
        for member in members:
            member.start()
        return [member.wait_ready() for member in members]

    def _new(self, name: str) -> Member:
        if self.members.get(name) is not None and self.members[name].data_dir.is_initialised():
            raise DevnetError(f"there is a device named {name}")
        return Member(name, self.folder)

    def _adopt(self, member: Member) -> None:
        # The network of a test ends at this machine.
        member.configure(net={"mdns": False}, relay={"nats": self._nats})
        self.members[member.name] = member

    def _device_options(self, member: Member, roles: Sequence[str], bootstrap: Sequence[str]) -> list[str]:
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            raise DevnetError(f"role {unknown[0]!r} is unknown")
        pairs = [("--name", member.name), ("--listen", LISTEN), ("--kit-file", str(member.kit_file))]
        pairs += [("--passphrase-file", str(self.passphrase_file))]
        pairs += [("--role", role) for role in roles] + [("--bootstrap", address) for address in bootstrap]
        return [word for pair in pairs for word in pair]


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
