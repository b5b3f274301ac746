"""Key slots: round trips, one answer to every wrong secret, every damaged bit."""

import pytest

from sovereign_crypto.errors import FormatError, ParameterError, UnlockError
from sovereign_crypto.kdf import DEFAULT_KDF, NO_KDF, KdfAlgorithm, KdfParameters
from sovereign_crypto.keyslot import (
    SLOT_BYTES,
    SlotType,
    inspect_slot,
    make_secret_slot,
    make_slot,
    open_secret_slot,
    open_slot,
)

SEED = bytes(range(32))
IDENTITY = bytes([7]) * 32
SECRET = bytes([9]) * 32
CHEAP = KdfParameters(KdfAlgorithm.ARGON2ID, 2, 19 * 1024, 1)
SLOT = make_slot("correct horse", SEED, IDENTITY, kdf=CHEAP, generation=3)
SECRET_SLOT = make_secret_slot(SlotType.KEYRING, SECRET, SEED, IDENTITY)


def flipped(slot: bytes, bit: int) -> bytes:
    bad = bytearray(slot)
    bad[bit // 8] ^= 1 << bit % 8
    return bytes(bad)


def with_cost(slot: bytes, passes: int, memory_kib: int, lanes: int) -> bytes:
    cost = b"".join(n.to_bytes(4, "big") for n in (passes, memory_kib, lanes))
    return slot[:8] + cost + slot[20:]


def test_round_trip_with_a_passphrase():
    assert len(SLOT) == SLOT_BYTES == 172
    assert open_slot(SLOT, "correct horse") == SEED
    assert open_slot(SLOT, "correct horse", identity_id=IDENTITY) == SEED
    info = inspect_slot(SLOT)
    assert (info.type, info.kdf, info.identity_id, info.generation) == (
        SlotType.PASSPHRASE,
        CHEAP,
        IDENTITY,
        3,
    )


def test_the_default_cost():
    slot = make_slot("x", SEED, IDENTITY)
    assert inspect_slot(slot).kdf == DEFAULT_KDF
    assert open_slot(slot, "x") == SEED


def test_pbkdf2():
    slot = make_slot("x", SEED, IDENTITY, kdf=KdfParameters(KdfAlgorithm.PBKDF2_HMAC_SHA256, 600_000))
    assert open_slot(slot, "x") == SEED
    with pytest.raises(UnlockError):
        open_slot(slot, "y")


@pytest.mark.parametrize("kind", [SlotType.RECOVERY, SlotType.KEYRING])
def test_round_trip_with_a_secret(kind):
    slot = make_secret_slot(kind, SECRET, SEED, IDENTITY, generation=2**32 - 1)
    assert open_secret_slot(slot, SECRET, identity_id=IDENTITY) == SEED
    assert inspect_slot(slot).generation == 2**32 - 1


def test_a_device_secret_is_needed_as_well():
    slot = make_slot("x", SEED, IDENTITY, kdf=CHEAP, device_secret=SECRET)
    assert inspect_slot(slot).type == SlotType.PASSPHRASE_AND_DEVICE_SECRET
    assert open_slot(slot, "x", device_secret=SECRET) == SEED
    for wrong in (None, bytes(32), bytes(31)):
        with pytest.raises(UnlockError):
            open_slot(slot, "x", device_secret=wrong)
    with pytest.raises(UnlockError):
        open_slot(SLOT, "correct horse", device_secret=SECRET)


def test_every_wrong_secret_gets_the_same_message():
    attempts = [
        lambda: open_slot(SLOT, "wrong"),
        lambda: open_slot(SLOT, ""),
        lambda: open_slot(SLOT, "\ud800"),
        lambda: open_slot(SLOT, "correct horse", identity_id=bytes(32)),
        lambda: open_slot(SECRET_SLOT, "correct horse"),
        lambda: open_secret_slot(SLOT, SECRET),
        lambda: open_secret_slot(SECRET_SLOT, bytes(32)),
        lambda: open_secret_slot(SECRET_SLOT, b""),
        lambda: open_secret_slot(SECRET_SLOT, SECRET, identity_id=bytes(32)),
    ]
    messages = set()
    for attempt in attempts:
        with pytest.raises(UnlockError) as caught:
            attempt()
        messages.add(str(caught.value))
    assert messages == {"cannot unlock"}


def test_every_flipped_bit_of_a_slot():
    for bit in range(SLOT_BYTES * 8):
        with pytest.raises((FormatError, ParameterError, UnlockError)):
            open_secret_slot(flipped(SECRET_SLOT, bit), SECRET)


# Flips of the cost fields are covered by bounds below: some are valid costs that take seconds.
@pytest.mark.parametrize("byte", [0, 4, 5, 6, 7, 20, 51, 52, 83, 84, 87, 88, 119, 120, 123, 124, 171])
def test_flipped_bits_of_a_passphrase_slot(byte):
    with pytest.raises((FormatError, ParameterError, UnlockError)):
        open_slot(flipped(SLOT, byte * 8 + byte % 8), "correct horse")


@pytest.mark.slow
def test_one_flipped_bit_in_each_byte_of_a_passphrase_slot():
    for byte in (*range(8), *range(20, SLOT_BYTES)):
        with pytest.raises((FormatError, ParameterError, UnlockError)):
            open_slot(flipped(SLOT, byte * 8 + byte % 8), "correct horse")


@pytest.mark.parametrize(
    ("passes", "memory_kib", "lanes"),
    [(2, 8, 1), (2, 64 * 1024 * 1024, 1), (1, 19 * 1024, 1), (2**32 - 1, 19 * 1024, 1), (2, 19 * 1024, 5)],
)
def test_cost_out_of_bounds_is_refused_before_computing(passes, memory_kib, lanes):
    with pytest.raises(ParameterError):
        open_slot(with_cost(SLOT, passes, memory_kib, lanes), "correct horse")


def test_another_cost_within_bounds_does_not_unlock():
    with pytest.raises(UnlockError):
        open_slot(with_cost(SLOT, 3, 19 * 1024, 1), "correct horse")


def test_few_iterations_are_refused():
    slot = make_slot("x", SEED, IDENTITY, kdf=KdfParameters(KdfAlgorithm.PBKDF2_HMAC_SHA256, 600_000))
    with pytest.raises(ParameterError):
        open_slot(with_cost(slot, 1000, 0, 0), "x")


def test_parts_of_two_slots_do_not_mix():
    other = make_secret_slot(SlotType.KEYRING, SECRET, SEED, bytes([8]) * 32)
    for at, end in ((20, 52), (52, 84), (88, 120), (124, 172), (88, 172)):
        with pytest.raises(UnlockError):
            open_secret_slot(SECRET_SLOT[:at] + other[at:end] + SECRET_SLOT[end:], SECRET)


@pytest.mark.parametrize(
    "slot",
    [
        b"",
        SLOT[:-1],
        SLOT + b"\0",
        b"SVK2" + SLOT[4:],
        SLOT[:4] + b"\2" + SLOT[5:],
        SLOT[:5] + b"\0" + SLOT[6:],
        SLOT[:5] + b"\5" + SLOT[6:],
        SLOT[:6] + b"\3" + SLOT[7:],
        SLOT[:6] + b"\0" + SLOT[7:],
        SLOT[:7] + b"\1" + SLOT[8:],
        SECRET_SLOT[:6] + b"\1" + SECRET_SLOT[7:],
        SLOT[:123] + b"\x31" + SLOT[124:],
    ],
)
def test_not_a_slot(slot):
    with pytest.raises(FormatError):
        inspect_slot(slot)


def test_rewriting_uses_a_fresh_salt():
    salts = {make_secret_slot(SlotType.KEYRING, SECRET, SEED, IDENTITY)[20:52] for _ in range(20)}
    assert len(salts) == 20


@pytest.mark.parametrize(
    "change",
    [
        {"seed": bytes(31)},
        {"identity_id": bytes(33)},
        {"generation": -1},
        {"generation": 2**32},
        {"kdf": NO_KDF},
        {"kdf": KdfParameters(KdfAlgorithm.ARGON2ID, 1, 8, 1)},
        {"device_secret": bytes(31)},
        {"passphrase": ""},
    ],
    ids=str,
)
def test_refused_arguments(change):
    arguments = {"passphrase": "x", "seed": SEED, "identity_id": IDENTITY, "kdf": CHEAP} | change
    with pytest.raises(ParameterError):
        make_slot(**arguments)


@pytest.mark.parametrize(("kind", "secret"), [(SlotType.PASSPHRASE, SECRET), (SlotType.KEYRING, bytes(31))])
def test_secret_slots_need_a_full_secret(kind, secret):
    with pytest.raises(ParameterError):
        make_secret_slot(kind, secret, SEED, IDENTITY)
