"""Sleep and moved networks are noticed within seconds, and dead connections are closed at once."""

import trio

from sovereign_node.net import liveness
from sovereign_node.net.surroundings import POLL_S, Surroundings, interface_hosts


async def test_sleep_and_new_addresses_are_told(autojump_clock):
    told: list[tuple[str, float]] = []
    hosts = frozenset({"192.168.1.2"})
    slept_s = 0.0
    started = trio.current_time()

    def note(what: str) -> None:
        told.append((what, round(trio.current_time() - started)))

    watch = Surroundings(note, hosts=lambda: hosts, wall_s=lambda: trio.current_time() + slept_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        await trio.sleep(20.5)
        assert told == []
        hosts = frozenset({"10.0.0.7"})
        await trio.sleep(POLL_S)
        slept_s = 3600.0
        await trio.sleep(2 * POLL_S)
        nursery.cancel_scope.cancel()
    assert told == [("moved", 25), ("slept", 30)]


def test_addresses_of_this_machine():
    assert interface_hosts()


async def test_dead_connections_are_closed_at_once_and_living_ones_stay(make_network, monkeypatch):
    async with make_network() as one, make_network() as alive, make_network() as dead:
        for peer in (alive, dead):
            await one.connect(peer.peer_id, peer.addresses())
        real_ping = liveness.ping

        async def ping(connection, *, timeout_s):
            return None if connection.peer_id == dead.peer_id else await real_ping(connection, timeout_s=timeout_s)

        monkeypatch.setattr(liveness, "ping", ping)
        await one.check_connections(timeout_s=1)
        with trio.fail_after(2):
            while one.is_connected(dead.peer_id):
                await trio.sleep(0.01)
        assert one.is_connected(alive.peer_id)
