"""Nodes whose processes live in network namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sovereign_devnet.cluster import Cluster
from sovereign_devnet.errors import DevnetError
from sovereign_devnet.member import Member
from sovereign_devnet.program import COMMAND_TIMEOUT_S, Finished
from sovereign_devnet.topology.namespace import Namespace

PORT = 4001


class HostedMember(Member):
    """A device whose process and commands run inside a namespace.

    Args:
        name: of the device; names its files, too.
        folder: of the whole test network.
        host: where it runs.
    """

    def __init__(self, name: str, folder: Path, host: Namespace) -> None:
        super().__init__(name, folder)
        self.host = host

    def attempt(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Run ``sovereign WORDS --json`` inside the namespace, whatever comes of it."""
        return self.host.inside(lambda: super(HostedMember, self).attempt(*words, timeout_s=timeout_s))

    def call(self, operation: str, **parameters: Any) -> Any:
        """Run an operation of the running node through its local API."""
        return self.host.inside(lambda: super(HostedMember, self).call(operation, **parameters))

    def stream(self, operation: str, **parameters: Any) -> Any:
        """Run a streaming operation through the local API and return its result."""
        return self.host.inside(lambda: super(HostedMember, self).stream(operation, **parameters))

    def start(self, bootstrap: Sequence[str] = ()) -> None:
        """Start the process inside the namespace."""
        self.host.inside(lambda: super(HostedMember, self).start(bootstrap))

    def paths(self, peer_id: str) -> set[str]:
        """Return the paths of all connections to a peer, in the words that a user sees."""
        return {item["path_text"] for item in self.call("peers") if item["peer_id"] == peer_id}

    def _keep_port(self, addresses: Sequence[str]) -> None:
        """Nothing to keep: the port is fixed, and what is published may be an address of a relay."""


class HostedCluster(Cluster):
    """Devices in namespaces; all of their processes stop at the end of the block.

    Args:
        folder: for everything on disk; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._hosts: dict[str, Namespace] = {}

    def place(
        self,
        name: str,
        host: Namespace,
        roles: Sequence[str],
        *,
        bootstrap: Sequence[str] = (),
        capacity: str = "",
        nats: Sequence[str] = (),
    ) -> HostedMember:
        """Create an identity with its first device on a host; the node is not started.

        Args:
            name: of the device.
            host: where its process will run.
            roles: server, mobile, provider.
            bootstrap: addresses of nodes to ask first.
            capacity: what a provider or server offers.
            nats: URLs of NATS servers.
        """
        self._hosts[name] = host
        member = self.create(name, roles, bootstrap=bootstrap, capacity=capacity)
        assert isinstance(member, HostedMember)
        member.configure(net={"listen": (f"/ip4/0.0.0.0/tcp/{PORT}",)}, relay={"nats": tuple(nats)})
        return member

    def _new(self, name: str) -> Member:
        if self.members.get(name) is not None:
            raise DevnetError(f"there is a device named {name}")
        return HostedMember(name, self.folder, self._hosts[name])
