"""In which order the ways to a peer are tried, and how long each has before the next one starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from sovereign_node.errors import NodeError
from sovereign_node.net import dialer as dialer_module
from sovereign_node.net.dialer import HEAD_START_S, MAX_DIRECT_ADDRESSES, Dialer
from sovereign_node.net.errors import DialError
from sovereign_node.services.peer_finder import KNOWN_TIMEOUT_S, LOOKUP_HEAD_START_S, PeerFinder

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
RELAY = "12D3KooWRBXCRuo1R2BtbceTiND85nsBM8XmQy5UkEitZoYjGcgJ"
LAN = "/ip4/192.168.1.2/tcp/1"
PUBLIC = "/ip4/8.8.8.8/tcp/1"
PUBLIC_6 = "/ip6/2600::1/tcp/1"
CIRCUIT = f"/ip4/9.9.9.9/tcp/1/p2p/{RELAY}/p2p-circuit"
NATS = "/nats/relay.example:4222"
SLACK_S = 0.05
MIXED = [NATS, CIRCUIT, PUBLIC, LAN, PUBLIC_6]


class Ways:
    """Addresses that lead to the peer after some seconds, or fail after some; others say nothing for ever."""

    path = "other"

    def __init__(self) -> None:
        self.works: dict[str, float] = {}
        self.fails: dict[str, float] = {}
        self.started: dict[str, float] = {}

    def can_dial(self, address: str) -> bool:
        return address in (CIRCUIT, NATS)

    async def dial(self, address: str, peer_id: str) -> Any:
        self.started[address] = trio.current_time()
        await trio.sleep(min(self.works.get(address, math.inf), self.fails.get(address, math.inf)))
        if address not in self.works:
            raise OSError("refused")
        return address

    async def open_tcp(self, address: str, _source_port: int | None = None) -> Any:
        return await self.dial(address, PEER)


async def upgrade(raw: Any, _peer: Any) -> Any:
    pipe = raw.stream
    # What a transport gives was wrapped on the way.
    return getattr(pipe, "address", pipe)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    ways = Ways()
    monkeypatch.setattr(dialer_module, "open_tcp", ways.open_tcp)
    monkeypatch.setattr(dialer_module, "Pipe", lambda stream, *, address, path: stream)
    monkeypatch.setattr(dialer_module, "RawConnection", lambda pipe, _initiator: SimpleNamespace(stream=pipe))
    return ways


async def dial(ways: Ways, addresses: Sequence[str], timeout_s: float = 5) -> tuple[str, dict[str, float]]:
    started = trio.current_time()
    dialer = Dialer(upgrade, [ways])  # type: ignore[list-item]
    winner = await dialer.dial(PEER, [f"{address}/p2p/{PEER}" for address in addresses], timeout_s=timeout_s)
    return winner, {address: at - started for address, at in ways.started.items()}


async def test_local_network_then_direct_then_circuit_then_nats(ways: Ways, autojump_clock: object) -> None:
    ways.works = {NATS: 0.05}
    winner, started = await dial(ways, MIXED)
    assert winner == NATS
    assert list(started) == [LAN, PUBLIC, PUBLIC_6, CIRCUIT, NATS]
    assert list(started.values()) == pytest.approx([place * HEAD_START_S for place in range(5)], abs=SLACK_S)


async def test_a_direct_way_that_works_leaves_no_packet_for_third_parties(
    ways: Ways, autojump_clock: object
) -> None:
    ways.works = {PUBLIC: 0.1, CIRCUIT: 0.0, NATS: 0.0}
    winner, started = await dial(ways, MIXED)
    assert winner == PUBLIC
    assert list(started) == [LAN, PUBLIC]


async def test_whatever_fails_lets_the_next_start_at_once(ways: Ways, autojump_clock: object) -> None:
    ways.works = {CIRCUIT: 0.3, NATS: 0.05}
    ways.fails = dict.fromkeys([LAN, PUBLIC, PUBLIC_6], 0.01)
    winner, started = await dial(ways, MIXED)
    # The circuit has its head start, and is slower all the same: the two race.
    assert winner == NATS
    assert started[CIRCUIT] == pytest.approx(0.03, abs=SLACK_S)
    assert started[NATS] == pytest.approx(0.03 + HEAD_START_S, abs=SLACK_S)


async def test_dead_addresses_do_not_push_the_others_out(ways: Ways, autojump_clock: object) -> None:
    ways.works = {NATS: 0.05}
    dead = [f"/ip4/8.8.4.{number}/tcp/1" for number in range(40)]
    winner, started = await dial(ways, [*dead, NATS], timeout_s=KNOWN_TIMEOUT_S)
    assert winner == NATS
    assert started[NATS] == pytest.approx(MAX_DIRECT_ADDRESSES * HEAD_START_S, abs=SLACK_S)


async def test_every_reason_is_told(ways: Ways, autojump_clock: object) -> None:
    ways.fails = {LAN: 0.1}
    with pytest.raises(DialError) as caught:
        await dial(ways, [LAN, NATS], timeout_s=1)
    assert caught.value.causes == {LAN: "refused", NATS: "no answer in time"}


class Acquaintances:
    """A network whose dials take time, a DHT and a list of known addresses, for a finder."""

    def __init__(self, known: Sequence[str], published: Sequence[str]) -> None:
        self.known, self.published = list(known), list(published)
        self.works: dict[str, float] = {}
        self.asked_at: float | None = None
        self.dialled: dict[str, float] = {}
        self.is_here = False
        self.peers = SimpleNamespace(addresses=lambda _peer: list(self.known), learn=lambda *_args, **_names: None)

    def is_connected(self, _peer_id: str) -> bool:
        return self.is_here

    def known_addresses(self, _peer_id: str) -> list[str]:
        return []

    def connections(self) -> list[Any]:
        return []

    async def connect(self, peer_id: str, addresses: Sequence[str], *, timeout_s: float) -> None:
        self.dialled.update(dict.fromkeys(addresses, trio.current_time()))
        after_s = min((self.works[item] for item in addresses if item in self.works), default=math.inf)
        await trio.sleep(min(after_s, timeout_s))
        if after_s > timeout_s:
            raise DialError(peer_id, dict.fromkeys(addresses, "no answer in time"))
        self.is_here = True

    async def find_peer(self, _peer_id: str) -> list[str]:
        self.asked_at = trio.current_time()
        await trio.sleep(0.1)
        return self.published

    async def find(self, *shared: str) -> float:
        finder = PeerFinder(self, self, self, lambda: 0, shared_ways=lambda: shared)  # type: ignore[arg-type]
        started = trio.current_time()
        await finder.connect(PEER)
        return trio.current_time() - started


async def test_what_is_known_is_dialled_before_the_dht_is_asked() -> None:
    world = Acquaintances([f"{PUBLIC}/p2p/{PEER}"], [])
    world.works = {f"{PUBLIC}/p2p/{PEER}": 0.01}
    await world.find()
    assert world.asked_at is None


async def test_the_dht_joins_after_a_head_start_and_its_answer_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sovereign_node.services.peer_finder.LOOKUP_HEAD_START_S", LOOKUP_HEAD_START_S / 3)
    fresh = f"{PUBLIC}/p2p/{PEER}"
    world = Acquaintances([f"{LAN}/p2p/{PEER}"], [fresh])
    world.works = {fresh: 0.01}
    started = trio.current_time()
    taken_s = await world.find(NATS)
    # Relays and brokers are among the known ways: they are not held up by a slow DHT, and rank themselves.
    assert set(world.dialled) == {f"{LAN}/p2p/{PEER}", f"{NATS}/p2p/{PEER}", fresh}
    assert world.asked_at is not None
    assert world.asked_at - started >= LOOKUP_HEAD_START_S / 3
    assert taken_s < KNOWN_TIMEOUT_S


async def test_nobody_anywhere_is_an_error() -> None:
    world = Acquaintances([], [])
    with pytest.raises(NodeError, match="can't be reached"):
        await world.find()
