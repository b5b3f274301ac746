"""Group commit: decisions that wait for the disk at the same time share one transaction, and so one fsync.

Nothing is visible, and nothing returns, before the commit that holds it: what was acknowledged survives a power
cut, as with one commit each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from sovereign_node.store.database import Database

Result = TypeVar("Result")


@dataclass
class _Decision(Generic[Result]):
    """Work of one thread, and what came of it."""

    work: Callable[[], Result]
    is_done: bool = False
    result: Result | None = None
    error: BaseException | None = None


class GroupCommit:
    """Runs decisions of many threads in shared transactions.

    The first thread that comes leads: it runs its own decision and those of all threads that came while the commit
    before was under way. There is no delay: a thread alone commits at once.

    Args:
        database: whose transactions are shared.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue_lock = threading.Lock()
        self._queue: list[_Decision[object]] = []
        self._leader = threading.Lock()

    def run(self, work: Callable[[], Result]) -> Result:
        """Run a decision; its writes are durable on return. Blocks.

        Args:
            work: reads and writes; may run in another thread, so it must not wait for one.

        Returns:
            What it returned.

        Raises:
            StateError: the commit failed; no write of it happened.
            BaseException: what the decision raised; its own writes did not happen, those of others did.
        """
        if self._database.is_in_transaction:
            # Part of a larger decision, whose commit makes it durable.
            return work()
        decision = _Decision(work)
        with self._queue_lock:
            self._queue.append(cast("_Decision[object]", decision))
        with self._leader:
            if not decision.is_done:
                self._commit_all()
        if decision.error is not None:
            raise decision.error
        return cast("Result", decision.result)

    def _commit_all(self) -> None:
        with self._queue_lock:
            group, self._queue = self._queue, []
        try:
            with self._database.transaction():
                for decision in group:
                    self._run_one(decision)
        except BaseException as error:  # noqa: BLE001 - it is raised in every thread that waits for this commit
            for decision in group:
                decision.error = decision.error or error
        for decision in group:
            decision.is_done = True

    def _run_one(self, decision: _Decision[object]) -> None:
        try:
            with self._database.transaction():
                decision.result = decision.work()
        except BaseException as error:
            decision.error = error
            if self._database.is_undone:
                # SQLite gave up the whole transaction, for example because the disk is full.
                raise
