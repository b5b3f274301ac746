"""A node that runs for years renews the certificate of its device by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from node_world import PASSPHRASE, open_world

from sovereign_node.errors import NodeError
from sovereign_node.services.certificates import RENEW_BEFORE_S, certificate_keeper
from sovereign_node.services.own_identity import CERTIFICATE_LIFETIME_S

pytestmark = pytest.mark.slow


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = int(time.time())

    def __call__(self) -> int:
        return self.now


async def test_a_certificate_is_renewed_two_months_before_it_ends(tmp_path: Path) -> None:
    clock = Clock()
    async with open_world(tmp_path, clock) as world:
        world.make("attic", "provider")
        node = (await world.start("attic")).node
        first = node.identity.certificate
        asked: list[str] = []

        def passphrase() -> str:
            asked.append("asked")
            return PASSPHRASE

        keeper = certificate_keeper(node, passphrase)
        assert not await keeper.run_once()
        clock.now = first.not_after - RENEW_BEFORE_S
        assert not await keeper.run_once()
        assert asked == []

        clock.now += 1
        assert not await certificate_keeper(node, lambda: "wrong horse").run_once()
        assert not await certificate_keeper(node, _no_file).run_once()
        assert node.identity.certificate.not_after == first.not_after
        assert await keeper.run_once()
        renewed = node.identity.certificate
        assert (renewed.device_pk, renewed.not_after) == (first.device_pk, clock.now + CERTIFICATE_LIFETIME_S)
        assert not await keeper.run_once()
        assert asked == ["asked"]


def _no_file() -> str:
    raise NodeError("bad_passphrase_source", "the file is gone", "")
