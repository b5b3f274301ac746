"""A second device joins, is found, and is revoked again with the passphrase of the first."""

from __future__ import annotations

from pathlib import Path

import pytest
from devnet_network import TwoProviders

from sovereign_devnet.processes import wait_until
from sovereign_node.errors import ExitCode

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_device_joins_and_is_revoked(network: TwoProviders, tmp_path: Path) -> None:
    laptop = network.laptop
    network.project("shared", copies=1)
    laptop.run("backup", "shared")
    spare = network.cluster.join("spare", ["mobile"], laptop.kit_file, bootstrap=[network.first.address()])
    network.cluster.up(spare)
    assert len(spare.run("snapshots", "shared")) == 1
    names = {"laptop", "spare"}
    wait_until(lambda: names <= {item["name"] for item in laptop.call("devices")}, 60, "learning of the device")

    messages = set()
    for text in ("wrong", network.cluster.passphrase_file.read_text("utf-8").strip() + "x", "x" * 200):
        file = tmp_path / "passphrase"
        file.write_text(text + "\n", "utf-8")
        file.chmod(0o600)
        refused = laptop.attempt("device", "revoke", "spare", "--passphrase-file", str(file))
        assert refused.exit_code == ExitCode.CANNOT_UNLOCK
        messages.add((refused.error["message"], refused.error["hint"]))
    assert len(messages) == 1

    laptop.run("device", "revoke", "spare", "--passphrase-file", str(network.cluster.passphrase_file))
    revoked = {item["name"]: item["revoked_at"] for item in laptop.call("devices")}
    assert revoked["laptop"] is None
    assert revoked["spare"] is not None

    # Providers learn of it with the next conversation, and from then on the device is a stranger to them.
    laptop.run("backup", "shared")
    refused = spare.attempt("restore", "shared", "--to", str(tmp_path / "out"))
    assert refused.exit_code == ExitCode.UNREACHABLE
    assert not (tmp_path / "out" / "noise").exists()
