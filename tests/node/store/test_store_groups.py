"""Decisions of many threads share a commit; each is durable when it returns, and fails alone."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sovereign_node.store import open_state
from sovereign_node.store.errors import StateError


class Refused(Exception):
    """What a decision raises."""


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


def commits_of(state) -> list[str]:
    seen: list[str] = []
    state._database._writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


def hold_leader(state, others) -> None:
    """Let a decision lead, and all others come while its commit is under way."""
    leads, may_end = threading.Event(), threading.Event()

    def lead() -> None:
        leads.set()
        may_end.wait(10)

    with ThreadPoolExecutor(len(others) + 1) as pool:
        first = pool.submit(state.grouped, lead)
        assert leads.wait(10)
        waiting = [pool.submit(state.grouped, work) for work in others]
        while len(state._groups._queue) < len(others):
            leads.wait(0.001)
        may_end.set()
        first.result(10)
        for future in waiting:
            future.exception(10)


def test_those_who_wait_share_a_commit(state) -> None:
    seen = commits_of(state)
    hold_leader(state, [lambda n=n: state.meta.set(f"key{n}", str(n)) for n in range(20)])
    assert len(seen) == 2
    assert [state.meta.get(f"key{n}") for n in range(20)] == [str(n) for n in range(20)]


def test_one_that_fails_takes_nobody_with_it(state) -> None:
    def fail() -> None:
        state.meta.set("bad", "1")
        raise Refused

    errors = []

    def tell() -> None:
        try:
            state.grouped(fail)
        except Refused as error:
            errors.append(error)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(tell).result(10)
        pool.submit(state.grouped, lambda: state.meta.set("good", "1")).result(10)
    hold_leader(state, [fail, lambda: state.meta.set("other", "1")])
    assert len(errors) == 1
    assert [state.meta.get(key) for key in ("bad", "good", "other")] == [None, "1", "1"]


def test_nothing_is_seen_before_the_commit(state) -> None:
    def write() -> str | None:
        state.meta.set("key", "1")
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(state.meta.get, "key").result(10)

    assert state.grouped(write) is None
    assert state.meta.get("key") == "1"


def test_a_decision_inside_a_transaction_is_part_of_it(state) -> None:
    def fail() -> None:
        with state.transaction():
            state.grouped(lambda: state.meta.set("key", "1"))
            assert state.meta.get("key") == "1"
            raise Refused

    with pytest.raises(Refused):
        fail()
    assert state.meta.get("key") is None


def test_a_commit_that_fails_is_told_to_everybody(state, monkeypatch) -> None:
    real = state._database._run

    def run(sql: str, parameters=()) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise StateError("the disk is full")
        return real(sql, parameters)

    monkeypatch.setattr(state._database, "_run", run)
    errors = []

    def write(number: int) -> None:
        try:
            state.grouped(lambda: state.meta.set(f"key{number}", "1"))
        except StateError as error:
            errors.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert errors == ["the disk is full"] * 4
    assert [state.meta.get(f"key{number}") for number in range(4)] == [None] * 4
