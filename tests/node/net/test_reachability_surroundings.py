"""Sleep and moved networks are noticed within seconds, and dead connections are closed at once."""

import socket
import threading
from pathlib import Path

import pytest
import trio
from jeepney import HeaderFields, new_error, new_method_return
from jeepney.low_level import Parser

from sovereign_node.net import liveness
from sovereign_node.net.metered import ask_network_manager, default_interface, default_route, is_metered
from sovereign_node.net.surroundings import POLL_S, Surroundings, network_marks


async def test_sleep_and_new_addresses_are_told(autojump_clock):
    told: list[tuple[str, float]] = []
    hosts = frozenset({"192.168.1.2"})
    slept_s = 0.0
    started = trio.current_time()

    def note(what: str) -> None:
        told.append((what, round(trio.current_time() - started)))

    watch = Surroundings(note, marks=lambda: hosts, wall_s=lambda: trio.current_time() + slept_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        await trio.sleep(20.5)
        assert told == []
        hosts = frozenset({"10.0.0.7"})
        await trio.sleep(POLL_S)
        slept_s = 3600.0
        await trio.sleep(2 * POLL_S)
        nursery.cancel_scope.cancel()
    assert told == [("moved", 22), ("slept", 24)]


def test_this_machine_is_somewhere():
    assert any(mark.startswith("/ip4/") for mark in network_marks())
    assert network_marks() == network_marks()


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t01020A0A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t01020A0B\t0002\t0\t0\t1\t00000000\t0\t0\t0
eth0\t00020A0A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


def test_the_default_route_is_the_one_in_use_with_the_lowest_metric(tmp_path):
    table = tmp_path / "route"
    assert default_route(table) == ("", "")
    table.write_text(ROUTES.splitlines()[0] + "\n")
    assert default_route(table) == ("", "")
    table.write_text(ROUTES)
    assert default_route(table) == ("eth0", "01020A0A")
    assert default_interface(table) == "eth0"


@pytest.mark.parametrize(
    ("rule", "interface", "system", "expected"),
    [
        ("yes", "eth0", None, True),
        ("no", "wwan0", True, False),
        ("auto", "wwan0", None, True),
        ("auto", "eth0", None, False),
        ("auto", "eth0", True, True),
        ("auto", "", False, False),
    ],
)
def test_metered_by_rule_by_interface_by_the_system(rule, interface, system, expected):
    assert is_metered(rule, ["wwan*"], interface=lambda: interface, ask=lambda: system) is expected


def test_without_a_system_bus_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'nothing'}")
    assert ask_network_manager() is None


class FakeBus:
    """A system bus with a NetworkManager that knows one property; None for a bus without a NetworkManager."""

    def __init__(self, path: Path, metered: int | None) -> None:
        self.metered = metered
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        caller, _ = self.listener.accept()
        with caller, self.listener:
            received = b""
            while b"BEGIN\r\n" not in received:
                received += caller.recv(4096)
                if b"AUTH" in received and b"BEGIN" not in received:
                    caller.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
            parser = Parser()
            data = received.partition(b"BEGIN\r\n")[2] or caller.recv(4096)
            while data:
                parser.add_data(data)
                while (call := parser.get_next_message()) is not None:
                    reply = self.answer(call)
                    reply.header.fields[HeaderFields.destination] = ":1.7"
                    caller.sendall(reply.serialise(1))
                data = caller.recv(4096)

    def answer(self, call):
        if call.header.fields[HeaderFields.member] == "Hello":
            return new_method_return(call, "s", (":1.7",))
        assert call.body == ("org.freedesktop.NetworkManager", "Metered")
        if self.metered is None:
            return new_error(call, "org.freedesktop.DBus.Error.ServiceUnknown", "s", ("nobody is there",))
        return new_method_return(call, "v", (("u", self.metered),))


@pytest.mark.parametrize(
    ("metered", "expected"), [(0, False), (1, True), (2, False), (3, True), (4, False), (None, None)]
)
def test_network_manager_is_asked_over_the_bus(monkeypatch, tmp_path, metered, expected):
    bus = FakeBus(tmp_path / "bus", metered)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")
    assert ask_network_manager() is expected
    bus.thread.join(5)
    assert not bus.thread.is_alive()


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
