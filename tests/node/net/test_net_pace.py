"""Limits on bytes per second, on the clock of the test and over real connections."""

import time

import pytest
import trio

from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.pace import BURST_S, Pace, pace_or_none

SINK = "/test/sink/1.0.0"


def test_no_limit_is_no_pace():
    assert pace_or_none(0) is None
    assert pace_or_none(5).bytes_per_s == 5


async def test_the_rate_holds_after_a_short_burst(autojump_clock):
    pace = Pace(1000)
    await trio.sleep(60)
    started = trio.current_time()
    for _ in range(100):
        await pace.take(100)
    took_s = trio.current_time() - started
    # The last piece begins when those before it are paid for, a burst earlier than without a pause.
    assert took_s == pytest.approx(99 * 100 / 1000 - BURST_S)


async def test_tasks_share_the_rate_in_turn(autojump_clock):
    pace = Pace(1000)
    ends = {}

    async def send(name: str) -> None:
        for _ in range(10):
            await pace.take(100)
        ends[name] = trio.current_time()

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(send, name)
    assert {round(end - started, 1) for end in ends.values()} <= {1.5, 1.6, 1.7}


@pytest.mark.parametrize("side", ["upload", "download"])
async def test_a_connection_keeps_to_the_limit(make_network, side):
    rate = 400_000
    limits = NetworkLimits(**{f"{side}_bytes_per_s": rate})
    finished = trio.Event()
    received = 0

    async def sink(stream) -> None:
        nonlocal received
        while data := await stream.receive_some(65536):
            received += len(data)
        finished.set()

    sender_limits, receiver_limits = (limits, None) if side == "upload" else (None, limits)
    async with make_network(limits=sender_limits) as sender, make_network(limits=receiver_limits) as receiver:
        receiver.set_handler(SINK, sink)
        await sender.connect(receiver.peer_id, receiver.addresses())
        started = time.perf_counter()
        async with await sender.open_stream(receiver.peer_id, SINK) as stream:
            await stream.send_all(bytes(800_000))
            await stream.send_eof()
            await finished.wait()
        took_s = time.perf_counter() - started
    assert received == 800_000
    # Not two seconds: what fits into the burst and the last piece are not waited for.
    assert 1 < took_s < 5
