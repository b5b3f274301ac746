"""``sovereign-devnet up``: builds a network, shows it, and holds it until Ctrl-C."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import typer

from sovereign_devnet.cluster import MAX_RUNNING, Cluster
from sovereign_devnet.errors import DevnetError
from sovereign_devnet.member import Member, stop_all
from sovereign_devnet.nats_process import NatsProcess, has_nats
from sovereign_devnet.registry import Entry, Registry
from sovereign_devnet.table import member_rows, show_members

LOOK_INTERVAL_S = 0.2
PROVIDER_CAPACITY = "20GB"
CONTRACT_CAPACITY = "5GB"


@dataclass(frozen=True)
class Plan:
    """How many nodes of each kind.

    Args:
        providers: each with an identity of its own.
        servers: always-on devices of the one owner.
        mobiles: the owner's other devices; the first creates the identity.
        with_nats: whether there is a NATS server that all of them use.
        only_nats: whether nothing else leads from one to the other.
    """

    providers: int
    servers: int
    mobiles: int
    with_nats: bool = False
    only_nats: bool = False


def run_foreground(folder: Path, plan: Plan) -> None:
    """Run a network until Ctrl-C; one that is in the folder already is started again.

    Raises:
        DevnetError: too many nodes, or one does not start; nothing is left running.
    """
    if plan.providers + plan.servers + plan.mobiles > MAX_RUNNING:
        raise DevnetError(f"at most {MAX_RUNNING} nodes run at a time")
    registry = Registry.open_or_new(folder)
    with registry.locked(), ExitStack() as exits:
        nats: list[str] = []
        if plan.with_nats or plan.only_nats or has_nats(registry.folder):
            server = NatsProcess(registry.folder)
            exits.callback(server.stop)
            nats.append(server.url)
        cluster = exits.enter_context(Cluster(folder, nats=nats))
        if registry.entries:
            members = [cluster.take(entry.name) for entry in registry.entries]
            for member in members:
                member.configure(relay={"nats": tuple(nats)})
            cluster.up(*members)
        else:
            _Builder(cluster, registry).build(plan)
            if plan.only_nats:
                _take_apart(cluster, registry.entries[0], nats[0])
        show_members(member_rows(registry.members()))
        if nats:
            typer.echo(f"NATS server: {nats[0]}")
        typer.echo(f"Ctrl-C stops them. In another terminal: sovereign-devnet status --dir {folder}")
        try:
            _watch(cluster)
        except KeyboardInterrupt:
            typer.echo("stopping")


def _take_apart(cluster: Cluster, first: Entry, nats: str) -> None:
    """Let no node listen any more, so that a NATS server is the only way from one to the other."""
    typer.echo("starting all of them again without listeners", err=True)
    members = list(cluster.members.values())
    stop_all(members)
    bootstrap = f"{nats.replace('nats://', '/nats/')}/p2p/{first.peer_id}"
    for member in members:
        member.configure(net={"listen": (), "bootstrap": (bootstrap,)})
    cluster.up(*members)


def _watch(cluster: Cluster) -> None:
    """Say when nodes come and go, until interrupted."""
    known = dict.fromkeys(cluster.members, True)
    while True:
        time.sleep(LOOK_INTERVAL_S)
        for name, member in cluster.members.items():
            if member.is_running != known[name]:
                known[name] = not known[name]
                typer.echo(f"{name} is {'up' if known[name] else 'down'}")


class _Builder:
    """Makes the nodes of a plan and writes them into the registry."""

    def __init__(self, cluster: Cluster, registry: Registry) -> None:
        self._cluster = cluster
        self._registry = registry
        self._bootstrap: list[str] = []

    def build(self, plan: Plan) -> None:
        for number in range(1, plan.providers + 1):
            typer.echo(f"starting provider-{number}", err=True)
            self._start(
                self._cluster.create(
                    f"provider-{number}", ["provider"], bootstrap=self._bootstrap, capacity=PROVIDER_CAPACITY
                )
            )
        typer.echo("starting mobile-1", err=True)
        owner = self._cluster.create("mobile-1", ["mobile"], bootstrap=self._bootstrap)
        self._start(owner)
        # Own devices join through the identity record, which needs a provider that keeps it.
        owner.run("contract", "open", self._registry.entries[0].peer_id, "--capacity", CONTRACT_CAPACITY)
        others = [(f"server-{number}", "server") for number in range(1, plan.servers + 1)]
        others += [(f"mobile-{number}", "mobile") for number in range(2, plan.mobiles + 1)]
        for name, role in others:
            typer.echo(f"starting {name}", err=True)
            self._start(self._cluster.join(name, [role], owner.kit_file, bootstrap=self._bootstrap))

    def _start(self, member: Member) -> None:
        status = self._cluster.up(member)[0]
        self._bootstrap = self._bootstrap or [status["addresses"][0]]
        self._registry.add(Entry(member.name, status["roles"], status["peer_id"]))
