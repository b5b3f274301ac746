"""A device goes on after the year that its certificate lasts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from node_world import PASSPHRASE, Calendar, open_world

from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.services.own_identity import CERTIFICATE_LIFETIME_S

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_keyring")]


async def test_a_certificate_is_renewed_with_passphrase_or_kit(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").write_bytes(os.urandom(100_000))
    calendar = Calendar()
    async with open_world(tmp_path, calendar) as world:
        world.make("disk", "provider")
        world.make("laptop", "mobile")
        provider = await world.start("disk")
        laptop = await world.start("laptop", provider.address)
        await laptop.node.discovery.joined.wait()
        # The laptop's certificate has ended, but not the provider's, whose owner has renewed it in time.
        calendar.ahead_s = CERTIFICATE_LIFETIME_S - 86400
        before = laptop.node.identity.certificate
        await provider.ask("device_renew", passphrase=PASSPHRASE)
        calendar.ahead_s = CERTIFICATE_LIFETIME_S + 86400
        await laptop.ask("protect", path=str(source))
        (finding,) = [item for item in (await laptop.ask("doctor"))["findings"] if item["check"] == "certificate"]
        assert (finding["level"], finding["next_step"]) == ("error", "renew it with: sovereign device renew")
        with pytest.raises(NodeError):
            await laptop.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=10_000_000)

        with pytest.raises(NodeError, match="cannot unlock") as caught:
            await laptop.ask("device_renew", passphrase="wrong")
        assert caught.value.exit_code == ExitCode.CANNOT_UNLOCK
        with pytest.raises(NodeError, match="does not open"):
            await laptop.ask("device_renew", kit=world.kits["disk"].to_groups())
        await laptop.ask("device_renew", passphrase=PASSPHRASE)
        answer = await laptop.ask("device_renew", kit=world.kits["laptop"].to_groups())
        certificate = laptop.node.identity.certificate
        assert answer["valid_until"] == certificate.not_after > calendar() + CERTIFICATE_LIFETIME_S - 3600
        assert certificate.device_pk == before.device_pk
        assert certificate.serial == before.serial + 2
        await laptop.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=10_000_000)
        report = await laptop.ask("backup")
        assert not report["queued"]
        (finding,) = [item for item in (await laptop.ask("doctor"))["findings"] if item["check"] == "certificate"]
        assert finding["level"] == "ok"
