"""A node asks others whether it can be reached, and believes only what arrives at its own door."""

import contextlib
from contextlib import asynccontextmanager

import pytest
import trio

from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.errors import ListenError
from sovereign_node.net.own_addresses import OwnAddresses
from sovereign_node.net.reachability import NatKind, Reach, Reachability, _Verdict, ports_of_addresses
from sovereign_node.net.reachability_server import ReachabilityServer
from sovereign_protocols.circuit.messages import encode_frame
from sovereign_protocols.circuit.reach import PROTOCOL_ID, ReachAnswer, decode_request, encode_answer
from sovereign_protocols.circuit.shell import receive_message


@asynccontextmanager
async def asking(make_network, **options):
    """A node that asks, connected to one that answers."""
    async with make_network() as server, make_network(**options) as node, trio.open_nursery() as nursery:
        await node.connect(server.peer_id, server.addresses())
        reports = []
        reachability = Reachability(node, on_change=reports.append)
        await nursery.start(reachability.run)
        yield server, node, reachability, reports
        nursery.cancel_scope.cancel()


async def test_a_node_that_others_reach_knows_it(make_network):
    async with asking(make_network) as (server, node, reachability, reports):
        ReachabilityServer(server).install()
        with trio.fail_after(5):
            await reachability.check()
        report = reachability.report
        assert (report.reach, report.nat) == (Reach.REACHABLE, NatKind.NONE)
        (confirmed,) = report.confirmed
        assert f"{confirmed}/p2p/{node.peer_id}" == node.addresses()[0]
        assert reports == [report]
        # The knock was no connection.
        assert len(node.connections()) == len(server.connections()) == 1


async def test_a_door_that_nobody_opens_makes_the_node_unreachable(make_network, monkeypatch):
    async with asking(make_network) as (server, node, reachability, _):
        ReachabilityServer(server).install()

        async def blocked(*_args, **_options) -> bool:
            return False

        monkeypatch.setattr(server, "knock", blocked)
        await reachability.check()
        report = reachability.report
        assert report.reach is Reach.UNREACHABLE
        assert report.refuted == ("127.0.0.1",)
        # An address on which nobody gets through is not given to others.
        assert node.addresses() == []


async def test_a_server_that_lies_is_not_believed(make_network):
    async with asking(make_network) as (server, node, reachability, _):

        async def lie(stream) -> None:
            await receive_message(stream)
            await stream.send_all(encode_frame(encode_answer(ReachAnswer("8.8.8.8", 4001, (True,)))))

        server.set_handler(PROTOCOL_ID, lie)
        await reachability.check()
        assert reachability.report.reach is Reach.UNREACHABLE
        assert node.addresses() == [f"{node.own.all()[0]}/p2p/{node.peer_id}"]


async def test_a_neighbour_that_names_a_foreign_address_is_not_believed(make_network):
    """It really knocks, so that the token arrives: only the address is a lie."""
    async with asking(make_network) as (server, node, reachability, _):

        async def lie(stream) -> None:
            request = decode_request(await receive_message(stream))
            address = node.addresses()[0]
            assert await server.knock(node.peer_id, address, request.tokens[0], timeout_s=2)
            await stream.send_all(encode_frame(encode_answer(ReachAnswer("8.8.8.8", 4001, (True,)))))

        server.set_handler(PROTOCOL_ID, lie)
        assert await reachability.check() == 1
        assert not any("8.8.8.8" in address for address in [*reachability.report.confirmed, *node.addresses()])


class Behind:
    """Stands for a network behind a router, with what servers of the open network say of it."""

    def __init__(self, *interfaces: str) -> None:
        self.own = OwnAddresses([])
        self.own.set_bound([f"/ip{6 if ':' in host else 4}/{host}/tcp/4001" for host in interfaces])
        self.reachability = Reachability(self)

    def hear(self, *claims: str, arrived: bool = True, server_host: str = "9.9.9.9") -> list[str]:
        """Conclude from one claim per server, and return what is published."""
        self.reachability._conclude(
            [
                _Verdict(str(number), server_host, ReachAnswer(host, 4001, (arrived,)), (4001,), (arrived,), 4001)
                for number, host in enumerate(claims)
            ]
        )
        return self.own.all()


def test_the_address_that_most_servers_name_is_published():
    node = Behind("192.168.1.5")
    assert node.hear("8.8.8.8")[0] == "/ip4/8.8.8.8/tcp/4001"
    assert node.reachability.report.reach is Reach.REACHABLE
    # One of three lies, then one of two, when it is the word of before that counts.
    assert "/ip4/8.8.4.4/tcp/4001" not in node.hear("8.8.4.4", "8.8.8.8", "8.8.8.8")
    assert node.hear("8.8.4.4", "8.8.8.8") == ["/ip4/8.8.8.8/tcp/4001", "/ip4/192.168.1.5/tcp/4001"]
    assert node.reachability.report.outside == ("/ip4/8.8.8.8/tcp/4001",)
    # A new node does not know whom to believe, and takes neither.
    assert Behind("192.168.1.5").hear("8.8.4.4", "8.8.8.8") == ["/ip4/192.168.1.5/tcp/4001"]
    # After a move all say the same.
    assert node.hear("1.1.1.1", "1.1.1.1")[0] == "/ip4/1.1.1.1/tcp/4001"


