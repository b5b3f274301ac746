"""The small parts of the DHT shell: addresses, suspects, publications, inbound streams of odd peers."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_devnet.memory_network import open_hub
from sovereign_node.net.kad import caller
from sovereign_node.net.kad.addresses import addresses_to_text, addresses_to_wire
from sovereign_node.net.kad.caller import FIRST_SUSPICION_S, LONGEST_SUSPICION_S, Suspects
from sovereign_node.net.kad.publications import Kind, Publication, Publications
from sovereign_node.net.kademlia import Kademlia
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.kad import PROTOCOL_ID

PEER, OTHER = (peer_id_from_public_key(SigningKey.from_seed(bytes([n]) * 32).public) for n in (1, 2))


def test_addresses_lose_the_peer_id_on_the_wire_and_get_it_back():
    texts = [f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}", f"/dns4/example.org/tcp/1/p2p/{PEER}", "/ip6/::1/tcp/2"]
    wire = addresses_to_wire(texts)
    assert all(len(item) < 40 for item in wire)
    assert addresses_to_text(PEER, wire) == [*texts[:2], f"/ip6/::1/tcp/2/p2p/{PEER}"]


def test_what_is_no_address_is_left_out():
    assert addresses_to_wire(["nonsense", "/ip4/300.1.1.1/tcp/1", "", "/ip4/192.0.2.1/tcp/1"]) == (
        Multiaddr("/ip4/192.0.2.1/tcp/1").to_bytes(),
    )
    wrong = Multiaddr(f"/ip4/192.0.2.1/tcp/1/p2p/{OTHER}").to_bytes()
    own = Multiaddr(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}").to_bytes()
    assert addresses_to_text(PEER, [wrong, b"", b"\xff" * 10, bytes(200), own, own]) == [
        f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}"
    ]


@given(st.binary(max_size=140))
def test_any_bytes_are_an_address_or_nothing(data):
    for text in addresses_to_text(PEER, [data]):
        assert text.endswith(f"/p2p/{PEER}")


@given(st.sampled_from([0x04, 0x06, 0x29, 0x35, 0x36, 0x01A5, 0x01BD, 0x0122, 0x0190]), st.binary(max_size=60))
def test_any_bytes_after_a_known_code_are_an_address_or_nothing(code, data):
    prefix = bytes([code]) if code < 0x80 else bytes([code & 0x7F | 0x80, code >> 7])
    for text in addresses_to_text(PEER, [prefix + data]):
        assert text.endswith(f"/p2p/{PEER}")


async def test_suspicion_grows_and_passes(autojump_clock, monkeypatch):
    suspects = Suspects()
    suspects.add(b"a")
    assert b"a" in suspects
    assert "a" not in suspects
    await trio.sleep(FIRST_SUSPICION_S)
    assert b"a" not in suspects
    for _ in range(20):
        suspects.add(b"a")
    await trio.sleep(LONGEST_SUSPICION_S - 1)
    assert b"a" in suspects
    suspects.clear(b"a")
    suspects.clear(b"a")
    assert b"a" not in suspects
    monkeypatch.setattr(caller, "MAX_SUSPECTS", 2)
    for name in (b"a", b"b", b"c"):
        suspects.add(name)
    assert len(suspects) == 2
    assert b"a" not in suspects


def test_publications_come_due():
    publications = Publications()
    assert publications.next_due() is None
    first = Publication(Kind.PROVIDER, b"k", None, 10, due_at=5)
    second = Publication(Kind.VALUE, b"k", lambda: b"", 10, due_at=8)
    publications.add(first)
    publications.add(second)
    assert publications.next_due() == 5
    assert publications.due(6) == [first]
    publications.hasten(2)
    assert publications.due(2) == [first, second]
    replaced = Publication(Kind.PROVIDER, b"k", None, 10, due_at=50)
    publications.add(replaced)
    assert len(publications) == 2
    assert not publications.is_current(first)
    assert publications.is_current(replaced)
    publications.remove(Kind.VALUE, b"k")
    publications.remove(Kind.VALUE, b"k")
    assert publications.due(100) == [replaced]


class Nothing:
    def validate(self, key: bytes, value: bytes, now: int) -> None:
        raise AssertionError

    def select(self, key: bytes, values: list[bytes]) -> int:
        raise AssertionError


@pytest.fixture
async def lone_node():
    async with open_hub() as hub, trio.open_nursery() as nursery:
        network = hub.add_node()
        kademlia = Kademlia(network, validator=Nothing(), addresses=lambda: ["/ip4/192.0.2.9/tcp/9"])
        await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        yield hub, network, kademlia
        nursery.cancel_scope.cancel()


async def test_a_peer_without_an_ed25519_id_is_reset(lone_node, autojump_clock):
    hub, network, kademlia = lone_node
    other = hub.add_node()
    await other.connect(network.peer_id, network.addresses())
    other.peer_id = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
    stream: PeerStream = await other.open_stream(network.peer_id, PROTOCOL_ID)
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert kademlia.statistics()["requests_refused"] == 1


async def test_a_peer_that_leaves_in_the_middle_harms_nobody(lone_node, autojump_clock):
    hub, network, kademlia = lone_node
    other = hub.add_node()
    await other.connect(network.peer_id, network.addresses())
    stream = await other.open_stream(network.peer_id, PROTOCOL_ID)
    await stream.send_all(b"\x05")
    await stream.reset()
    await trio.sleep(1)
    assert kademlia.statistics()["requests_answered"] == 0


async def test_announced_addresses_may_differ_from_those_listened_on(lone_node, autojump_clock):
    hub, network, _ = lone_node
    asker = Kademlia(hub.add_node(), validator=Nothing())
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: asker.run(task_status=task_status))
        await asker.bootstrap(network.addresses())
        assert [list(peer.addresses) for peer in asker.contacts()] == [
            [f"/ip4/192.0.2.9/tcp/9/p2p/{network.peer_id}"]
        ]
        nursery.cancel_scope.cancel()
