"""What waits for a provider goes out oldest first, survives a restart, and says why it waits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from sovereign_node.errors import NodeError
from sovereign_node.services.waiting import FIRST_RETRY_S, QUEUE, WaitingBackups
from sovereign_node.services.waiting_words import waiting_text
from sovereign_node.store import State, open_state
from sovereign_node.store.projects import Project

DISK, NAS = "12D3KooWdisk", "12D3KooWnas"


class Projects:
    """Projects that wait, and a provider that can be told to refuse."""

    def __init__(self, providers: dict[str, set[str]]) -> None:
        self.providers = providers
        self.waiting: set[str] = set()
        self.sent: list[str] = []
        self.refusal = ""
        self.gate: dict[str, trio.Event] = {}

    def provider_ids(self, project: Project) -> set[str]:
        return self.providers[project.name]

    def is_waiting(self, project: Project) -> bool:
        return project.name in self.waiting

    def waiting_usage(self, project: Project) -> tuple[int, int]:
        return (3, 12_000_000) if project.name in self.waiting else (0, 0)

    async def push_waiting(self, project: Project) -> int:
        self.sent.append(project.name)
        if project.name in self.gate:
            await self.gate[project.name].wait()
        if self.refusal:
            raise NodeError("push_failed", self.refusal, "")
        self.waiting.discard(project.name)
        return 3


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = open_state(tmp_path / "state.sqlite")
    # The names are in another order than the ids, and than the queue will be.
    for number, name in enumerate(("films", "letters", "photos")):
        state.projects.save(Project(bytes([9 - number]) * 32, name, (f"/{name}",), b"keys", added_at=1))
    yield state
    state.close()


class Rig:
    """A queue over a state, with a clock to turn and peers to switch."""

    def __init__(self, state: State, projects: Projects) -> None:
        self.now = 1000
        self.online: set[str] = set()
        self.paused = False
        self.projects = projects
        self.queue = WaitingBackups(
            state,
            projects,  # type: ignore[arg-type]
            lambda: self.now,
            is_connected=lambda peer_id: peer_id in self.online,
            next_dial_s=lambda _peer_id: 30.0,
            is_paused=lambda: self.paused,
            jitter=lambda: 1.0,
        )

    def come(self, peer_id: str) -> None:
        self.online.add(peer_id)
        self.queue.note_connected(peer_id)

    async def queued(self, *names: str) -> None:
        """Let projects come to wait one after the other."""
        for name in names:
            self.projects.waiting.add(name)
            await trio.to_thread.run_sync(self.queue.all)
            self.now += 100


async def until(condition) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.005)


def one_provider() -> Projects:
    return Projects({name: {DISK} for name in ("films", "letters", "photos")})


async def test_oldest_first_also_after_a_restart(state: State, nursery: trio.Nursery) -> None:
    projects = one_provider()
    before = Rig(state, projects)
    await before.queued("photos", "films")
    # The process was killed in the middle of a try.
    state.jobs.take(QUEUE, at=5000, limit=1)
    after = Rig(state, projects)
    after.now = 7000
    await nursery.start(after.queue.run)
    await after.queued("letters")
    assert projects.sent == []
    after.come(DISK)
    await until(lambda: not projects.waiting)
    assert projects.sent == ["photos", "films", "letters"]
    await until(lambda: state.jobs.all(QUEUE) == [])


async def test_a_failure_is_kept_with_its_reason_and_tried_later(state: State, nursery: trio.Nursery) -> None:
    projects = one_provider()
    rig = Rig(state, projects)
    await rig.queued("photos")
    projects.refusal = "its disk is full"
    # Before the queue runs: between two of its looks, a peer may be found there and come as well, for two tries.
    rig.come(DISK)
    await nursery.start(rig.queue.run)
    await until(lambda: rig.queue.all()[0].reason)
    (item,) = await rig.queue.document()
    assert (item["project"], item["chunks"], item["bytes"], item["attempts"]) == ("photos", 3, 12_000_000, 1)
    assert (item["since"], item["reason"]) == (1000, "its disk is full")
    assert item["next_try_at"] == rig.now + FIRST_RETRY_S
    assert item["waits_for"] == [{"peer_id": DISK, "name": DISK, "connected": True}]
    # Not before its time, but at once when the provider comes anew or the network is another one.
    rig.queue.note_queued()
    await trio.sleep(0.05)
    assert len(projects.sent) == 1
    rig.come(DISK)
    await until(lambda: len(projects.sent) == 2)
    await until(lambda: rig.queue.all()[0].next_try_at == rig.now + 2 * FIRST_RETRY_S)
    projects.refusal = ""
    rig.queue.retry_now()
    await until(lambda: not projects.waiting)


async def test_a_slow_provider_holds_up_no_other(state: State, nursery: trio.Nursery) -> None:
    projects = Projects({"films": {DISK}, "letters": {NAS}, "photos": {DISK}})
    projects.gate["films"] = trio.Event()
    rig = Rig(state, projects)
    await rig.queued("films", "photos", "letters")
    await nursery.start(rig.queue.run)
    rig.come(DISK)
    await until(lambda: projects.sent == ["films"])
    rig.come(NAS)
    await until(lambda: projects.sent == ["films", "letters"])
    projects.gate["films"].set()
    await until(lambda: projects.sent == ["films", "letters", "photos"])


async def test_on_a_metered_network_it_waits(state: State, nursery: trio.Nursery) -> None:
    projects = one_provider()
    rig = Rig(state, projects)
    rig.paused = True
    await rig.queued("photos")
    await nursery.start(rig.queue.run)
    rig.come(DISK)
    await trio.sleep(0.05)
    assert projects.sent == []
    (item,) = await rig.queue.document()
    assert (item["reason"], item["next_try_at"]) == ("this network is metered", None)
    rig.paused = False
    rig.queue.retry_now()
    await until(lambda: projects.sent == ["photos"])


async def test_it_says_for_whom_it_waits(state: State) -> None:
    projects = one_provider()
    rig = Rig(state, projects)
    await rig.queued("photos")
    text = waiting_text((await rig.queue.document())[0], rig.now)
    assert text == (
        f"photos: 3 chunks (12.0 MB) on this device only, for {DISK}, since 2 min ago; off line: {DISK};"
        " next try in 30 s"
    )
    projects.providers["photos"] = set()
    assert "there is no contract with a provider" in waiting_text((await rig.queue.document())[0], rig.now)


async def test_what_a_command_has_sent_leaves_the_queue(state: State) -> None:
    projects = one_provider()
    rig = Rig(state, projects)
    await rig.queued("photos", "films")
    projects.waiting.discard("photos")
    assert [item["project"] for item in await rig.queue.document()] == ["films"]
    assert len(state.jobs.all(QUEUE)) == 1


async def test_what_is_no_longer_protected_leaves_the_queue(state: State, nursery: trio.Nursery) -> None:
    projects = one_provider()
    rig = Rig(state, projects)
    await rig.queued("photos")
    state.projects.remove(bytes([7]) * 32, 2000)
    await nursery.start(rig.queue.run)
    await until(lambda: state.jobs.all(QUEUE) == [])
    assert projects.sent == []


def test_a_backup_without_chunks_is_a_backup() -> None:
    item = {"project": "a", "chunks": 0, "bytes": 0, "waits_for": [], "since": 0, "reason": "", "next_try_at": 5}
    assert "a backup on this device only, for a provider" in waiting_text(item, 10)
    assert "being sent" in waiting_text(item, 10)
