"""A provider under a rain of nonsense stays up, stays small and goes on serving its customer.

SOVEREIGN_HOSTILE_SECONDS sets how long it rains.
"""

from __future__ import annotations

import os
import random

import pytest
import trio
from hostile_bytes import Attacker
from hostile_world import HostileWorld

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SECONDS = float(os.environ.get("SOVEREIGN_HOSTILE_SECONDS", "10"))
GROWTH_BYTES = 32 * 1024**2


async def test_random_bytes_at_every_layer(world: HostileWorld) -> None:
    pid = world.provider.pid
    seed = random.randrange(2**32)
    async with world.attacker() as network:
        attacker = Attacker(network, world.peer_id, world.address, seed)
        # What is loaded and cached at the first of each kind does not count.
        await attacker.run(min(3.0, SECONDS / 3))
        before = world.memory_bytes()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                crowd = Attacker(network, world.peer_id, world.address, seed + 1 + number)
                nursery.start_soon(crowd.run, SECONDS)
            world.write(1_000_000)
            report = await trio.to_thread.run_sync(world.back_up)
    assert report["chunks_sent"] > 0
    assert world.provider.pid == pid, f"seed {seed}: {world.provider.log_tail()}"
    growth = world.memory_bytes() - before
    assert growth < GROWTH_BYTES, f"seed {seed}: {growth} bytes more"
    assert all(attacker.counts[attack.__name__] for attack in attacker.attacks)
    assert "Traceback" not in world.log(), f"seed {seed}: {world.log()[-4000:]}"
    async with world.attacker() as honest:
        assert await honest.ping(world.peer_id) < 5
