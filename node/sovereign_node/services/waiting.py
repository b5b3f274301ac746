"""Backups that wait on this device for a provider: a durable queue, oldest first, and what to tell of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
import trio

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.services.projects import Projects
from sovereign_node.store import State
from sovereign_node.store.jobs import Job
from sovereign_node.store.projects import Project

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

QUEUE = "send"
FIRST_RETRY_S = 15
LAST_RETRY_S = 3600
# What came to wait in a way that told nobody is found by then.
LOOK_S = 60.0


@dataclass(frozen=True)
class Waiting:
    """One project whose newest backups are on this device only.

    Args:
        project: its row.
        providers: peer ids and names of those that it is meant for.
        chunks: how many of them wait.
        size_bytes: sealed bytes that wait.
        since_at: when the first of them came to wait, seconds UTC.
        attempts: how often sending was tried.
        next_try_at: earliest next try, seconds UTC.
        reason: why the last try failed, empty before the first.
    """

    project: Project
    providers: dict[str, str]
    chunks: int
    size_bytes: int
    since_at: int
    attempts: int
    next_try_at: int
    reason: str


class WaitingBackups:
    """Sends what waits as soon as a provider is there.

    Projects that wait for the same providers go one after the other, oldest first; others do not wait for them.

    Args:
        state: the queue.
        projects: whose chunks wait.
        clock: wall time.
        is_connected: whether a peer is on line; it is dialled by others, with a backoff of its own.
        next_dial_s: tells when a missing peer is dialled next, None if nobody is about to.
        is_paused: whether to wait for another network.
        jitter: gives a factor near 1, so that devices that failed together do not come back in step.
    """

    def __init__(
        self,
        state: State,
        projects: Projects,
        clock: Clock,
        *,
        is_connected: Callable[[str], bool],
        next_dial_s: Callable[[str], float | None] = lambda _peer_id: None,
        is_paused: Callable[[], bool] = lambda: False,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25),  # noqa: S311
    ) -> None:
        self._state = state
        self._projects = projects
        self._clock = clock
        self._is_connected = is_connected
        self._next_dial_s = next_dial_s
        self._is_paused = is_paused
        self._jitter = jitter
        self._busy: set[tuple[str, ...]] = set()
        self._wake = trio.Event()
        self._came: set[str] = set()
        self._retry_all = False

    def note_connected(self, peer_id: str) -> None:
        """Try at once what waits for a peer that has come."""
        self._came.add(peer_id)
        self._wake.set()

    def note_queued(self) -> None:
        """Take up what has just come to wait."""
        self._wake.set()

    def retry_now(self) -> None:
        """Try everything at once: the machine woke up, or it is in another network."""
        self._retry_all = True
        self._wake.set()

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        await trio.to_thread.run_sync(self._state.jobs.release_all)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = trio.Event()
                came, self._came = self._came, set()
                retry_all, self._retry_all = self._retry_all, False
                # As it is now: who ends while the queue is read wakes this loop again.
                due = await trio.to_thread.run_sync(self._due, frozenset(self._busy), came, retry_all)
                self._busy.update(due)
                for providers, jobs in due.items():
                    nursery.start_soon(self._send_all, providers, jobs)
                with trio.move_on_after(await trio.to_thread.run_sync(self._pause_s)):
                    await self._wake.wait()

    def all(self) -> list[Waiting]:
        """List what waits, oldest first. Blocks."""
        return [self._describe(project, job) for job, project in self._queue()]

    async def document(self) -> list[dict[str, Any]]:
        """List what waits, as the local API shows it."""
        return [
            {
                "project": item.project.name,
                "project_id": item.project.project_id.hex(),
                "chunks": item.chunks,
                "bytes": item.size_bytes,
                "waits_for": [
                    {"peer_id": peer_id, "name": name, "connected": self._is_connected(peer_id)}
                    for peer_id, name in item.providers.items()
                ],
                "since": item.since_at,
                "attempts": item.attempts,
                "next_try_at": self._next_try_at(item),
                "reason": self._reason(item.providers) or item.reason,
            }
            for item in await trio.to_thread.run_sync(self.all)
        ]

    def _describe(self, project: Project, job: Job) -> Waiting:
        usage = self._projects.waiting_usage(project)
        return Waiting(
            project=project,
            providers={peer: self._name_of(peer) for peer in sorted(self._projects.provider_ids(project))},
            chunks=usage[0],
            size_bytes=usage[1],
            since_at=job.added_at,
            attempts=job.attempts,
            next_try_at=job.not_before_at,
            reason=job.last_error or "",
        )

    def _next_try_at(self, item: Waiting) -> int | None:
        """Tell when sending is tried next: when a provider is dialled, or when the last failure is old enough."""
        if not item.providers or self._is_paused():
            return None
        now = self._clock()
        if any(map(self._is_connected, item.providers)):
            return max(now, item.next_try_at)
        dials = [wait_s for peer_id in item.providers if (wait_s := self._next_dial_s(peer_id)) is not None]
        return now + round(min(dials)) if dials else None

    def _name_of(self, peer_id: str) -> str:
        device = self._state.devices.get_by_peer_id(peer_id)
        return device.device_name if device is not None else peer_id

    def _reason(self, providers: Mapping[str, str]) -> str:
        if not providers:
            return "there is no contract with a provider"
        if self._is_paused():
            return "this network is metered"
        if not any(map(self._is_connected, providers)):
            return "off line: " + ", ".join(providers.values())
        return ""

    def _queue(self) -> list[tuple[Job, Project]]:
        """Read the queue, after bringing it in line with what waits: backups come and go without asking here."""
        projects = {project.project_id.hex(): project for project in self._state.projects.all()}
        waiting = {name: project for name, project in projects.items() if self._projects.is_waiting(project)}
        for name in waiting:
            self._state.jobs.add(QUEUE, name, "{}", at=self._clock())
        jobs = self._state.jobs.all(QUEUE)
        for job in jobs:
            if job.dedup_key not in waiting:
                self._state.jobs.finish(job.job_id)
        return [(job, waiting[job.dedup_key]) for job in jobs if job.dedup_key in waiting]

    def _due(
        self, busy: Set[tuple[str, ...]], came: Set[str], retry_all: bool
    ) -> dict[tuple[str, ...], list[tuple[Job, Project]]]:
        """Group what can be tried now by the providers that it waits for.

        Args:
            busy: groups of providers to which something is being sent.
            came: peers that have come; what waits for them is due.
            retry_all: everything is due.
        """
        now = self._clock()
        found: dict[tuple[str, ...], list[tuple[Job, Project]]] = {}
        for job, project in self._queue():
            providers = tuple(sorted(self._projects.provider_ids(project)))
            is_hastened = retry_all or not came.isdisjoint(providers)
            if is_hastened:
                self._state.jobs.hasten(job.job_id, now)
            is_due = (is_hastened or job.not_before_at <= now) and any(map(self._is_connected, providers))
            if is_due and not self._is_paused() and providers not in busy:
                found.setdefault(providers, []).append((job, project))
        return found

    def _pause_s(self) -> float:
        due = self._state.jobs.next_due_at(QUEUE)
        now = self._clock()
        return LOOK_S if due is None or due <= now else min(LOOK_S, due - now)

    async def _send_all(self, providers: tuple[str, ...], jobs: Sequence[tuple[Job, Project]]) -> None:
        try:
            for job, project in jobs:
                await self._send(job, project)
        finally:
            self._busy.discard(providers)
            self._wake.set()

    async def _send(self, job: Job, project: Project) -> None:
        reason = ""
        await trio.to_thread.run_sync(self._state.jobs.begin, job.job_id)
        try:
            sent = await self._projects.push_waiting(project)
            log.info("waiting_chunks_sent", project=project.name, chunks=sent)
        except NodeError as error:
            reason = error.message
            log.info("push_failed", project=project.name, reason=reason)
        await trio.to_thread.run_sync(self._note, job, project, reason)

    def _note(self, job: Job, project: Project, reason: str) -> None:
        if not self._projects.is_waiting(project):
            self._state.jobs.finish(job.job_id)
            return
        delay_s = min(FIRST_RETRY_S * 2 ** min(job.attempts, 10), LAST_RETRY_S) * self._jitter()
        self._state.jobs.retry(
            job.job_id,
            not_before_at=self._clock() + round(delay_s),
            error=reason or "no provider took it",
        )
