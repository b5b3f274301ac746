"""``sovereign-devnet up --topology nat``: the paths that nodes take through routers, and what changes them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.program import command_line
from sovereign_devnet.topology.hosted import HostedMember
from sovereign_devnet.topology.namespace import missing_requirement
from sovereign_devnet.topology.nat import Nat
from sovereign_devnet.topology.network import HomesNetwork, Plan

Say = Callable[[str], None]
TOPOLOGIES = ("nat",)


def run_topology(name: str, say: Say, folder: Path | None = None, *, stay: bool = True) -> bool:
    """Build a topology, show its paths, and keep it up until Ctrl-C.

    Args:
        name: one of `TOPOLOGIES`.
        say: takes each line for the user.
        folder: for everything on disk; a temporary one if None.
        stay: whether to keep the last network up.

    Returns:
        False if it cannot be built here; why was said.

    Raises:
        DevnetError: an unknown topology, or a path was not as expected.
    """
    if name not in TOPOLOGIES:
        raise DevnetError(f"topology {name!r} is unknown; there is {', '.join(TOPOLOGIES)}")
    reason = missing_requirement()
    if reason:
        say(f"skipped: {reason}")
        return False
    with tempfile.TemporaryDirectory(prefix="sovereign-devnet-") as temporary:
        place = folder or Path(temporary)
        _show_cone(place / "cone", say)
        _show_symmetric(place / "symmetric", say, stay=stay)
    return True


def _show_cone(folder: Path, say: Say) -> None:
    say("two homes behind routers that keep one outside port for one inside port (cone NAT)")
    with HomesNetwork(folder) as homes:
        homes.up()
        _say_reach(homes.laptop, say)
        homes.open_contract()
        _say_path(homes, "hole-punched", say, "the laptop reaches the provider")
        homes.topology.separate(*homes.homes)
        _say_path(homes, "relayed via", say, "no packet gets from home to home: the laptop reaches the provider")
        homes.topology.reunite(homes.homes[0])
        _say_path(homes, "hole-punched", say, "the line is back: the laptop reaches the provider")


def _show_symmetric(folder: Path, say: Say, *, stay: bool) -> None:
    say("two homes behind routers that take another outside port for everybody (symmetric NAT)")
    plan = Plan(provider_nat=Nat.SYMMETRIC, laptop_nat=Nat.SYMMETRIC, with_nats=True)
    with HomesNetwork(folder, plan) as homes:
        homes.up()
        _say_reach(homes.laptop, say)
        homes.open_contract()
        _say_path(homes, "relayed via", say, "the laptop reaches the provider")
        homes.server.kill()
        _say_path(homes, "NATS", say, "the relay is gone: the laptop reaches the provider")
        homes.server.up()
        _say_path(homes, "relayed via", say, "the relay is back: the laptop reaches the provider")
        if stay:
            _stay(homes, say)


def _say_reach(member: HostedMember, say: Say) -> None:
    say(f"  {member.name}: {member.call('status')['reachability']}")


def _say_path(homes: HomesNetwork, word: str, say: Say, what: str) -> None:
    started = time.monotonic()
    path = homes.wait_path(word)
    say(f"  {what}: {path} ({time.monotonic() - started:.1f} s)")


def _stay(homes: HomesNetwork, say: Say) -> None:
    for member in (homes.server, homes.provider, homes.laptop):
        words = " ".join(command_line(member.data_dir.root, "peers", as_json=False))
        say(f"  {member.name}: ip netns exec {member.host.full_name} {words}")
    say("running until Ctrl-C")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        say("stopping")
