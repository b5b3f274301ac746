"""A public segment, and homes behind routers that translate addresses."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.topology.cable import Cable
from sovereign_devnet.topology.namespace import (
    Namespace,
    connect_by_veth,
    missing_requirement,
    remove_leftovers,
)

# Nodes must take these for addresses of the open network, which those reserved for examples are not. No namespace
# has a route to anywhere else, so no packet to them leaves the machine.
PUBLIC_NET = "11.77.0"
PUBLIC_BITS = 24
MAX_HOMES = 8


class Nat(Enum):
    """How a router translates."""

    # One outside port for one inside port, whoever is called.
    CONE = "masquerade"
    # A random outside port for every destination.
    SYMMETRIC = "masquerade random,fully-random"


@dataclass(frozen=True)
class Home:
    """Hosts behind one router.

    Attributes:
        name: of the home.
        router: its router.
        hosts: namespaces of its hosts, plugged to one segment.
        cable: between the router and the public segment.
        public_ip: of the router.
        prefix: first three numbers of the hosts' addresses.
    """

    name: str
    router: Namespace
    hosts: tuple[Namespace, ...]
    cable: Cable
    public_ip: str
    prefix: str


class NatTopology:
    """Builds the network; removes all of it at the end of the block, also after a failure."""

    def __init__(self) -> None:
        reason = missing_requirement()
        if reason:
            raise DevnetError(reason)
        self._exits = ExitStack()
        self._homes: list[Home] = []
        self._publics: list[Namespace] = []
        self._internet: Namespace | None = None

    def __enter__(self) -> NatTopology:
        remove_leftovers()
        try:
            self._internet = self._namespace("inet")
            _make_bridge(self._internet)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def public_host(self, name: str) -> tuple[Namespace, str]:
        """Add a host to the public segment; returns it and its address."""
        assert self._internet is not None
        host = self._namespace(name)
        self._publics.append(host)
        address = f"{PUBLIC_NET}.{1 + len(self._publics)}"
        connect_by_veth((self._internet, f"p{len(self._publics)}"), (host, "eth0"))
        self._internet.ip("link", "set", f"p{len(self._publics)}", "master", "br0")
        host.ip("address", "add", f"{address}/{PUBLIC_BITS}", "dev", "eth0")
        return host, address

    def home(self, name: str, nat: Nat, *, hosts: int = 1) -> Home:
        """Add a home: its hosts are `name`, `name-2` and so on, its router is plugged to the public segment."""
        assert self._internet is not None
        number = len(self._homes) + 1
        if number > MAX_HOMES:
            raise DevnetError(f"at most {MAX_HOMES} homes")
        router = self._namespace(f"{name}-router")
        cable = Cable((router, "wan"), (self._internet, f"h{number}"), seed=number)
        self._exits.callback(cable.close)
        self._internet.ip("link", "set", f"h{number}", "master", "br0")
        public_ip, prefix = f"{PUBLIC_NET}.{100 + number}", f"192.168.{number}"
        router.ip("address", "add", f"{public_ip}/{PUBLIC_BITS}", "dev", "wan")
        _make_bridge(router)
        router.ip("address", "add", f"{prefix}.1/24", "dev", "br0")
        router.forward()
        router.nft(_ruleset(nat))
        inside = tuple(self._plug(router, name, prefix, index) for index in range(1, hosts + 1))
        home = Home(name, router, inside, cable, public_ip, prefix)
        self._homes.append(home)
        return home

    def separate(self, one: Home, other: Home) -> None:
        """Lose every packet from one home to the other; both still reach everybody else."""
        one.router.nft(_wall(other.public_ip))

    def reunite(self, one: Home) -> None:
        """Take back what `separate` did."""
        one.router.nft("delete table ip wall")

    def _plug(self, router: Namespace, name: str, prefix: str, index: int) -> Namespace:
        host = self._namespace(name if index == 1 else f"{name}-{index}")
        connect_by_veth((router, f"l{index}"), (host, "eth0"))
        router.ip("link", "set", f"l{index}", "master", "br0")
        host.ip("address", "add", f"{prefix}.{10 + index}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", f"{prefix}.1")
        return host

    def _namespace(self, name: str) -> Namespace:
        namespace = Namespace(name)
        self._exits.callback(namespace.remove)
        return namespace


def _make_bridge(namespace: Namespace) -> None:
    namespace.ip("link", "add", "br0", "type", "bridge")
    namespace.ip("link", "set", "br0", "up")


def _wall(address: str) -> str:
    """Drop what comes from an address before the router tracks it, and what goes there."""
    return f"""
table ip wall {{
  chain from {{
    type filter hook prerouting priority raw; policy accept;
    ip saddr {address} drop
  }}
  chain to {{
    type filter hook postrouting priority filter; policy accept;
    ip daddr {address} drop
  }}
}}
"""


def _ruleset(nat: Nat) -> str:
    """Translate what leaves, let answers in, and be silent to everything else, as home routers are."""
    return f"""
table ip home {{
  chain out {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" {nat.value}
  }}
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "br0" accept
  }}
  chain here {{
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" drop
  }}
}}
"""
