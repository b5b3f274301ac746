"""A device that comes into another network is connected again, and found by others, within seconds. Needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

from sovereign_devnet.processes import wait_until
from sovereign_devnet.topology.namespace import missing_requirement
from sovereign_devnet.topology.network import HomesNetwork, Plan

pytestmark = [
    pytest.mark.root,
    pytest.mark.processes,
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement() or "namespaces can be made"),
]

BACK_S = 10.0
PUBLISHED_S = 20.0


def test_a_device_with_another_address_is_back_and_published(tmp_path: Path) -> None:
    with HomesNetwork(tmp_path, Plan()) as homes:
        homes.up()
        homes.open_contract()
        homes.wait_path("")
        host, home = homes.provider.host, homes.homes[0]
        old, new = f"{home.prefix}.11", f"{home.prefix}.77"
        assert any(old in address for address in homes.provider.call("status")["addresses"])
        # As another lease, or another Wi-Fi: connections from the old address are dead, and nobody says so.
        host.ip("address", "flush", "dev", "eth0")
        host.ip("address", "add", f"{new}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", f"{home.prefix}.1")
        server_id = homes.server.call("status")["peer_id"]
        wait_until(lambda: works(homes, server_id), BACK_S, "reaching the server from the new address")

        def is_published() -> bool:
            (offer,) = homes.laptop.call("offers")
            return any(new in address for address in offer["addresses"])

        wait_until(is_published, PUBLISHED_S, "publishing the new address")
        assert not any(old in address for address in homes.provider.call("status")["addresses"])
        # The laptop did not move, and nobody told it: the provider came to it.
        wait_until(lambda: homes.path() != "", BACK_S, "the laptop reaching the provider")


def works(homes: HomesNetwork, server_id: str) -> bool:
    """Whether the provider has a connection to the server that was made after it had moved."""
    rows = [row for row in homes.provider.call("peers") if row["peer_id"] == server_id]
    return any(row["connected_s"] < BACK_S and row["rtt_ms"] is not None for row in rows)
