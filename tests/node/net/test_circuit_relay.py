"""Circuits between three real networks: one relays, one waits, one dials."""

import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net.circuit import CircuitTransport, RelayService
from sovereign_node.net.circuit.addresses import CircuitAddress, parse_circuit, relay_of
from sovereign_node.net.circuit.errors import CircuitError
from sovereign_node.net.errors import AddressError, DialError
from sovereign_protocols.circuit.messages import Status
from sovereign_protocols.circuit.relay_book import RelayLimits

ECHO = "/test/echo/1.0.0"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


async def echo(stream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.send_eof()


async def ask(network, peer_id: str, payload: bytes = b"hello") -> bytes:
    received = b""
    async with await network.open_stream(peer_id, ECHO) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(payload)
                await stream.send_eof()

        nursery.start_soon(send)
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(65536):
                received += data
    return received


@asynccontextmanager
async def world(make_network, *, limits=None, favoured=(), listen=(), reserve=True, stack="fast"):
    """A relay, a destination with a reservation there that listens nowhere, and a source."""
    async with AsyncExitStack() as exits:
        relay = await exits.enter_async_context(make_network(stack=stack))
        destination = await exits.enter_async_context(make_network(listen=list(listen), stack=stack))
        source = await exits.enter_async_context(make_network(stack=stack))
        nursery = await exits.enter_async_context(trio.open_nursery())
        favourites = set(favoured)
        service = RelayService(relay, limits, is_favoured=lambda peer_id: peer_id in favourites)
        await nursery.start(service.run)
        transports = {}
        for network in (destination, source):
            transports[network] = CircuitTransport(network)
            network.add_transport(transports[network])
            network.set_handler(ECHO, echo)
        await destination.connect(relay.peer_id, relay.addresses())
        if reserve:
            await transports[destination].reserve(CircuitAddress(relay.peer_id, ""))
        yield SimpleNamespace(
            relay=relay,
            destination=destination,
            source=source,
            service=service,
            waiting=transports[destination],
            dialling=transports[source],
            favourites=favourites,
            nursery=nursery,
        )
        nursery.cancel_scope.cancel()


def path_of(network, peer_id: str) -> str:
    return next(info.path for info in network.connections() if info.peer_id == peer_id)


@pytest.mark.parametrize("stack", ["fast", "stock"])
async def test_a_peer_that_listens_nowhere_is_reached_through_a_relay(make_network, stack):
    async with world(make_network, stack=stack) as w:
        (address,) = w.destination.addresses()
        assert address == f"{w.relay.addresses()[0]}/p2p-circuit/p2p/{w.destination.peer_id}"
        await w.source.connect(w.destination.peer_id, [address])
        assert path_of(w.source, w.destination.peer_id) == "relayed"
        payload = bytes(range(256)) * 8192
        with trio.fail_after(10):
            assert await ask(w.source, w.destination.peer_id, payload) == payload
            assert await ask(w.destination, w.source.peer_id) == b"hello"
        assert path_of(w.destination, w.source.peer_id) == "relayed"
        (info,) = [info for info in w.source.connections() if info.path == "relayed"]
        assert relay_of(info.address) == w.relay.peer_id
        assert w.service.statistics()["circuits"] == 1
        assert w.service.statistics()["carried_bytes"] > 2 * len(payload)


async def test_closing_one_end_ends_the_circuit(make_network):
    async with world(make_network) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        await w.source.disconnect(w.destination.peer_id)
        with trio.fail_after(5):
            while w.destination.is_connected(w.source.peer_id) or w.service.statistics()["circuits"]:
                await trio.sleep(0.01)
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        assert await ask(w.source, w.destination.peer_id) == b"hello"


async def test_a_lost_relay_breaks_its_circuits_and_reservation(make_network):
    async with world(make_network) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        await w.relay.disconnect(w.destination.peer_id)
        with trio.fail_after(5):
            while w.source.is_connected(w.destination.peer_id):
                await trio.sleep(0.01)
        assert w.service.statistics()["reservations"] == 0
        with pytest.raises(DialError) as caught:
            await w.source.connect(w.destination.peer_id)
        assert "no reservation" in str(caught.value)


async def test_nobody_is_relayed_to_a_peer_without_reservation(make_network):
    async with world(make_network, reserve=False) as w:
        address = f"{w.relay.addresses()[0]}/p2p-circuit"
        with pytest.raises(DialError) as caught:
            await w.source.connect(w.destination.peer_id, [address])
        assert "no reservation" in str(caught.value)
        # The relay is not believed when it hands over a circuit that was not asked for.
        w.service._book.reserve(w.destination.peer_id, trio.current_time())
        with pytest.raises(DialError) as caught:
            await w.source.connect(w.destination.peer_id, [address])
        assert "connection failed" in str(caught.value)


async def test_a_stranger_is_cut_at_the_limit_and_a_favoured_peer_is_not(make_network):
    limits = RelayLimits(data_bytes=200_000, budget_bytes=0)
    payload = bytes(400_000)
    async with world(make_network, limits=limits) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        with trio.fail_after(5):
            assert len(await ask(w.source, w.destination.peer_id, payload)) < len(payload)
        w.favourites.add(w.source.peer_id)
        with trio.fail_after(5):
            while w.source.is_connected(w.destination.peer_id):
                await trio.sleep(0.01)
            await w.source.connect(w.destination.peer_id)
            assert await ask(w.source, w.destination.peer_id, payload) == payload


async def test_a_circuit_ends_when_its_time_is_over(make_network):
    async with world(make_network, limits=RelayLimits(duration_s=1)) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        with trio.fail_after(5):
            while w.source.is_connected(w.destination.peer_id):
                await trio.sleep(0.01)
        assert w.service.statistics()["circuits"] == 0


async def test_a_peer_that_used_its_budget_gets_no_circuit(make_network):
    async with world(make_network, limits=RelayLimits(budget_bytes=100_000)) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        with trio.fail_after(5):
            assert len(await ask(w.source, w.destination.peer_id, bytes(200_000))) < 100_000
            while w.service.statistics()["circuits"]:
                await trio.sleep(0.01)
        with pytest.raises(CircuitError) as caught:
            await w.dialling.dial(f"/p2p/{w.relay.peer_id}/p2p-circuit", w.destination.peer_id)
        assert caught.value.status is Status.RESOURCE_LIMIT_EXCEEDED


async def test_a_relay_gives_no_reservation_through_a_circuit(make_network):
    async with world(make_network) as w:
        await w.source.connect(w.destination.peer_id, w.destination.addresses())
        second = RelayService(w.source)
        await w.nursery.start(second.run)
        with pytest.raises(CircuitError) as caught:
            await w.waiting.reserve(CircuitAddress(w.source.peer_id, ""))
        assert caught.value.status is Status.PERMISSION_DENIED


async def test_an_unwilling_relay_refuses(make_network):
    async with make_network() as relay, make_network() as peer, trio.open_nursery() as nursery:
        await nursery.start(RelayService(relay, is_willing=lambda: False).run)
        transport = CircuitTransport(peer)
        with pytest.raises(CircuitError) as caught:
            await transport.reserve(parse_circuit(f"{relay.addresses()[0]}/p2p-circuit"))
        assert caught.value.status is Status.RESERVATION_REFUSED
        assert transport.addresses() == []
        nursery.cancel_scope.cancel()


async def test_a_direct_path_takes_new_streams_and_running_ones_go_on(make_network):
    async with world(make_network, listen=[LOOPBACK]) as w:
        direct = [address for address in w.destination.addresses() if "p2p-circuit" not in address]
        circuit = [address for address in w.destination.addresses() if "p2p-circuit" in address]
        await w.source.connect(w.destination.peer_id, circuit)
        async with await w.source.open_stream(w.destination.peer_id, ECHO) as running:
            await running.send_all(b"over the relay")
            await w.source.improve(w.destination.peer_id, direct)
            paths = {info.path for info in w.source.connections() if info.peer_id == w.destination.peer_id}
            assert paths == {"relayed", "lan"}
            before = w.service.statistics()["carried_bytes"]
            assert await ask(w.source, w.destination.peer_id, bytes(100_000)) == bytes(100_000)
            assert await ask(w.destination, w.source.peer_id, bytes(100_000)) == bytes(100_000)
            assert w.service.statistics()["carried_bytes"] - before < 10_000
            received = b""
            while len(received) < 14:
                received += await running.receive_some(14)
            assert received == b"over the relay"
        with pytest.raises(DialError):
            await w.source.improve(w.destination.peer_id)


async def test_addresses_of_circuits_are_read_strictly():
    relay = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    text = f"/ip4/192.0.2.1/tcp/4001/p2p/{relay}/p2p-circuit"
    assert parse_circuit(text) == CircuitAddress(relay, "/ip4/192.0.2.1/tcp/4001")
    assert parse_circuit(f"{text}/p2p/{relay}").text == text
    assert parse_circuit(f"/p2p/{relay}/p2p-circuit").transport == ""
    for wrong in ("/ip4/192.0.2.1/tcp/4001", "/ip4/192.0.2.1/tcp/4001/p2p-circuit", f"{text}{text}"):
        with pytest.raises(AddressError):
            parse_circuit(wrong)
        assert relay_of(wrong) == ""
