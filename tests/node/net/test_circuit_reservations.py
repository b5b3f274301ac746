"""A node that nobody reaches keeps a place at relays, moves on when one is lost, and punches through."""

from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net import own_addresses
from sovereign_node.net.circuit import CircuitTransport, RelayService, Reservations
from sovereign_node.net.circuit import punch as punch_module
from sovereign_node.net.circuit.punch import HolePuncher, _targets
from sovereign_node.net.dials import Dials
from sovereign_node.net.errors import DialError
from sovereign_node.net.kad.addresses import addresses_to_wire
from sovereign_node.net.own_addresses import OwnAddresses
from sovereign_node.net.paths import dial_order, is_plain, rank_of_address, rank_of_path
from sovereign_protocols.circuit.messages import (
    DCUTR_PROTOCOL_ID,
    PunchMessage,
    PunchType,
    encode_frame,
    encode_punch,
)
from sovereign_protocols.circuit.relay_book import RelayLimits

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


async def until(condition) -> None:
    with trio.fail_after(8):
        while not condition():
            await trio.sleep(0.01)


@asynccontextmanager
async def relays(make_network, count: int, limits: RelayLimits | None = None):
    """A node that listens nowhere, connected to some relays."""
    async with AsyncExitStack() as exits:
        found = [await exits.enter_async_context(make_network()) for _ in range(count)]
        node = await exits.enter_async_context(make_network(listen=[]))
        nursery = await exits.enter_async_context(trio.open_nursery())
        for relay in found:
            await nursery.start(RelayService(relay, limits).run)
            await node.connect(relay.peer_id, relay.addresses())
        transport = CircuitTransport(node)
        node.add_transport(transport)
        needed = SimpleNamespace(value=True)
        reservations = Reservations(
            node,
            transport,
            candidates=lambda: [relay.peer_id for relay in found],
            is_needed=lambda: needed.value,
        )
        await nursery.start(reservations.run)
        yield SimpleNamespace(
            node=node, relays=found, transport=transport, reservations=reservations, needed=needed, nursery=nursery
        )
        nursery.cancel_scope.cancel()


async def test_two_relays_are_reserved_and_a_lost_one_is_replaced(make_network):
    async with relays(make_network, 3) as w:
        await until(lambda: len(w.transport.relays()) == 2)
        first = w.relays[0].peer_id
        assert first in w.transport.relays()
        w.relays[0].remove_handler("/libp2p/circuit/relay/0.2.0/hop")
        await w.node.disconnect(first)
        await until(lambda: len(w.transport.relays()) == 2 and first not in w.transport.relays())
        assert len(w.node.addresses()) == 2


async def test_reservations_are_given_up_when_they_are_not_needed(make_network):
    async with relays(make_network, 1) as w:
        await until(lambda: w.transport.relays())
        w.needed.value = False
        w.reservations.check_soon()
        await until(lambda: not w.transport.relays())
        assert w.node.addresses() == []


async def test_a_reservation_is_renewed_in_time(make_network, monkeypatch):
    monkeypatch.setattr("sovereign_node.net.circuit.reservations.SHORTEST_RENEWAL_S", 0.0)
    async with relays(make_network, 1, RelayLimits(reservation_s=2)) as w:
        await until(lambda: w.transport.relays())
        await trio.sleep(3)
        assert w.transport.relays() == [w.relays[0].peer_id]


BOTH = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]


@pytest.mark.parametrize(
    ("listen", "known"),
    [(BOTH[:1], "/ip4/"), (BOTH[1:], "/ip6/"), (BOTH, "/ip6/"), (BOTH, "/ip")],
    ids=["IPv4", "IPv6", "only IPv6 leads on", "both"],
)
async def test_both_ends_punch_from_their_listening_ports(make_network, monkeypatch, listen, known):
    """On loopback there is no router, but the messages, the roles and the shared port are the real ones."""
    async with AsyncExitStack() as exits:
        relay = await exits.enter_async_context(make_network())
        one = await exits.enter_async_context(make_network(listen=listen))
        other = await exits.enter_async_context(make_network(listen=listen))
        monkeypatch.setattr(
            punch_module, "is_global_literal", lambda address: is_plain(address) and address.startswith(known)
        )
        nursery = await exits.enter_async_context(trio.open_nursery())
        await nursery.start(RelayService(relay).run)
        transports = [CircuitTransport(network) for network in (one, other)]
        punchers = []
        for network, transport in zip((one, other), transports, strict=True):
            network.add_transport(transport)
            puncher = HolePuncher(network, network.own.all)
            puncher.install()
            punchers.append(puncher)
        await other.connect(relay.peer_id, relay.addresses())
        reservations = Reservations(
            other, transports[1], candidates=lambda: [relay.peer_id], is_needed=lambda: True
        )
        await nursery.start(reservations.run)
        await until(lambda: transports[1].relays())
        circuit = [address for address in other.addresses() if "p2p-circuit" in address]
        await one.connect(other.peer_id, circuit)
        await until(lambda: other.is_connected(one.peer_id))
        assert await punchers[1].punch(one.peer_id)
        await until(lambda: other.preferred(one.peer_id).path in ("hole-punched", "lan"))
        await until(lambda: one.preferred(other.peer_id).path in ("hole-punched", "lan"))
        found = [one.preferred(other.peer_id), other.preferred(one.peer_id)]
        assert found[0].inbound != found[1].inbound
        assert all(info.address.startswith(known) for info in found)
        nursery.cancel_scope.cancel()


