"""Batches of several threads: stored together, each with its own outcome."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from chunk_store_scenario import CONTRACT, QUOTA, CountingFiles, chunk

from sovereign_node.chunkstore import LogChunkStore, PutOutcome, StoreFullError, UnknownContractError
from sovereign_node.chunkstore.batches import MAX_GROUP_BYTES, Batch, BatchQueue
from sovereign_protocols.framing import Payload

OTHER = b"\x02" * 32


class Gate(CountingFiles):
    """Holds the first sync of a segment until it is opened, and can fail all later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.fail_large = False

    def sync(self, descriptor: int) -> None:
        self.reached.set()
        assert self.opened.wait(30)
        super().sync(descriptor)

    def disk_space(self, path: Path) -> tuple[int, int]:
        return (10**12, 12_000 if self.fail_large and self.opened.is_set() else 10**11)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def store(tmp_path: Path, gate: Gate) -> Iterator[LogChunkStore]:
    store = LogChunkStore(tmp_path, reserve_bytes=0, files=gate)
    store.set_quota(CONTRACT, QUOTA)
    store.set_quota(OTHER, QUOTA)
    yield store
    store.close()


def put_behind(
    store: LogChunkStore, gate: Gate, batches: list[tuple[bytes, list[int]]]
) -> list["Future[list[PutOutcome]]"]:
    """Put batches from a thread each while the disk is held up by one before them; returns once all are done."""
    with ThreadPoolExecutor(len(batches) + 1) as pool:
        first = pool.submit(store.put_many, CONTRACT, [chunk(99)])
        assert gate.reached.wait(30)
        queued = []
        for number, (contract_id, seeds) in enumerate(batches, 1):
            queued.append(pool.submit(store.put_many, contract_id, [chunk(seed) for seed in seeds]))
            while len(store._batches._waiting) < number:
                threading.Event().wait(0.001)
        gate.names.clear()
        gate.opened.set()
        first.result()
    return queued


def test_what_waits_is_stored_with_one_sync_and_one_commit(store: LogChunkStore, gate: Gate) -> None:
    done = put_behind(store, gate, [(CONTRACT, [1, 2]), (OTHER, [1]), (CONTRACT, [2, 3]), (OTHER, [4])])
    stored, existing = PutOutcome.STORED, PutOutcome.EXISTING
    assert [future.result() for future in done] == [[stored, stored], [stored], [existing, stored], [stored]]
    # The first batch's own, and one of each for the four behind it.
    assert (gate.names.count("sync"), gate.names.count("commit")) == (2, 2)
    assert (store.usage(CONTRACT).chunks, store.usage(OTHER).chunks) == (4, 2)
    assert all(store.get(CONTRACT, chunk(seed)[0]) == chunk(seed)[1] for seed in (1, 2, 3, 99))
    assert all(store.get(OTHER, chunk(seed)[0]) == chunk(seed)[1] for seed in (1, 4))


def test_a_batch_that_fails_takes_no_other_with_it(store: LogChunkStore, gate: Gate) -> None:
    gate.fail_large = True
    done = put_behind(store, gate, [(CONTRACT, [1]), (CONTRACT, [2, 3, 4]), (OTHER, [5, 6])])
    assert done[0].result() == [PutOutcome.STORED]
    with pytest.raises(StoreFullError):
        done[1].result()
    assert done[2].result() == [PutOutcome.STORED] * 2
    assert store.has(CONTRACT, [chunk(seed)[0] for seed in (1, 2, 3, 4)]) == [True, False, False, False]


def test_an_unknown_contract_is_only_its_own_callers_error(store: LogChunkStore, gate: Gate) -> None:
    gate.opened.set()
    with pytest.raises(UnknownContractError):
        store._batches.put(Batch(b"?" * 32, [(chunk(1)[0], Payload([chunk(1)[1]]))]))
    assert store.put_many(CONTRACT, [chunk(1)]) == [PutOutcome.STORED]


def test_groups_are_bounded() -> None:
    groups: list[int] = []
    queue = BatchQueue(threading.RLock(), lambda group: groups.append(len(group)))
    half = Payload([bytes(MAX_GROUP_BYTES // 2)])
    waiting = [Batch(CONTRACT, [(bytes(32), half)]) for _ in range(4)]
    queue._waiting.extend(waiting)
    queue.put(Batch(CONTRACT, [(bytes(32), half)]))
    assert groups == [2, 2, 1]
    assert all(batch.is_done for batch in waiting)
