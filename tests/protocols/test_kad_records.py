"""What a node keeps for others, and what it does not."""

import hashlib
from collections.abc import Callable

import pytest

from sovereign_protocols.kad import records as module
from sovereign_protocols.kad.errors import InvalidRecordError, RequestRefusedError
from sovereign_protocols.kad.keys import kad_id, provider_wire_key, record_wire_key
from sovereign_protocols.kad.messages import Contact
from sovereign_protocols.kad.records import (
    MAX_KEYS_PER_PROVIDER,
    MAX_PROVIDERS_PER_KEY,
    MAX_RECORD_AGE_S,
    MAX_RECORDS_PER_SENDER,
    PROVIDER_AGE_S,
    ProviderStore,
    RecordStore,
)

PREFIX = bytes.fromhex("002408011220")
OWN = PREFIX + bytes(32)
NOW = 1000


def peer(number: int) -> bytes:
    return PREFIX + hashlib.sha256(b"%d" % number).digest()


def key_of(number: int) -> bytes:
    return hashlib.sha256(b"key %d" % number).digest()


def value_of(sequence: int, expires_at: int = 10**9) -> bytes:
    return b"%d %d" % (sequence, expires_at)


class Newest:
    """Values are "sequence expiry"."""

    def validate(self, key: bytes, value: bytes, now: int) -> None:
        if int(value.split()[1]) <= now:
            raise InvalidRecordError("expired")

    def select(self, key: bytes, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index].split()[0]))


def make_store() -> RecordStore:
    return RecordStore(Newest(), OWN)


def distance_of(wire: Callable[[bytes], bytes]) -> Callable[[bytes], int]:
    return lambda key: kad_id(wire(key)) ^ kad_id(OWN)


def test_the_best_value_stays():
    store = make_store()
    store.put(key_of(1), value_of(2), peer(1), NOW)
    with pytest.raises(InvalidRecordError) as caught:
        store.put(key_of(1), value_of(1), peer(2), NOW)
    assert caught.value.reason == "older"
    store.put(key_of(1), value_of(2), peer(2), NOW + 5)
    found = store.get(key_of(1), NOW)
    assert found is not None
    assert (found.value, found.received_at) == (value_of(2), NOW + 5)
    store.put(key_of(1), value_of(3), peer(1), NOW)
    assert len(store) == 1
    assert store.best(key_of(1), [value_of(1), value_of(3), value_of(1)]) == value_of(3)
    assert store.best(key_of(1), []) is None
    assert store.get(key_of(2), NOW) is None


@pytest.mark.parametrize("value", [b"", b"1 99999" + b" " * 4090])
def test_sizes_are_checked_before_the_validator(value):
    with pytest.raises(InvalidRecordError) as caught:
        make_store().put(key_of(1), value, peer(1), NOW)
    assert caught.value.reason == "size"


def test_expired_values_are_neither_taken_nor_given():
    store = make_store()
    with pytest.raises(InvalidRecordError):
        store.put(key_of(1), value_of(1, NOW), peer(1), NOW)
    store.put(key_of(1), value_of(1, NOW + 10), peer(1), NOW)
    store.put(key_of(2), value_of(1), peer(1), NOW)
    assert store.get(key_of(1), NOW + 10) is None
    assert store.purge(NOW + 10) == 0
    assert store.purge(NOW + MAX_RECORD_AGE_S) == 1
    assert len(store) == 0


def test_a_value_that_expired_makes_way_for_an_older_sequence():
    store = make_store()
    store.put(key_of(1), value_of(5, NOW + 10), peer(1), NOW)
    store.put(key_of(1), value_of(1), peer(1), NOW + 10)
    assert len(store) == 1


