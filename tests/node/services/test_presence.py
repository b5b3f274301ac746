"""Peers that matter are dialled again: each by itself, soon at first, at once when the network is back."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_node.errors import NodeError
from sovereign_node.services.presence import OFTEN_ASKED, SELDOM_ASKED, Presence, _Retry
from sovereign_node.store import State, open_state

NEAR, FAR = (peer_id_from_public_key(SigningKey.from_seed(bytes([number]) * 32).public) for number in (1, 2))


class Peers:
    """A network and a finder in which peers answer, hang or are not there."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.there: set[str] = set()
        self.hanging: set[str] = set()
        self.dialled: list[tuple[str, bool]] = []
        self.forgotten = 0
        self.watchers = []

    def is_connected(self, peer_id: str) -> bool:
        return peer_id in self.connected

    def connections(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(peer_id=peer_id) for peer_id in self.connected]

    def watch_connections(self, watcher):
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def forget_failures(self) -> None:
        self.forgotten += 1

    async def connect(self, peer_id: str, *, is_patient: bool, asks_dht: bool) -> None:
        assert is_patient
        self.dialled.append((peer_id, asks_dht))
        if peer_id in self.hanging:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if peer_id not in self.there:
            raise NodeError("unreachable", "nobody there", "")
        self.switch(peer_id, on=True)

    def switch(self, peer_id: str, *, on: bool) -> None:
        (self.connected.add if on else self.connected.discard)(peer_id)
        for watcher in self.watchers:
            watcher(peer_id, on)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(tmp_path / "state.sqlite")
    yield state
    state.close()


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
async def presence(state: State, peers: Peers, nursery: trio.Nursery) -> Presence:
    came: list[str] = []
    presence = Presence(peers, peers, state, lambda: 1000, lambda: {NEAR, FAR}, came.append)  # type: ignore[arg-type]
    return presence


async def until(condition) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.005)


async def test_a_peer_that_hangs_holds_up_no_other(peers: Peers, presence: Presence, nursery: trio.Nursery) -> None:
    peers.hanging, peers.there = {FAR}, {NEAR}
    await nursery.start(presence.run)
    await until(lambda: NEAR in peers.connected)
    # It is lost while the other one is still being dialled.
    peers.switch(NEAR, on=False)
    await until(lambda: NEAR in peers.connected)
    assert [peer_id for peer_id, _ in peers.dialled].count(FAR) == 1


async def test_when_the_network_is_back_everybody_is_dialled_at_once(
    peers: Peers, presence: Presence, nursery: trio.Nursery
) -> None:
    peers.hanging = {FAR}
    await nursery.start(presence.run)
    await until(lambda: len(peers.dialled) == 2)
    await until(lambda: presence.next_try_in_s(NEAR))
    assert 0 < (presence.next_try_in_s(NEAR) or 0) <= 2.5
    peers.hanging, peers.there = set(), {NEAR, FAR}
    presence.dial_soon()
    await until(lambda: peers.connected == {NEAR, FAR})
    assert peers.forgotten == 1
    assert presence.next_try_in_s(NEAR) is None


def test_the_dht_is_asked_often_at_first_and_seldom_later() -> None:
    asked = [number for number in range(40) if _Retry(0.0, tries=number).asks_dht]
    assert asked == [*range(OFTEN_ASKED), SELDOM_ASKED, 2 * SELDOM_ASKED, 3 * SELDOM_ASKED]
