"""The routing table: who may enter, who must leave, who is near."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.kad.keys import kad_id
from sovereign_protocols.kad.messages import Contact
from sovereign_protocols.kad.table import (
    MAX_REPLACEMENTS,
    SUBNET_LIMIT_PER_BUCKET,
    SUBNET_LIMIT_PER_TABLE,
    RoutingTable,
    subnet_of,
)

OWN = bytes.fromhex("002408011220") + bytes(32)


def peer(number: int) -> bytes:
    return bytes.fromhex("002408011220") + hashlib.sha256(b"%d" % number).digest()


def prefix_of(peer_id: bytes) -> int:
    return 256 - (kad_id(peer_id) ^ kad_id(OWN)).bit_length()


def peers_of_bucket(prefix: int, count: int) -> list[bytes]:
    found = []
    number = 0
    while len(found) < count:
        number += 1
        if prefix_of(peer(number)) == prefix:
            found.append(peer(number))
    return found


def ip4(a: int, b: int, c: int, d: int) -> bytes:
    return bytes([4, a, b, c, d, 6, 15, 161])


def ip6(*first: int) -> bytes:
    return bytes([0x29, *first, *bytes(16 - len(first)), 6, 15, 161])


def test_we_are_not_in_our_own_table():
    table = RoutingTable(OWN)
    assert not table.add(Contact(OWN), 0)
    assert not table.wants(OWN)
    assert len(table) == 0


def test_a_contact_is_found_and_keeps_its_addresses():
    table = RoutingTable(OWN)
    assert table.add(Contact(peer(1), (b"a",)), 1)
    assert table.add(Contact(peer(1)), 2)
    assert peer(1) in table
    assert peer(2) not in table
    assert "text" not in table
    entry = table.get(peer(1))
    assert entry is not None
    assert entry.contact.addresses == (b"a",)
    assert entry.seen_at == 2
    assert table.add(Contact(peer(1), (b"b",)), 3)
    assert [item.contact.addresses for item in table.entries()] == [(b"b",)]


def test_a_full_bucket_keeps_its_live_contacts():
    table = RoutingTable(OWN, bucket_size=3)
    peers = peers_of_bucket(0, 20)
    assert all(table.wants(peer_id) for peer_id in peers)
    assert [table.add(Contact(peer_id), 0) for peer_id in peers[:5]] == [True] * 3 + [False] * 2
    assert not table.wants(peers[0])
    assert not table.wants(peers[3])
    assert table.wants(peers[5])
    for peer_id in peers[5:]:
        table.add(Contact(peer_id), 0)
    assert len(table) == 3
    assert not table.wants(peer(10**6)) or prefix_of(peer(10**6)) != 0


def test_two_failures_in_a_row_make_room_for_the_newest_replacement():
    table = RoutingTable(OWN, bucket_size=2)
    first, second, third, fourth, fifth = peers_of_bucket(0, 5)
    for peer_id in (first, second, third, fourth, fifth):
        table.add(Contact(peer_id), 0)
    assert not table.fail(first)
    table.add(Contact(first), 1)
    assert not table.fail(first)
    assert not table.fail(fifth)
    assert table.fail(first)
    assert {entry.contact.peer_id for entry in table.entries()} == {second, fourth}
    assert not table.fail(peer(10**6))


def test_removal_of_strangers_is_nothing():
    table = RoutingTable(OWN)
    table.remove(peer(1))
    assert not table.fail(peer(1))
    table.add(Contact(peers_of_bucket(0, 2)[0]), 0)
    table.remove(peers_of_bucket(0, 2)[1])
    assert not table.fail(peers_of_bucket(0, 2)[1])
    assert len(table) == 1


def test_replacements_are_bounded():
    table = RoutingTable(OWN, bucket_size=1)
    peers = peers_of_bucket(0, MAX_REPLACEMENTS + 5)
    for peer_id in peers:
        table.add(Contact(peer_id), 0)
    table.remove(peers[0])
    assert [entry.contact.peer_id for entry in table.entries()] == [peers[-1]]
    for gone in reversed(peers[-MAX_REPLACEMENTS:]):
        table.remove(gone)
    assert len(table) == 0


def test_nearest_prefers_those_that_answered_last_time():
    table = RoutingTable(OWN)
    for number in range(30):
        table.add(Contact(peer(number)), 0)
    target = kad_id(peer(7))
    nearest = table.nearest(target, 5)
    distances = [kad_id(contact.peer_id) ^ target for contact in nearest]
    assert nearest[0].peer_id == peer(7)
    assert distances == sorted(distances)
    table.fail(peer(7))
    assert peer(7) not in [contact.peer_id for contact in table.nearest(target, 5)]
    assert peer(7) in [contact.peer_id for contact in table.nearest(target, 30)]
    assert nearest[1] not in table.nearest(target, 30, exclude=[nearest[1].peer_id])


def test_stale_contacts_longest_silence_first():
    table = RoutingTable(OWN)
    for number in range(4):
        table.add(Contact(peer(number)), number)
    assert [contact.peer_id for contact in table.stale(12, 10)] == [peer(0), peer(1), peer(2)]
    table.fail(peer(3))
    assert table.stale(3, 10) == [Contact(peer(3))]


@given(st.binary(min_size=24, max_size=24))
def test_refresh_visits_each_region_once(noise):
    table = RoutingTable(OWN)
    assert table.refresh_keys(noise) == []
    for prefix in (0, 2, 3):
        table.add(Contact(peers_of_bucket(prefix, 1)[0]), 0)
    keys = table.refresh_keys(noise)
    assert [prefix_of(key) for key in keys] == [3, 2, 1, 0]


def test_refresh_leaves_out_regions_that_no_try_hits(monkeypatch):
    monkeypatch.setattr("sovereign_protocols.kad.table.REFRESH_TRIES", 1)
    table = RoutingTable(OWN)
    table.add(Contact(peers_of_bucket(3, 1)[0]), 0)
    assert len(table.refresh_keys(bytes(24))) <= 1


def test_one_subnet_cannot_fill_a_bucket_nor_the_table():
    table = RoutingTable(OWN)
    for index, peer_id in enumerate(peers_of_bucket(0, 10)):
        table.add(Contact(peer_id, (ip4(8, 8, 8, index),)), 0)
    assert len(table) == SUBNET_LIMIT_PER_BUCKET
    for prefix in range(1, 8):
        for index, peer_id in enumerate(peers_of_bucket(prefix, 4)):
            table.add(Contact(peer_id, (ip4(8, 8, 8, index),)), 0)
    assert len(table) == SUBNET_LIMIT_PER_TABLE
    assert table.add(Contact(peers_of_bucket(0, 20)[-1], (ip4(8, 8, 9, 1),)), 0)


def test_subnets_of_replacements_count_too():
    table = RoutingTable(OWN, bucket_size=4)
    peers = peers_of_bucket(0, 8)
    for peer_id in peers[:3]:
        table.add(Contact(peer_id, (ip4(8, 8, 8, 1),)), 0)
    table.add(Contact(peers[3], (ip4(9, 9, 9, 1),)), 0)
    table.add(Contact(peers[4], (ip4(8, 8, 8, 9),)), 0)
    table.remove(peers[3])
    assert len(table) == 3
    table.remove(peers[0])
    assert peers[4] in table


def test_the_limit_can_be_switched_off():
    table = RoutingTable(OWN, limit_subnets=False)
    for index, peer_id in enumerate(peers_of_bucket(0, 10)):
        table.add(Contact(peer_id, (ip4(8, 8, 8, index),)), 0)
    assert len(table) == 10


def test_which_addresses_have_a_subnet():
    assert subnet_of([]) is None
    assert subnet_of([ip4(8, 8, 8, 1)]) == subnet_of([ip4(8, 8, 8, 2)])
    assert subnet_of([ip4(8, 8, 8, 1)]) != subnet_of([ip4(8, 8, 9, 1)])
    assert subnet_of([ip6(0x20, 1, 1, 1, 1, 1, 1)]) == subnet_of([ip6(0x20, 1, 1, 1, 1, 1, 2)])
    assert subnet_of([ip6(0x20, 1, 1, 1, 1, 1)]) != subnet_of([ip6(0x20, 1, 1, 1, 1, 2)])
    assert subnet_of([ip4(127, 0, 0, 1), ip4(8, 8, 8, 1)]) == bytes([4, 8, 8, 8])
    local = [(0, 0, 0, 0), (10, 1, 2, 3), (172, 16, 0, 1), (192, 168, 1, 1), (169, 254, 1, 1), (100, 64, 0, 1)]
    assert {subnet_of([ip4(*address)]) for address in local} == {None}
    assert subnet_of([ip4(172, 32, 0, 1)]) is not None
    assert subnet_of([ip6(0xFD, 1), ip6(0xFE, 0x80), ip6(0), b"\x04\x08", b"\x29\x20", b"\x36abc"]) is None