def test_one_sender_has_a_share_and_we_have_not():
    store = make_store()
    for number in range(MAX_RECORDS_PER_SENDER):
        store.put(key_of(number), value_of(1), peer(1), NOW)
    with pytest.raises(RequestRefusedError) as caught:
        store.put(key_of(999), value_of(1), peer(1), NOW)
    assert caught.value.reason == "sender_full"
    store.put(key_of(0), value_of(2), peer(1), NOW)
    store.put(key_of(999), value_of(1), peer(2), NOW)
    for number in range(MAX_RECORDS_PER_SENDER + 1):
        store.put(key_of(2000 + number), value_of(1), OWN, NOW)
    store.put(key_of(1), value_of(2), peer(2), NOW)
    store.put(key_of(998), value_of(1), peer(1), NOW)


def test_a_full_store_keeps_what_is_near(monkeypatch):
    monkeypatch.setattr(module, "MAX_RECORDS", 10)
    store = make_store()
    keys = sorted((key_of(number) for number in range(21)), key=distance_of(record_wire_key))
    for key in keys[5:15]:
        store.put(key, value_of(1), peer(1), NOW)
    with pytest.raises(RequestRefusedError) as caught:
        store.put(keys[20], value_of(1), peer(1), NOW)
    assert caught.value.reason == "store_full"
    store.put(keys[0], value_of(1), peer(1), NOW)
    assert len(store) == 10
    assert store.get(keys[14], NOW) is None
    assert store.get(keys[0], NOW) is not None
    store.put(keys[0], value_of(2), peer(2), NOW)
    assert len(store) == 10


def test_announcements_newest_first_and_only_once():
    store = ProviderStore(OWN)
    for number in range(MAX_PROVIDERS_PER_KEY + 5):
        store.add(key_of(1), Contact(peer(number), (b"a",)), NOW)
    store.add(key_of(1), Contact(peer(10), (b"b",)), NOW)
    found = store.get(key_of(1), NOW)
    assert found[0] == Contact(peer(10), (b"b",))
    assert found[1].peer_id == peer(MAX_PROVIDERS_PER_KEY + 4)
    assert len(found) == len({contact.peer_id for contact in found}) == MAX_PROVIDERS_PER_KEY
    assert store.get(key_of(2), NOW) == []


def test_announcements_expire_after_a_day():
    store = ProviderStore(OWN)
    store.add(key_of(1), Contact(peer(1)), NOW)
    store.add(key_of(1), Contact(peer(2)), NOW + 5)
    assert [contact.peer_id for contact in store.get(key_of(1), NOW + PROVIDER_AGE_S)] == [peer(2)]
    store.purge(NOW + PROVIDER_AGE_S + 5)
    assert len(store) == 0


def test_an_announcement_can_be_withdrawn():
    store = ProviderStore(OWN)
    store.add(key_of(1), Contact(peer(1)), NOW)
    store.remove(key_of(1), peer(2))
    store.remove(key_of(2), peer(1))
    assert len(store) == 1
    store.remove(key_of(1), peer(1))
    assert len(store) == 0


def test_one_provider_has_a_share():
    store = ProviderStore(OWN)
    for number in range(MAX_KEYS_PER_PROVIDER):
        store.add(key_of(number), Contact(peer(1)), NOW)
    with pytest.raises(RequestRefusedError) as caught:
        store.add(key_of(9999), Contact(peer(1)), NOW)
    assert caught.value.reason == "provider_full"
    store.add(key_of(0), Contact(peer(1)), NOW)
    store.remove(key_of(0), peer(1))
    store.add(key_of(9999), Contact(peer(1)), NOW)


def test_a_full_provider_store_keeps_what_is_near(monkeypatch):
    monkeypatch.setattr(module, "MAX_PROVIDER_KEYS", 5)
    store = ProviderStore(OWN)
    keys = sorted((key_of(number) for number in range(12)), key=distance_of(provider_wire_key))
    for key in keys[3:8]:
        store.add(key, Contact(peer(1)), NOW)
        store.add(key, Contact(peer(2)), NOW)
    with pytest.raises(RequestRefusedError) as caught:
        store.add(keys[11], Contact(peer(1)), NOW)
    assert caught.value.reason == "store_full"
    store.add(keys[0], Contact(peer(1)), NOW)
    assert len(store) == 5
    assert store.get(keys[7], NOW) == []
