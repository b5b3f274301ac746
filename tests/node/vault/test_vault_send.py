"""Sending chunks to targets of different speed: each is settled once, when all its targets have answered."""

from __future__ import annotations

import hashlib

import pytest
import trio
from trio.testing import MockClock

from sovereign_node.vault.errors import NoTargetError, TargetError
from sovereign_node.vault.pack import SealedChunk
from sovereign_node.vault.send import open_sender
from sovereign_node.vault.target import MemoryTarget, Sealed


class PacedTarget(MemoryTarget):
    """Takes its time for every chunk, and fails after some."""

    def __init__(self, name: str, pace_s: float, left: int = 1000) -> None:
        super().__init__(name)
        self.pace_s = pace_s
        self.left = left

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        await trio.sleep(self.pace_s)
        self.left -= 1
        if self.left < 0:
            raise TargetError(self.name, "it is gone")
        await super().put(chunk_id, sealed)


def chunk(number: int) -> SealedChunk:
    data = b"%d" % number
    return SealedChunk(hashlib.sha256(data).digest(), data, None)


async def send(targets: list[PacedTarget], count: int, min_acks: int) -> list[bytes]:
    """Send chunks to two targets each; return the ids in the order in which they were settled."""
    settled: list[bytes] = []

    def on_stored(stored: SealedChunk) -> None:
        assert sum(stored.chunk_id in target.chunks for target in targets) >= min_acks
        settled.append(stored.chunk_id)

    async with open_sender(
        list(targets), copies=2, min_acks=min_acks, puts_per_target=2, on_stored=on_stored
    ) as sender:
        for number in range(count):
            await sender.send(chunk(number))
        await sender.drain()
    return settled


@pytest.mark.parametrize("paces", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.3, 1.0)])
async def test_a_fast_target_may_answer_before_the_slow_one_is_asked(
    autojump_clock: MockClock, paces: tuple[float, float]
) -> None:
    targets = [PacedTarget("one", paces[0]), PacedTarget("two", paces[1])]
    with trio.fail_after(1000):
        settled = await send(targets, 40, 2)
    assert sorted(settled) == sorted(chunk(number).chunk_id for number in range(40))
    assert all(len(target.chunks) == 40 for target in targets)


@pytest.mark.parametrize("left", range(12))
async def test_a_target_that_fails_in_between_is_replaced(autojump_clock: MockClock, left: int) -> None:
    targets = [PacedTarget("one", 0.1, left), PacedTarget("two", 1.0), PacedTarget("three", 0.5)]
    with trio.fail_after(1000):
        settled = await send(targets, 40, 2)
    assert sorted(settled) == sorted(chunk(number).chunk_id for number in range(40))


async def test_too_few_targets_end_it(autojump_clock: MockClock) -> None:
    targets = [PacedTarget("one", 0.1, 3), PacedTarget("two", 1.0)]
    with trio.fail_after(1000), pytest.raises(BaseExceptionGroup) as caught:
        await send(targets, 40, 2)
    assert caught.group_contains(NoTargetError)
