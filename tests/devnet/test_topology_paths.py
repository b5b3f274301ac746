"""Which path two nodes really take through routers, and what they do when a path dies. Needs root."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sovereign_devnet.processes import wait_until
from sovereign_devnet.topology.namespace import missing_requirement
from sovereign_devnet.topology.nat import Nat
from sovereign_devnet.topology.network import HomesNetwork, Plan

pytestmark = [
    pytest.mark.root,
    pytest.mark.processes,
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement() or "namespaces can be made"),
]


def test_two_homes_behind_cone_routers_punch_through(tmp_path: Path) -> None:
    with HomesNetwork(tmp_path) as homes:
        homes.up()
        assert "holes be punched" in homes.laptop.call("status")["reachability"]
        assert any("/p2p-circuit/" in item for item in homes.provider.call("status")["addresses"])
        homes.open_contract()
        homes.wait_path("hole-punched")
        # It stays so: nobody closes what the other keeps.
        for _ in range(15):
            time.sleep(1)
            assert homes.path() == "hole-punched"


def test_behind_a_symmetric_router_the_relay_carries_and_nats_takes_over(tmp_path: Path) -> None:
    plan = Plan(provider_nat=Nat.SYMMETRIC, laptop_nat=Nat.SYMMETRIC, with_nats=True)
    with HomesNetwork(tmp_path, plan) as homes:
        homes.up()
        assert "another port for everybody" in homes.laptop.call("status")["reachability"]
        homes.open_contract()
        homes.wait_path("relayed via")
        homes.server.kill()
        homes.wait_path("NATS")
        homes.server.up()
        homes.wait_path("relayed via")
        assert homes.nats is not None
        homes.nats.stop()
        homes.wait_path("relayed via")


def test_without_relay_two_homes_meet_at_nats(tmp_path: Path) -> None:
    plan = Plan(laptop_nat=Nat.SYMMETRIC, with_relay=False, with_nats=True)
    with HomesNetwork(tmp_path, plan) as homes:
        homes.up()
        homes.open_contract()
        homes.wait_path("NATS")
        findings = {item["check"]: item for item in homes.laptop.call("doctor")["findings"]}
        assert "symmetric NAT" in findings["nat"]["message"]
        assert findings["nats"]["level"] == "ok"
        assert findings["relay"]["level"] == "warning"


def test_a_laptop_finds_a_public_server_directly_and_a_neighbour_by_lan(tmp_path: Path) -> None:
    with HomesNetwork(tmp_path, Plan(hosts_per_home=2)) as homes:
        neighbour = homes.cluster.place("neighbour", homes.homes[1].hosts[1], ["server"], bootstrap=homes.bootstrap)
        homes.cluster.up(homes.laptop, neighbour)
        server_id = homes.server.call("status")["peer_id"]
        wait_until(lambda: homes.laptop.paths(server_id) == {"direct"}, 20, "a direct path")
        neighbour_id = neighbour.call("status")["peer_id"]
        homes.laptop.call("ping", peer=neighbour_id)
        assert homes.laptop.paths(neighbour_id) == {"LAN"}
