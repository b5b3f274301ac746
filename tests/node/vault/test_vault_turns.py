"""No task keeps the event loop for long: small requests go on beside a backup and a restore.

Only the processor time of the loop's own thread counts, which a busy machine does not lengthen.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import trio
from chunk_service_rig import Person, Rig
from vault_bench import Bench, age, whole

from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.vault.target import MemoryTarget, Sealed
from sovereign_protocols.chunk.client import ChunkClient

CONTRACT = b"\x05" * 32
LONGEST_S = 0.02
FILES = 2500
FOLDERS = 5


class Turns(trio.abc.Instrument):
    """Notes the longest turn of any task, in seconds of processor time."""

    def __init__(self) -> None:
        # The turn in which it is added began unseen.
        self.began_s = math.inf
        self.longest = (0.0, "")
        self.turns = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.turns += 1
        self.longest = max(self.longest, (time.thread_time() - self.began_s, task.name))


class Provider(MemoryTarget):
    """Keeps chunks with a chunk service, heads in memory."""

    checks_ids = True

    def __init__(self, client: ChunkClient) -> None:
        super().__init__()
        self.client = client

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        return await self.client.have(CONTRACT, ids)

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        await self.client.put(CONTRACT, chunk_id, sealed)

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        async for chunk_id, sealed in self.client.get(CONTRACT, ids):
            yield chunk_id, sealed


@pytest.fixture
def _little_garbage() -> Iterator[None]:
    """As a node does at its start: what is there by now is never looked through again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_little_garbage")
async def test_no_turn_of_the_event_loop_takes_long(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "source"
    for number in range(FILES):
        folder = root / str(number % FOLDERS)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_bytes(b"%d is a number\n" % number * 100)
    (root / "noise").write_bytes(os.urandom(40_000_000))
    age(root)
    store = LogChunkStore(tmp_path / "store", reserve_bytes=0)
    rig = Rig(store)
    person = Person(1)
    device = person.add_device()
    rig.sign(person, CONTRACT)
    turns = Turns()
    async with rig.connect(device) as client:
        vault = bench.vault(targets=[Provider(client)])
        trio.lowlevel.add_instrument(turns)
        assert (await vault.backup(whole(root))).files == FILES + 1
        assert (await vault.backup(whole(root))).chunks_sent == 0
        restored = await vault.restore(tmp_path / "out")
        trio.lowlevel.remove_instrument(turns)
    assert restored.errors == ()
    assert restored.files == FILES + 1
    assert turns.turns > 100
    assert turns.longest[0] <= LONGEST_S, turns.longest
    store.close()
