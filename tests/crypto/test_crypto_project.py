"""Project keys: derivation, rotation, encoding."""

import itertools

import pytest

from sovereign_crypto import cbor
from sovereign_crypto.errors import MalformedError, ParameterError
from sovereign_crypto.project import ProjectKeys

KEYS = ProjectKeys(bytes([1]) * 32, (bytes([2]) * 32, bytes([3]) * 32), bytes([4]) * 32)


def test_derived_keys_all_differ():
    derived = [
        *(KEYS.chunk_key(e) for e in (0, 1)),
        *(KEYS.index_key(e) for e in (0, 1)),
        *(KEYS.head_key(e) for e in (0, 1)),
        *(KEYS.log_key(e) for e in (0, 1)),
        KEYS.dedup_key,
        KEYS.discovery_key,
        KEYS.locator(),
        KEYS.locator(bytes(32)),
        KEYS.locator(bytes([1]) * 32),
    ]
    assert all(len(key) == 32 for key in derived)
    assert all(a != b for a, b in itertools.combinations(derived, 2))


def test_a_new_epoch_keeps_what_is_stable():
    rotated = KEYS.with_new_epoch()
    assert rotated.epoch == KEYS.epoch + 1 == 2
    assert rotated.chunk_key(1) == KEYS.chunk_key(1)
    assert rotated.dedup_key == KEYS.dedup_key
    assert rotated.discovery_key == KEYS.discovery_key
    assert rotated.locator() == KEYS.locator()


def test_another_project_has_other_keys():
    other = ProjectKeys(bytes([9]) * 32, KEYS.epoch_keys, KEYS.dedup_secret)
    assert other.chunk_key(0) != KEYS.chunk_key(0)
    assert other.locator() != KEYS.locator()


@pytest.mark.parametrize("epoch", [-1, 2])
def test_unknown_epochs(epoch):
    for method in (KEYS.chunk_key, KEYS.index_key, KEYS.head_key, KEYS.log_key):
        with pytest.raises(ParameterError):
            method(epoch)


def test_encoding_round_trip():
    generated = ProjectKeys.generate()
    assert generated.epoch == 0
    assert ProjectKeys.from_bytes(generated.to_bytes()) == generated
    assert ProjectKeys.from_bytes(KEYS.to_bytes()) == KEYS


def test_secrets_do_not_show():
    assert KEYS.epoch_keys[0].hex() not in repr(KEYS)
    assert "epoch_keys" not in repr(KEYS)
    assert "dedup_secret" not in repr(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"extra": 1},
        {"project_id": bytes(31)},
        {"project_id": 1},
        {"dedup_secret": "x" * 32},
        {"epoch_keys": []},
        {"epoch_keys": [bytes(31)]},
        {"epoch_keys": bytes(32)},
        {"epoch_keys": ["x"]},
        {"epoch_keys": [bytes(32)] * 4097},
    ],
    ids=str,
)
def test_other_bodies_are_malformed(change):
    body = cbor.decode(KEYS.to_bytes()) | change
    with pytest.raises(MalformedError):
        ProjectKeys.from_bytes(cbor.encode(body))


def test_not_a_map():
    with pytest.raises(MalformedError):
        ProjectKeys.from_bytes(b"\x80")


@pytest.mark.parametrize("parts", [(b"", (bytes(32),), bytes(32)), (bytes(32), (), bytes(32))])
def test_wrong_sizes(parts):
    with pytest.raises(ParameterError):
        ProjectKeys(*parts)
