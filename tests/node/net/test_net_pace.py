"""Limits on bytes per second, on the clock of the test and over real connections."""

import time
from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net.host import NetworkLimits
from sovereign_node.net.pace import BURST_S, SMALL_AHEAD_S, JointPace, Pace
from sovereign_node.net.throttle import Throttle
from sovereign_node.rates import Rates

SINK = "/test/sink/1.0.0"


async def test_the_rate_holds_after_a_short_burst(autojump_clock):
    pace = Pace(10_000)
    await trio.sleep(60)
    started = trio.current_time()
    for _ in range(100):
        await pace.take(2000)
    took_s = trio.current_time() - started
    # The last piece begins when those before it are paid for, a burst earlier than without a pause.
    assert took_s == pytest.approx(99 * 2000 / 10_000 - BURST_S)


async def test_tasks_share_the_rate_in_turn(autojump_clock):
    pace = Pace(20_000)
    ends = {}

    async def send(name: str) -> None:
        for _ in range(10):
            await pace.take(2000)
        ends[name] = trio.current_time()

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(send, name)
    assert {round(end - started, 1) for end in ends.values()} <= {1.5, 1.6, 1.7}


async def test_small_pieces_go_ahead_and_bulk_pays_for_them(autojump_clock):
    pace = Pace(10_000)
    passed = 0

    async def bulk() -> None:
        nonlocal passed
        while True:
            await pace.take(8192)
            passed += 8192

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bulk)
        await trio.sleep(30)
        waits = []
        for _ in range(30):
            asked = trio.current_time()
            await pace.take(100)
            passed += 100
            waits.append(trio.current_time() - asked)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert max(waits) == 0
    # All together keep the rate, but for one piece that is under way.
    assert passed == pytest.approx(60 * 10_000, abs=10_000)


async def test_small_pieces_alone_keep_the_rate_as_well(autojump_clock):
    pace = Pace(1000)
    started = trio.current_time()
    for _ in range(100):
        await pace.take(200)
    took_s = trio.current_time() - started
    assert took_s == pytest.approx(99 * 200 / 1000 - SMALL_AHEAD_S - BURST_S)


async def test_a_peers_limit_and_the_nodes_hold_together(autojump_clock):
    everybody, peer = Pace(20_000), Pace(10_000)
    joint = JointPace((peer, everybody))
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for pace in (joint, everybody):

            async def send(pace=pace) -> None:
                for _ in range(20):
                    await pace.take(2000)

            nursery.start_soon(send)
    assert trio.current_time() - started == pytest.approx(4, abs=0.5)


async def test_a_changed_rate_holds_for_what_comes_next(autojump_clock):
    pace = Pace(1000)
    for _ in range(3):
        await pace.take(2000)
    pace.bytes_per_s = 100_000
    started = trio.current_time()
    for _ in range(50):
        await pace.take(2000)
    assert trio.current_time() - started < 4


def pipe(path: str) -> SimpleNamespace:
    return SimpleNamespace(path=path, upload="unset", download="unset")


def test_every_connection_gets_the_limits_that_apply_to_it():
    direct, relayed, nats, slow = pipe("direct"), pipe("relayed"), pipe("nats"), pipe("relayed")
    pipes = [("a", direct), ("b", relayed), ("c", nats), ("slow", slow)]
    throttle = Throttle(Rates(1000, 0))
    throttle.apply(pipes)
    assert direct.upload is nats.upload
    assert direct.upload.bytes_per_s == 1000
    # The connection to the relay carries the bytes of a circuit and counts them for the node.
    assert relayed.upload is None
    assert all(item.download is None for _, item in pipes)
    throttle.set(Rates(2000, 3000), {"slow": Rates(10, 20), "a": Rates(0, 500)})
    throttle.apply(pipes)
    assert (slow.upload.bytes_per_s, slow.download.bytes_per_s) == (10, 20)
    assert isinstance(direct.download, JointPace)
    assert nats.upload.bytes_per_s == 2000
    throttle.set(Rates())
    throttle.apply(pipes)
    assert all(item.upload is item.download is None for _, item in pipes)


async def transfer(sender, receiver, count: int) -> float:
    """Send bytes over a new stream and return the seconds until the last one was there."""
    finished = trio.Event()
    received = 0

    async def sink(stream) -> None:
        nonlocal received
        while data := await stream.receive_some(65536):
            received += len(data)
        finished.set()

    receiver.set_handler(SINK, sink)
    started = time.perf_counter()
    async with await sender.open_stream(receiver.peer_id, SINK) as stream:
        await stream.send_all(bytes(count))
        await stream.send_eof()
        await finished.wait()
    assert received == count
    return time.perf_counter() - started


@pytest.mark.parametrize("side", ["upload", "download"])
async def test_a_connection_keeps_to_the_limit_and_answers_at_once(make_network, side):
    limits = NetworkLimits(**{f"{side}_bytes_per_s": 400_000})
    sender_limits, receiver_limits = (limits, None) if side == "upload" else (None, limits)
    async with make_network(limits=sender_limits) as sender, make_network(limits=receiver_limits) as receiver:
        await sender.connect(receiver.peer_id, receiver.addresses())
        trips = []

        async def ping_often() -> None:
            while True:
                trips.append(await (sender if side == "upload" else receiver).ping(receiver.peer_id))
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            if side == "upload":
                nursery.start_soon(ping_often)
            took_s = await transfer(sender, receiver, 800_000)
            nursery.cancel_scope.cancel()
        # Not two seconds: what fits into the burst and the last piece are not waited for.
        assert 1 < took_s < 5
        assert all(trip < 1 for trip in trips)


async def test_limits_change_while_connected_and_hold_for_single_peers(make_network):
    async with make_network() as sender, make_network() as one, make_network() as other:
        for peer in (one, other):
            await sender.connect(peer.peer_id, peer.addresses())
        sender.set_rates(Rates(), {one.peer_id: Rates(upload_bytes_per_s=200_000)})
        limited_s = await transfer(sender, one, 400_000)
        assert limited_s > 1.3
        assert await transfer(sender, other, 400_000) < limited_s
        sender.set_rates(Rates())
        assert await transfer(sender, one, 400_000) < limited_s