def test_an_interface_of_the_open_network_is_not_talked_away():
    node = Behind("8.8.8.8")
    assert node.hear("8.8.4.4", "8.8.4.4", "8.8.8.8") == ["/ip4/8.8.8.8/tcp/4001"]
    assert node.hear("8.8.4.4") == ["/ip4/8.8.8.8/tcp/4001"]
    # IPv6 of the open network says nothing of IPv4, which is translated.
    both = Behind("192.168.1.5", "2600::5")
    published = both.hear("8.8.8.8", "2600::5", "2600::6")
    assert "/ip4/8.8.8.8/tcp/4001" in published
    assert not any("2600::6" in address for address in published)
    assert Behind("192.168.1.5").hear("8.8.8.8", server_host="192.168.1.9") == ["/ip4/192.168.1.5/tcp/4001"]


@pytest.mark.parametrize("answer", [b"\x00", b"\x05hello", b""])
async def test_nonsense_leaves_what_was_known(make_network, answer):
    async with asking(make_network) as (server, _node, reachability, reports):

        async def babble(stream) -> None:
            await receive_message(stream)
            await stream.send_all(answer)

        server.set_handler(PROTOCOL_ID, babble)
        assert await reachability.check() == 0
        assert reachability.report.reach is Reach.UNKNOWN
        assert reports == []


async def test_a_peer_that_does_not_answer_is_asked_once(make_network):
    async with asking(make_network) as (server, _node, reachability, _):
        assert await reachability.check() == 0
        assert reachability._servers() == []
        reachability.check_soon()
        assert [info.peer_id for info in reachability._servers()] == [server.peer_id]


async def test_a_server_knocks_once_per_interval_and_only_where_it_was_asked_from(make_network, monkeypatch):
    async with asking(make_network) as (server, node, reachability, _):
        ReachabilityServer(server).install()
        knocked = []

        async def note(_peer_id, address, _token, **_options) -> bool:
            knocked.append(address)
            return False

        monkeypatch.setattr(server, "knock", note)
        await reachability.check()
        await reachability.check()
        port = parse_tcp(node.own.all()[0] if node.own.all() else "/ip4/127.0.0.1/tcp/1").port
        assert len(knocked) == 1
        assert parse_tcp(knocked[0]).host == "127.0.0.1"
        assert port


async def test_a_token_is_taken_from_the_peer_that_was_asked_only(make_network):
    async with make_network() as node, make_network() as other:
        address = node.addresses()[0]
        seen = []
        assert not await other.knock(node.peer_id, address, bytes(16), timeout_s=2)
        node.set_knock_handler(lambda peer_id, token: seen.append((peer_id, token)) or True)
        assert await other.knock(node.peer_id, address, bytes(16), timeout_s=2)
        assert seen == [(other.peer_id, bytes(16))]
        assert not await node.knock(other.peer_id, address, bytes(16), timeout_s=2)
        assert not await other.knock(node.peer_id, "/ip4/127.0.0.1/tcp/1", bytes(16), timeout_s=2)
        assert not node.connections()


async def test_the_stock_stack_does_without(make_network):
    async with make_network(stack="stock") as node, make_network() as other:
        node.set_knock_handler(lambda _peer_id, _token: True)
        assert not await node.knock(other.peer_id, other.addresses()[0], bytes(16), timeout_s=2)


async def test_a_shared_port_is_still_refused_to_a_second_node(make_network):
    async with make_network() as node:
        port = node.own.ports()[0]
        with pytest.raises(ListenError):
            async with make_network(listen=[f"/ip4/127.0.0.1/tcp/{port}"]):
                pass
        with pytest.raises(ListenError):
            async with make_network(listen=[f"/ip4/0.0.0.0/tcp/{port}"]):
                pass


async def test_dials_to_the_open_network_come_from_the_listening_port(make_network):
    async with make_network(listen=["/ip4/127.0.0.1/tcp/0"]) as node:
        assert node.own.source_port("/ip4/8.8.8.8/tcp/4001") == node.own.ports()[0]
        assert node.own.source_port("/ip4/192.168.1.2/tcp/4001") is None
        assert node.own.source_port("/dns4/example.org/tcp/4001") is None
        node.own.set_bound(["/ip4/8.8.4.4/tcp/4001"])
        assert node.own.source_port("/ip4/8.8.8.8/tcp/4001") is None
        node.own.set_bound(["/ip4/127.0.0.1/tcp/0"])


async def test_a_dial_may_share_the_port_of_the_listener(make_network):
    async with make_network(listen=["/ip4/0.0.0.0/tcp/0"]) as node, make_network() as other:
        port = node.own.ports()[0]
        monkey = lambda _address: port  # noqa: E731
        node._dialer._source_port = monkey
        await node.connect(other.peer_id, other.addresses())
        (info,) = other.connections()
        assert info.remote == ("127.0.0.1", port)
        assert node.connections()[0].local_port == port
        # A second one between the same ends cannot come from there, and falls back to any port.
        with contextlib.suppress(OSError):
            await node._dialer.attempt(other.peer_id, other.addresses()[0].partition("/p2p/")[0])
        assert len(node.connections()) == 2


def test_ports_of_configured_addresses():
    assert ports_of_addresses(["/ip4/192.0.2.1/tcp/4001", "/nats/relay:4222", "/dns4/a.example/tcp/2"]) == [4001, 2]