def test_addresses_of_both_families_are_told_and_tried(monkeypatch):
    own = OwnAddresses([])
    own.set_bound(["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4002"])
    hosts = {"/ip4/0.0.0.0/tcp/4001": "/ip4/192.168.1.5/tcp/4001", "/ip6/::/tcp/4002": "/ip6/2600::5/tcp/4002"}
    monkeypatch.setattr(own_addresses, "expand_wildcard", lambda bound: [hosts[bound]])
    assert (own.port_towards("8.8.8.8"), own.port_towards("2600::1")) == (4001, 4002)
    # Behind a router that translates IPv4 and only filters IPv6.
    assert own.source_port("/ip4/8.8.8.8/tcp/1") == 4001
    assert own.source_port("/ip6/2600::1/tcp/1") is None
    own.set_confirmed([], ["2600::5"])
    assert "/ip6/2600::5/tcp/4002" not in own.all()
    network = SimpleNamespace(own=own)
    puncher = HolePuncher(network, lambda: ["/ip4/8.8.4.4/tcp/4001"])
    assert puncher.has_addresses
    hello = puncher._hello()
    assert _targets(PEER, hello) == ["/ip4/8.8.4.4/tcp/4001", "/ip6/2600::5/tcp/4002"]
    # Many of one do not push the other out.
    crowded = [f"/ip4/8.8.4.{number}/tcp/1" for number in range(9)] + ["/ip6/2600::9/tcp/1", "/ip4/10.0.0.1/tcp/1"]
    message = PunchMessage(PunchType.CONNECT, addresses_to_wire(crowded))
    assert _targets(PEER, message) == [*crowded[:2], "/ip6/2600::9/tcp/1"]
    own.set_bound(["/ip4/0.0.0.0/tcp/4001"])
    assert own.port_towards("2600::1") is None
    assert not HolePuncher(network, list).has_addresses


async def read_to_the_end(stream) -> None:
    while await stream.receive_some(100):
        pass


@pytest.mark.parametrize(
    "sent",
    [b"\x00", encode_frame(encode_punch(PunchMessage(PunchType.SYNC)))],
    ids=["no message", "out of turn"],
)
async def test_a_peer_that_does_not_keep_to_the_protocol_gets_no_punch(make_network, sent):
    async with make_network() as one, make_network() as other:
        HolePuncher(one, list).install()
        await other.connect(one.peer_id, one.addresses())
        stream = await other.open_stream(one.peer_id, DCUTR_PROTOCOL_ID)
        await stream.send_all(sent)
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(stream)
        # The peer at the other end speaks no such protocol.
        assert not await HolePuncher(one, list).punch(other.peer_id)


def test_both_ends_rank_paths_alike():
    assert rank_of_path("lan") == rank_of_path("direct") == rank_of_path("hole-punched")
    assert rank_of_path("direct") > rank_of_path("relayed") > rank_of_path("nats")
    addresses = [
        "/nats/relay.example:4222",
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit",
        "/memory/1",
        "/ip4/8.8.8.8/tcp/1",
        "/ip4/192.168.1.2/tcp/1",
    ]
    ordered = sorted(addresses, key=dial_order)
    assert ordered[:2] == ["/ip4/192.168.1.2/tcp/1", "/ip4/8.8.8.8/tcp/1"]
    assert ordered[-1] == "/nats/relay.example:4222"
    assert rank_of_address("/ip4/8.8.8.8/tcp/1") == rank_of_path("direct")


class FakeDialer:
    """Reaches `good` after a while; everything else hangs or fails."""

    def __init__(self, connected: set) -> None:
        self.connected = connected
        self.dialled: list[list[str]] = []
        self.dials: Dials | None = None

    async def dial(self, peer_id: str, addresses, *, timeout_s: float):
        self.dialled.append(list(addresses))
        if "good" in addresses:
            await trio.sleep(0.1)
            self.connected.add(peer_id)
            self.dials.note_connected(peer_id)
        elif "closes" in addresses:
            await trio.sleep(0.1)
        elif "hangs" in addresses:
            await trio.sleep(timeout_s)
            raise DialError(peer_id, dict.fromkeys(addresses, "no answer in time"))
        else:
            raise DialError(peer_id, dict.fromkeys(addresses, "refused"))


@pytest.fixture
def fake():
    connected: set = set()
    dialer = FakeDialer(connected)
    dialer.dials = Dials(dialer, connected.__contains__)
    return dialer


async def test_a_later_address_joins_and_ends_everybodys_wait(fake, autojump_clock):
    ends = []

    async def reach(addresses, delay_s) -> None:
        await trio.sleep(delay_s)
        await fake.dials.reach("peer", addresses, timeout_s=5)
        ends.append(trio.current_time())

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reach, ["hangs"], 0)
        nursery.start_soon(reach, ["hangs"], 0.1)
        nursery.start_soon(reach, ["hangs", "good"], 1)
    assert fake.dialled == [["hangs"], ["good"]]
    assert [round(end - started, 1) for end in ends] == [1.1, 1.1, 1.1]


async def test_what_failed_for_one_is_not_tried_again_by_those_who_waited(fake, autojump_clock):
    causes = []

    async def reach() -> None:
        with pytest.raises(DialError) as caught:
            await fake.dials.reach("peer", ["hangs"], timeout_s=2)
        causes.append(caught.value.causes)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(reach)
    assert len(fake.dialled) == 1
    assert causes == [{"hangs": "no answer in time"}] * 5


async def test_a_connection_that_closes_at_once_is_a_failure(fake, autojump_clock):
    with pytest.raises(DialError) as caught:
        await fake.dials.reach("peer", ["closes", "refuses"], timeout_s=2)
    assert "closed at once" in str(caught.value)
    with pytest.raises(DialError, match="no address known"):
        await fake.dials.reach("peer", [], timeout_s=2)
