"""The lookup as a state machine: who is asked when, what silence costs, when it ends."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.kad.keys import kad_id
from sovereign_protocols.kad.lookup import MAX_CALLS, MAX_CANDIDATES, Lookup, LookupLimits
from sovereign_protocols.kad.messages import Contact

TARGET = kad_id(b"target")
LIMITS = LookupLimits(parallel=2, width=3, hedge_s=0.5, patience_s=2.0)


def make_contacts(count: int, salt: int = 0) -> list[Contact]:
    found = [
        Contact(bytes.fromhex("002408011220") + hashlib.sha256(b"%d.%d" % (salt, n)).digest()) for n in range(count)
    ]
    return sorted(found, key=lambda contact: kad_id(contact.peer_id) ^ TARGET)


def test_without_candidates_it_is_over():
    lookup = Lookup(TARGET, [])
    assert lookup.finished
    assert lookup.next_calls(0) == []
    assert lookup.next_timer() is None
    assert lookup.answered(20) == []


def test_the_nearest_are_asked_first_and_the_width_completes():
    near = make_contacts(6)
    lookup = Lookup(TARGET, near[3:], LIMITS)
    assert lookup.next_calls(0) == near[3:5]
    assert lookup.next_calls(0) == []
    lookup.receive_answer(near[3].peer_id, near[:3], 0.1)
    assert not lookup.finished
    assert lookup.next_calls(0.1) == [near[0]]
    lookup.receive_answer(near[4].peer_id, [], 0.1)
    lookup.receive_answer(near[0].peer_id, near, 0.2)
    assert lookup.next_calls(0.2) == near[1:3]
    lookup.receive_answer(near[1].peer_id, [], 0.3)
    assert not lookup.settled(3)
    lookup.receive_answer(near[2].peer_id, [], 0.3)
    assert lookup.settled(3)
    assert lookup.finished
    assert lookup.next_calls(0.3) == []
    assert lookup.answered(3) == near[:3]
    assert lookup.calls == 5


def test_a_silent_candidate_costs_the_hedge_and_ends_with_patience():
    near = make_contacts(4)
    lookup = Lookup(TARGET, near, LIMITS)
    assert lookup.next_calls(10) == near[:2]
    assert lookup.next_timer() == 10.5
    lookup.receive_answer(near[1].peer_id, [], 10.1)
    assert lookup.next_calls(10.1) == [near[2]]
    lookup.receive_answer(near[2].peer_id, [], 10.2)
    assert lookup.next_calls(10.2) == []
    assert not lookup.finished
    lookup.handle_timer(10.5)
    assert lookup.next_calls(10.5) == [near[3]]
    lookup.receive_answer(near[3].peer_id, [], 10.6)
    assert not lookup.finished
    assert lookup.settled(3)
    assert lookup.next_timer() == 12
    assert lookup.silent(12, 1) == [near[0]]
    lookup.handle_timer(12)
    assert lookup.finished
    assert lookup.next_timer() is None
    assert lookup.answered(20) == near[1:]


def test_a_late_answer_still_counts():
    near = make_contacts(3)
    lookup = Lookup(TARGET, near[1:], LIMITS)
    lookup.next_calls(0)
    lookup.handle_timer(5)
    assert lookup.finished
    lookup.receive_answer(near[1].peer_id, [near[0]], 5)
    assert not lookup.finished
    assert lookup.next_calls(5) == [near[0]]


def test_failures_are_replaced_by_the_next():
    near = make_contacts(5)
    lookup = Lookup(TARGET, near, LIMITS)
    for contact in lookup.next_calls(0):
        lookup.receive_failure(contact.peer_id, 0)
    assert lookup.next_calls(0) == near[2:4]
    lookup.receive_failure(near[0].peer_id, 0)
    lookup.receive_failure(b"stranger", 0)
    lookup.receive_answer(b"stranger", near, 0)
    lookup.receive_answer(near[4].peer_id, [], 0)
    assert lookup.answered(5) == []


def test_stop_ends_it():
    near = make_contacts(5)
    lookup = Lookup(TARGET, near, LIMITS)
    lookup.next_calls(0)
    lookup.stop()
    assert lookup.finished
    assert lookup.next_calls(1) == []


def test_we_do_not_ask_ourselves():
    near = make_contacts(2)
    lookup = Lookup(TARGET, near, LIMITS, own_peer_id=near[0].peer_id)
    assert lookup.next_calls(0) == near[1:]


def test_ever_nearer_inventions_come_to_an_end():
    lookup = Lookup(TARGET, make_contacts(1, salt=1), LookupLimits(parallel=1))
    salt = 1
    while calls := lookup.next_calls(0):
        salt += 1
        lookup.receive_answer(calls[0].peer_id, make_contacts(20, salt), 0)
    assert lookup.finished
    assert lookup.calls <= MAX_CALLS


def test_calls_are_bounded(monkeypatch):
    monkeypatch.setattr("sovereign_protocols.kad.lookup.MAX_CALLS", 2)
    near = make_contacts(5)
    lookup = Lookup(TARGET, near, LIMITS)
    for contact in lookup.next_calls(0):
        lookup.receive_answer(contact.peer_id, [], 0)
    assert lookup.finished
    assert lookup.next_calls(0) == []


def test_candidates_are_bounded():
    lookup = Lookup(TARGET, make_contacts(MAX_CANDIDATES + 50), LookupLimits(parallel=MAX_CANDIDATES, width=10**6))
    assert len(lookup.next_calls(0)) == MAX_CANDIDATES


@given(st.lists(st.sampled_from(["answer", "fail", "silence"]), min_size=30, max_size=30), st.integers(1, 5))
def test_every_walk_ends_and_finds_the_living(fates, parallel):
    everyone = make_contacts(30)
    fate_of = {contact.peer_id: fate for contact, fate in zip(everyone, fates, strict=True)}
    lookup = Lookup(TARGET, everyone[20:], LookupLimits(parallel=parallel, width=20, hedge_s=0.5, patience_s=2))
    now = 0.0
    for _ in range(500):
        for contact in lookup.next_calls(now):
            if fate_of[contact.peer_id] == "answer":
                lookup.receive_answer(contact.peer_id, everyone, now)
            elif fate_of[contact.peer_id] == "fail":
                lookup.receive_failure(contact.peer_id, now)
        if lookup.finished:
            break
        timer = lookup.next_timer()
        if timer is not None:
            now = timer
            lookup.handle_timer(now)
    assert lookup.finished
    living = [contact for contact in everyone if fate_of[contact.peer_id] == "answer"]
    if any(contact.peer_id in {item.peer_id for item in everyone[20:]} for contact in living):
        assert lookup.answered(20) == living[:20]


def test_defaults_are_shared_and_frozen():
    with pytest.raises(AttributeError):
        LookupLimits().width = 3  # type: ignore[misc]
