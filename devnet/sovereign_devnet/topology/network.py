"""The standard network of homes: a public server with relay and NATS, a provider and a laptop in two homes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.nats_process import NatsProcess
from sovereign_devnet.processes import wait_until
from sovereign_devnet.topology.hosted import HostedCluster, HostedMember
from sovereign_devnet.topology.namespace import Namespace
from sovereign_devnet.topology.nat import Home, Nat, NatTopology
from sovereign_node.errors import NodeError

REACHED_TIMEOUT_S = 90.0
PATH_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is built.

    Attributes:
        provider_nat: the router of the provider's home.
        laptop_nat: the router of the laptop's home.
        with_relay: whether the public server carries circuits.
        with_nats: whether there is a NATS server that all nodes use.
        hosts_per_home: hosts behind each router.
    """

    provider_nat: Nat = Nat.CONE
    laptop_nat: Nat = Nat.CONE
    with_relay: bool = True
    with_nats: bool = False
    hosts_per_home: int = 1


class HomesNetwork:
    """Builds and runs the network for the length of the block; leaves nothing behind, also after a failure.

    Args:
        folder: for everything on disk.
        plan: what is built.

    Attributes:
        server: public; bootstrap and relay.
        provider: behind the first home's router.
        laptop: behind the second home's router.
        nats: the public NATS server, None without.
        homes: of the provider and of the laptop.
        topology: their network.
    """

    server: HostedMember
    provider: HostedMember
    laptop: HostedMember
    homes: tuple[Home, Home]
    topology: NatTopology

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        self._folder = folder
        self._plan = plan or Plan()
        self._exits = ExitStack()
        self.nats: NatsProcess | None = None
        self.bootstrap: list[str] = []

    def __enter__(self) -> HomesNetwork:
        try:
            self._build()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _build(self) -> None:
        plan = self._plan
        topology = self.topology = self._exits.enter_context(NatTopology())
        # Entered later, so that nodes stop before their network goes.
        self.cluster = HostedCluster(self._folder)
        self._exits.callback(self.cluster.close)
        public, address = topology.public_host("public")
        if plan.with_nats:
            self.nats = NatsProcess(self.cluster.folder, address, public.inside)
            self._exits.callback(self.nats.stop)
        self.homes = (
            topology.home("alpha", plan.provider_nat, hosts=plan.hosts_per_home),
            topology.home("beta", plan.laptop_nat, hosts=plan.hosts_per_home),
        )
        self.server = self._place("server", public, "server")
        self.server.configure(net={"relay": plan.with_relay})
        self.bootstrap = [self.server.up()["addresses"][0]]
        self.provider = self._place("provider", self.homes[0].hosts[0], "provider", capacity="5GB")
        self.laptop = self._place("laptop", self.homes[1].hosts[0], "mobile")

    def _place(self, name: str, host: Namespace, role: str, capacity: str = "") -> HostedMember:
        servers = [self.nats.url] if self.nats is not None else []
        return self.cluster.place(name, host, [role], bootstrap=self.bootstrap, capacity=capacity, nats=servers)

    def up(self) -> None:
        """Start provider and laptop, and wait until both know how they are reached."""
        self.cluster.up(self.provider, self.laptop)
        for member in (self.provider, self.laptop):
            wait_until(
                partial(knows_its_reach, member), REACHED_TIMEOUT_S, f"what {member.name} knows of its reach"
            )

    def open_contract(self) -> str:
        """Let the laptop open a contract with the provider; returns the provider's peer id."""
        peer_id = str(self.provider.call("status")["peer_id"])
        self.laptop.run("contract", "open", peer_id, "--capacity", "1GB")
        return peer_id

    def path(self) -> str:
        """Return the path that new streams from the laptop to the provider take; empty if there is none."""
        peer_id = str(self.provider.call("status")["peer_id"])
        try:
            return str(self.laptop.call("ping", peer=peer_id, count=1)["path_text"])
        except NodeError:
            return ""

    def wait_path(self, word: str, *, timeout_s: float = PATH_TIMEOUT_S) -> str:
        """Wait until new streams from the laptop to the provider take a path.

        Args:
            word: beginning of the path's text, as `relayed via`.
            timeout_s: longest wait.

        Returns:
            The whole text.
        """
        seen = [""]

        def is_there() -> bool:
            seen[0] = self.path()
            return bool(seen[0]) and seen[0].startswith(word)

        try:
            wait_until(is_there, timeout_s, f"the path {word!r}")
        except DevnetError as error:
            raise DevnetError(f"{error}; there is {seen[0] or 'none'}") from error
        return seen[0]


def knows_its_reach(member: HostedMember) -> bool:
    """Say whether others have tried to reach a node, and what it needs for that is there."""
    text = str(member.call("status")["reachability"])
    return "others can" in text
