"""Circuits with js-libp2p as relay, as source and as destination."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from js_process import JsError, JsPeers

from sovereign_crypto.signing import SigningKey
from sovereign_node.net.circuit import CircuitTransport, RelayService
from sovereign_node.net.circuit.addresses import CircuitAddress, relay_of
from sovereign_node.net.host import open_network
from sovereign_node.net.network import Network
from sovereign_protocols.circuit.relay_book import RelayLimits

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ECHO = "/test/echo/1.0.0"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
# More than one chunk, and more than other relays carry by default.
SIZE = 6_000_000


async def echo(stream: Any) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.send_eof()


@asynccontextmanager
async def our_node(*, listen: bool = True) -> AsyncIterator[tuple[Network, CircuitTransport]]:
    key = SigningKey.generate()
    async with open_network(key, listen=[LOOPBACK] if listen else []) as network:
        network.set_handler(ECHO, echo)
        circuits = CircuitTransport(network)
        network.add_transport(circuits)
        yield network, circuits


@asynccontextmanager
async def our_relay(limits: RelayLimits | None = None) -> AsyncIterator[tuple[Network, RelayService]]:
    async with our_node() as (network, _), trio.open_nursery() as nursery:
        service = RelayService(network, limits)
        await nursery.start(service.run)
        yield network, service
        nursery.cancel_scope.cancel()


async def echoed(network: Network, peer_id: str) -> bool:
    """Send bytes to a peer and say whether they came back."""
    payload = secrets.token_bytes(SIZE)
    received = hashlib.sha256()
    async with await network.open_stream(peer_id, ECHO) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(payload)
            await stream.send_eof()

        nursery.start_soon(send)
        while data := await stream.receive_some(65536):
            received.update(data)
    return received.digest() == hashlib.sha256(payload).digest()


def only_path(network: Network, peer_id: str) -> str:
    (path,) = {info.path for info in network.connections() if info.peer_id == peer_id}
    return path


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(20):
        while not await condition():
            await trio.sleep(0.05)


async def test_js_waits_at_our_relay_and_we_dial_it_there(js_peer: JsPeers) -> None:
    async with our_relay() as (relay, service), our_node(listen=False) as (source, _):
        listen = [f"{relay.addresses()[0]}/p2p-circuit"]
        async with js_peer(listen=listen) as peer:

            async def has_reserved() -> bool:
                return service.statistics()["reservations"] == 1

            await until(has_reserved)
            published = (await peer.call("about"))["addresses"]
            assert published == [f"{listen[0]}/p2p/{peer.peer_id}"]
            await source.connect(peer.peer_id, published)
            assert only_path(source, peer.peer_id) == "relayed"
            assert await echoed(source, peer.peer_id)
            # The other way over the same circuit, whose limit js-libp2p has been told.
            assert await peer.call("echo", peer_id=source.peer_id, size=SIZE) == {"size": SIZE, "same": True}
            assert service.carried_bytes > 4 * SIZE
            assert (await peer.call("ping", peer_id=relay.peer_id))["milliseconds"] < 5_000


async def test_js_dials_us_through_our_relay_and_is_cut_at_its_limit(js_peer: JsPeers) -> None:
    limits = RelayLimits(data_bytes=2 * SIZE)
    async with our_relay(limits) as (relay, service), our_node(listen=False) as (destination, circuits):
        await destination.connect(relay.peer_id, relay.addresses())
        await circuits.reserve(CircuitAddress(relay.peer_id, ""))
        (address,) = destination.addresses()
        assert relay_of(address) == relay.peer_id
        async with js_peer() as peer:
            assert (await peer.call("dial", address=address))["peer_id"] == destination.peer_id
            assert (await peer.call("echo", peer_id=destination.peer_id, size=SIZE))["same"]
            assert only_path(destination, peer.peer_id) == "relayed"
            with pytest.raises(JsError):
                await peer.call("echo", peer_id=destination.peer_id, size=2 * SIZE)
            assert 2 * SIZE < service.carried_bytes < 7 * SIZE


async def test_we_wait_at_a_relay_of_js_and_both_dial_us_there(js_peer: JsPeers) -> None:
    async with (
        js_peer(relay=True) as relay,
        our_node(listen=False) as (destination, circuits),
        our_node() as (source, _),
    ):
        await destination.connect(relay.peer_id, relay.addresses)
        reservation = await circuits.reserve(CircuitAddress(relay.peer_id, ""))
        assert reservation.expires_at > 0
        address = destination.addresses()[0]
        assert address == f"{relay.addresses[0]}/p2p-circuit/p2p/{destination.peer_id}"
        await source.connect(destination.peer_id, [address])
        assert only_path(source, destination.peer_id) == "relayed"
        assert await echoed(source, destination.peer_id)
        assert await echoed(destination, source.peer_id)
        async with js_peer() as dialler:
            assert (await dialler.call("dial", address=address))["peer_id"] == destination.peer_id
            answer = await dialler.call("echo", peer_id=destination.peer_id, size=SIZE)
            assert answer == {"size": SIZE, "same": True}
            assert await echoed(destination, dialler.peer_id)
