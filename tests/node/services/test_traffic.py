"""Limits follow the schedule, the network and commands, and commands outlive restarts."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import trio

from sovereign_node.config import NetConfig
from sovereign_node.rates import Rates
from sovereign_node.services import traffic as traffic_module
from sovereign_node.services.traffic import Traffic
from sovereign_node.store import State, open_state

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
NET = NetConfig(
    upload_limit_bytes_per_s=1000,
    limit_schedule=("22:00-06:00 up=0",),
    peer_limits=(f"{PEER} up=10 down=20",),
    metered_upload_limit_bytes_per_s=300,
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(tmp_path / "state.sqlite")
    yield state
    state.close()


class Rig:
    """A traffic service whose surroundings a test turns."""

    def __init__(self, state: State) -> None:
        self.hour = 12
        self.is_metered = False
        self.resumed = 0
        self.rules: list[str] = []
        self.set: list[tuple[Rates, dict[str, Rates]]] = []
        self.traffic = Traffic(
            lambda rates, peers: self.set.append((rates, dict(peers))),
            NET,
            state,
            clock=lambda: datetime(2026, 3, 2, self.hour).astimezone(),
            ask_metered=self._ask,
            on_resumed=self._resume,
        )

    def _resume(self) -> None:
        self.resumed += 1

    def _ask(self, rule: str, _interfaces: object) -> bool:
        self.rules.append(rule)
        return self.is_metered if rule == "auto" else rule == "yes"


async def until(condition) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.005)


@pytest.fixture
def rig(state: State, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(traffic_module, "CHECK_S", 0.01)
    return Rig(state)


async def test_the_schedule_is_followed(rig: Rig, nursery: trio.Nursery) -> None:
    await nursery.start(rig.traffic.run)
    of_peer = {PEER: Rates(10, 20)}
    assert rig.set == [(Rates(1000, 0), of_peer)]
    rig.hour = 23
    await until(lambda: len(rig.set) == 2)
    assert rig.set[1] == (Rates(0, 0), of_peer)
    assert rig.traffic.document()["reason"] == "schedule"
    rig.hour = 7
    await until(lambda: len(rig.set) == 3)
    assert rig.set[2] == rig.set[0]


async def test_on_a_metered_network_background_work_waits(rig: Rig, nursery: trio.Nursery) -> None:
    rig.is_metered = True
    await nursery.start(rig.traffic.run)
    assert rig.set == [(Rates(300, 0), {PEER: Rates(10, 20)})]
    assert rig.traffic.is_paused
    assert rig.traffic.document()["background_paused"]
    rig.is_metered = False
    await trio.sleep(0.05)
    # It asks now and then only, unless the network has changed.
    assert rig.resumed == 0
    rig.traffic.check_soon()
    await until(lambda: rig.resumed == 1)
    assert rig.set[-1][0] == Rates(1000, 0)


async def test_commands_hold_over_a_restart_until_cleared(rig: Rig, state: State, nursery: trio.Nursery) -> None:
    await nursery.start(rig.traffic.run)
    await rig.traffic.command(rates=Rates(5, 6), metered="yes")
    await rig.traffic.command(peers={PEER: Rates(0, 0), "other": Rates(7, 8)})
    assert rig.set[-1] == (Rates(5, 6), {PEER: Rates(0, 0), "other": Rates(7, 8)})
    assert (rig.traffic.rates, rig.traffic.rates_of("other")) == (Rates(5, 6), Rates(7, 8))
    later = Rig(state)
    await nursery.start(later.traffic.run)
    assert later.set == rig.set[-1:]
    assert (later.rules[0], later.traffic.document()["reason"]) == ("yes", "command")
    await later.traffic.command(metered="auto")
    assert later.rules[-1] == "auto"
    await later.traffic.clear()
    assert later.set[-1] == (Rates(1000, 0), {PEER: Rates(10, 20)})
    assert later.traffic.rates_of("other") == Rates()
