import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_protocols.relay import subjects

DAY = subjects.SECONDS_PER_DAY


def test_a_subject_changes_with_the_day_the_key_and_the_secret():
    key, other = SigningKey.generate().public, SigningKey.generate().public
    names = {
        subjects.rendezvous_subject(key, 1),
        subjects.rendezvous_subject(key, 2),
        subjects.rendezvous_subject(other, 1),
        subjects.rendezvous_subject(key, 1, secret=b"ours"),
    }
    assert len(names) == 4
    assert all(name.isascii() and name == name.lower() and len(name) == 39 for name in names)


def test_a_subject_holds_no_part_of_the_peer_id():
    public = SigningKey.generate().public
    peer_id = peer_id_from_public_key(public)
    name = subjects.rendezvous_subject(public, 1)
    assert public.hex() not in name
    assert not any(peer_id[start : start + 8].lower() in name for start in range(len(peer_id) - 7))


@given(st.integers(0, 2**33), st.integers(-DAY + 1, DAY - 1))
def test_clocks_less_than_a_day_apart_meet(now, skew):
    assert subjects.day_of(max(0, now + skew)) in subjects.rendezvous_days(now)


@pytest.mark.parametrize(
    ("key", "day", "secret"),
    [(bytes(31), 1, b""), (bytes(32), -1, b""), (bytes(32), 2**32, b""), (bytes(32), 1, bytes(65))],
)
def test_sizes_are_checked(key, day, secret):
    with pytest.raises(ValueError, match="rendezvous"):
        subjects.rendezvous_subject(key, day, secret=secret)


def test_an_inbox_needs_a_token_of_full_length():
    with pytest.raises(ValueError, match="16 bytes"):
        subjects.inbox_subject(bytes(15))
