"""uptime_windows, maintenance_notices, placed_chunks and audits."""

import dataclasses

import pytest

from sovereign_node.store import State, open_state
from sovereign_node.store.audits import AuditRecord
from sovereign_node.store.contracts import Contract
from sovereign_node.store.errors import StateConflictError
from sovereign_node.store.metrics import Metric
from sovereign_node.store.uptime import Appointment, MaintenanceNotice


def ident(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        opened.contracts.save(
            Contract(ident(1), "customer", "active", *map(ident, (2, 3, 4, 5)), 5, 2, 1, 100, 200, 50, 10, 100)
        )
        yield opened


def test_a_window_is_good_if_any_observer_had_an_answer(state: State) -> None:
    provider, first, second = ident(3), ident(10), ident(11)
    state.uptime.observe(provider, first, 5, is_good=False)
    state.uptime.observe(provider, first, 6, is_good=False)
    state.uptime.observe(provider, second, 5, is_good=True, receipt=b"signed")
    assert state.uptime.windows(provider, 5, 7) == {5: True, 6: False}
    assert state.uptime.windows(provider, 5, 7, observers=frozenset({first})) == {5: False, 6: False}
    assert state.uptime.windows(provider, 7, 9) == {}
    assert state.uptime.receipts(provider, 0, 10) == [b"signed"]


def test_a_good_window_stays_good(state: State) -> None:
    state.uptime.observe_many(ident(3), ident(10), {1: True, 2: False})
    state.uptime.observe_many(ident(3), ident(10), {1: False, 2: True})
    assert state.uptime.windows(ident(3), 0, 9) == {1: True, 2: True}
    with pytest.raises(StateConflictError, match="stays"):
        state._database.execute("UPDATE uptime_windows SET is_good = 0")
    assert state.uptime.thin(2) == 1
    assert state.uptime.windows(ident(3), 0, 9) == {2: True}


def test_notices_are_kept_once(state: State) -> None:
    notice = MaintenanceNotice(ident(20), ident(3), ident(1), 1000, 1600, b"signed")
    assert state.uptime.add_notice(notice, at=900)
    assert not state.uptime.add_notice(notice, at=901)
    assert state.uptime.notices(ident(1)) == [notice]
    assert state.uptime.notices(ident(1), after_at=1600) == []


def test_placed_chunks_are_drawn_by_position_and_age(state: State) -> None:
    placed = state.placed_chunks
    placed.add(ident(1), ident(7), [(ident(n), 4096 * n) for n in (30, 31, 32)], at=500)
    placed.add(ident(1), ident(7), [(ident(30), 1)], at=900)
    assert placed.count(ident(1)) == 3
    assert placed.ids(ident(1), ident(7)) == {ident(30), ident(31), ident(32)}
    first = placed.at(ident(1), 0)
    assert (first.chunk_id, first.size_bytes, first.placed_at, first.leaf_root) == (ident(30), 4096 * 30, 500, b"")
    assert placed.at(ident(1), 3) is None
    placed.note_pass(ident(1), ident(30), at=600, leaf_root=ident(9))
    placed.note_pass(ident(1), ident(30), at=550)
    assert placed.at(ident(1), 0) == dataclasses.replace(first, passed_at=600, leaf_root=ident(9))
    assert [item.chunk_id for item in placed.longest_unproven(ident(1), 5, before_at=601)][-1] == ident(30)
    assert len(placed.longest_unproven(ident(1), 5, before_at=600)) == 2
    placed.drop(ident(1), [ident(31)])
    assert placed.count(ident(1)) == 2


def test_samples_count_from_the_last_failure(state: State) -> None:
    record = AuditRecord(ident(1), ident(3), ident(30), "hash", "passed", True, 4096, 100, 500, 600)
    for number, outcome in enumerate(["passed", "failed", "passed", "no_answer", "passed"]):
        state.audits.add(dataclasses.replace(record, outcome=outcome, audited_at=600 + number, verdict=b"v"))
    state.audits.add(dataclasses.replace(record, is_sample=False, audited_at=610))
    count = state.audits.count(ident(1))
    assert (count.passed, count.failed, count.unanswered, count.samples) == (4, 1, 1, 2)
    assert (count.newest_at, count.moved_bytes) == (610, 600)
    assert state.audits.count(ident(1), since_at=604).passed == 2
    assert state.audits.count(ident(2)).newest_at == 0
    assert [item.outcome for item in state.audits.records(ident(1), outcome="failed")] == ["failed"]
    assert len(state.audits.records(ident(1), chunk_id=ident(31))) == 0
    with pytest.raises(StateConflictError, match="what was answered"):
        state._database.execute("UPDATE audits SET outcome = 'passed'")
    assert state.audits.thin(611) == 4
    assert [item.outcome for item in state.audits.records(ident(1))] == ["no_answer", "failed"]


def test_windows_stay_beside_the_other_counters(state: State) -> None:
    state.metrics.note_windows(ident(1), good=5, observed=6, at=600)
    state.metrics.record(Metric(ident(1), 700, 5000, 2, bytes_in=7, byte_seconds=9))
    newest = state.metrics.newest(ident(1))
    assert (newest.stored_bytes, newest.windows_good, newest.windows_observed) == (5000, 5, 6)
    state.metrics.note_windows(ident(1), good=6, observed=7, at=650)
    newest = state.metrics.newest(ident(1))
    assert (newest.measured_at, newest.bytes_in, newest.byte_seconds, newest.windows_good) == (700, 7, 9, 6)
    state.metrics.note_windows(ident(1), good=6, observed=7, at=800)
    assert state.metrics.newest(ident(1)).measured_at == 700


def test_an_appointment_is_replaced_by_a_newer_revision_only(state: State) -> None:
    first = Appointment(ident(1), 1, *map(ident, (4, 2, 3)), 200, b"c", b"p")
    state.uptime.appoint(first, at=100)
    state.uptime.appoint(dataclasses.replace(first, revision=0, ends_at=999), at=101)
    assert state.uptime.appointments(after_at=199) == [first]
    assert state.uptime.appointments(after_at=200) == []
    newer = dataclasses.replace(first, revision=2, ends_at=300)
    state.uptime.appoint(newer, at=102)
    assert state.uptime.appointments(after_at=0) == [newer]
