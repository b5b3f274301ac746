"""What every chunk store must do. Subclass `ChunkStoreContract` and provide the `store` fixture."""

import hashlib
import random
import threading
from collections.abc import Iterator

import pytest

from sovereign_node.chunkstore import (
    ChunkStore,
    ContentMismatchError,
    HeadConflictError,
    PutOutcome,
    RecoveryConflictError,
    RecoveryRecord,
    TooManyRecordsError,
    UnknownContractError,
)
from sovereign_protocols.framing import Payload

CONTRACT = b"\x01" * 32
OTHER = b"\x02" * 32
LOCATOR = b"\x03" * 32
DEVICE = b"\x04" * 32


def chunk(seed: int, size: int = 5_000) -> tuple[bytes, bytes]:
    data = random.Random(seed).randbytes(size)
    return hashlib.sha256(data).digest(), data


class ChunkStoreContract:
    @pytest.fixture
    def store(self) -> Iterator[ChunkStore]:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _contracts(self, store: ChunkStore) -> None:
        store.set_quota(CONTRACT, 1_000_000)
        store.set_quota(OTHER, 1_000_000)

    def test_what_was_put_is_there(self, store: ChunkStore) -> None:
        items = [chunk(seed, 4_096 + seed) for seed in range(20)]
        assert store.put_many(CONTRACT, items) == [PutOutcome.STORED] * 20
        assert store.has(CONTRACT, [items[0][0], b"\xff" * 32, items[19][0]]) == [True, False, True]
        assert store.get(CONTRACT, items[7][0]) == items[7][1]
        assert store.get(CONTRACT, b"\xff" * 32) is None
        assert dict(store.get_many(CONTRACT, [key for key, _ in reversed(items)])) == dict(items)
        assert store.sizes(CONTRACT, [items[3][0], b"\xff" * 32]) == [4_099, None]
        assert list(store.iter_ids(CONTRACT)) == sorted(key for key, _ in items)

    def test_pieces_are_stored_as_one(self, store: ChunkStore) -> None:
        key, data = chunk(1, 10_000)
        pieces = Payload([data[:1], memoryview(data)[1:6_000], bytearray(data[6_000:])])
        assert store.put_many(CONTRACT, [(key, pieces)]) == [PutOutcome.STORED]
        assert store.get(CONTRACT, key) == data

    def test_empty_batch(self, store: ChunkStore) -> None:
        assert store.put_many(CONTRACT, []) == []
        assert store.get_many(CONTRACT, []) == []

    def test_a_wrong_id_stores_nothing_of_the_batch(self, store: ChunkStore) -> None:
        good, (key, data) = chunk(1), chunk(2)
        with pytest.raises(ContentMismatchError) as caught:
            store.put_many(CONTRACT, [good, (key, data[:-1])])
        assert caught.value.chunk_id == key
        assert store.has(CONTRACT, [good[0], key]) == [False, False]
        assert store.usage(CONTRACT).size_bytes == 0

    def test_a_repeated_put_has_no_effect(self, store: ChunkStore) -> None:
        item = chunk(1)
        assert store.put_many(CONTRACT, [item, item]) == [PutOutcome.STORED, PutOutcome.EXISTING]
        before = store.usage(CONTRACT)
        assert store.put_many(CONTRACT, [item]) == [PutOutcome.EXISTING]
        assert store.usage(CONTRACT) == before

    def test_contracts_do_not_see_each_other(self, store: ChunkStore) -> None:
        key, data = chunk(1)
        store.put_many(CONTRACT, [(key, data)])
        assert store.has(OTHER, [key]) == [False]
        assert store.get(OTHER, key) is None
        assert list(store.iter_ids(OTHER)) == []
        assert store.put_many(OTHER, [(key, data)]) == [PutOutcome.STORED]
        store.mark_deleted(OTHER, [key], 0)
        store.purge(1)
        assert store.get(CONTRACT, key) == data

    def test_an_unknown_contract_is_an_error(self, store: ChunkStore) -> None:
        unknown = b"\x09" * 32
        with pytest.raises(UnknownContractError):
            store.put_many(unknown, [chunk(1)])
        with pytest.raises(UnknownContractError):
            store.get(unknown, chunk(1)[0])
        with pytest.raises(UnknownContractError):
            store.usage(unknown)
        with pytest.raises(UnknownContractError):
            store.heads(unknown, LOCATOR)

    def test_quota_is_exact(self, store: ChunkStore) -> None:
        store.set_quota(CONTRACT, 15_000)
        items = [chunk(seed, 5_000) for seed in range(4)]
        small = chunk(99, 1)
        assert store.put_many(CONTRACT, items) == [PutOutcome.STORED] * 3 + [PutOutcome.OVER_QUOTA]
        assert store.put_many(CONTRACT, [small]) == [PutOutcome.OVER_QUOTA]
        assert store.usage(CONTRACT).free_bytes == 0
        store.set_quota(CONTRACT, 15_001)
        assert store.put_many(CONTRACT, [small]) == [PutOutcome.STORED]
        assert store.usage(CONTRACT).size_bytes == 15_001
        store.set_quota(CONTRACT, 10)
        assert store.usage(CONTRACT).free_bytes == 0
        assert store.get(CONTRACT, small[0]) == small[1]

    def test_threads_race_for_the_last_bytes(self, store: ChunkStore) -> None:
        store.set_quota(CONTRACT, 35_000)
        outcomes: list[PutOutcome] = []
        start = threading.Barrier(10)

        def put(seed: int) -> None:
            start.wait()
            outcomes.extend(store.put_many(CONTRACT, [chunk(seed, 10_000)]))

        threads = [threading.Thread(target=put, args=(seed,)) for seed in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcome.value for outcome in outcomes) == ["over quota"] * 7 + ["stored"] * 3
        assert store.usage(CONTRACT).size_bytes == 30_000

    def test_counters(self, store: ChunkStore) -> None:
        store.put_many(CONTRACT, [chunk(1, 5_000), chunk(2, 6_000)])
        store.add_sent_bytes(CONTRACT, 123)
        store.flush_counters()
        store.add_sent_bytes(CONTRACT, 1)
        store.mark_deleted(CONTRACT, [chunk(1)[0]], 10)
        usage = store.usage(CONTRACT)
        assert (usage.chunks, usage.size_bytes, usage.quota_bytes) == (2, 11_000, 1_000_000)
        assert (usage.marked_chunks, usage.marked_bytes) == (1, 5_000)
        assert (usage.received_bytes, usage.sent_bytes) == (11_000, 124)
        statistics = store.statistics()
        assert (statistics.contracts, statistics.chunks, statistics.size_bytes) == (2, 2, 11_000)
        assert store.contracts() == [CONTRACT, OTHER]

    def test_deletion_waits_for_its_grace(self, store: ChunkStore) -> None:
        items = [chunk(seed) for seed in range(3)]
        ids = [key for key, _ in items]
        store.put_many(CONTRACT, items)
        assert store.mark_deleted(CONTRACT, [*ids[:2], b"\xff" * 32], 1_000) == 2
        assert store.mark_deleted(CONTRACT, ids[:1], 1) == 0
        assert store.has(CONTRACT, ids) == [False, False, True]
        assert store.get(CONTRACT, ids[0]) == items[0][1]
        assert list(store.iter_ids(CONTRACT)) == [ids[2]]
        assert store.purge(999).chunks == 0
        assert store.undelete(CONTRACT, ids) == 2
        assert store.has(CONTRACT, ids) == [True] * 3
        store.mark_deleted(CONTRACT, ids[:1], 1_000)
        report = store.purge(1_000)
        assert (report.chunks, report.size_bytes) == (1, 5_000)
        assert store.get(CONTRACT, ids[0]) is None
        assert store.usage(CONTRACT).size_bytes == 10_000
        assert store.usage(CONTRACT).marked_chunks == 0

    def test_purge_in_steps(self, store: ChunkStore) -> None:
        items = [chunk(seed) for seed in range(5)]
        store.put_many(CONTRACT, items)
        store.mark_deleted(CONTRACT, [key for key, _ in items], 5)
        assert [store.purge(9, limit=2).chunks for _ in range(4)] == [2, 2, 1, 0]

    def test_putting_a_marked_chunk_revives_it(self, store: ChunkStore) -> None:
        item = chunk(1)
        store.put_many(CONTRACT, [item])
        store.mark_deleted(CONTRACT, [item[0]], 10)
        assert store.put_many(CONTRACT, [item]) == [PutOutcome.EXISTING]
        assert store.has(CONTRACT, [item[0]]) == [True]
        assert store.purge(11).chunks == 0
        assert store.usage(CONTRACT).marked_bytes == 0

    def test_iteration_continues_behind_an_id(self, store: ChunkStore) -> None:
        items = sorted(chunk(seed) for seed in range(9))
        store.put_many(CONTRACT, items)
        assert list(store.iter_ids(CONTRACT, after=items[4][0])) == [key for key, _ in items[5:]]

    def test_scrub_of_sound_chunks(self, store: ChunkStore) -> None:
        store.put_many(CONTRACT, [chunk(seed) for seed in range(5)])
        report = store.scrub()
        assert (report.checked, report.checked_bytes, report.corrupt, report.cursor) == (5, 25_000, (), None)
        assert store.quarantined(CONTRACT) == []

    def test_export_names_files_by_their_hash(self, store: ChunkStore, tmp_path) -> None:
        items = dict(chunk(seed) for seed in range(5))
        store.put_many(CONTRACT, list(items.items()))
        store.put_many(OTHER, [chunk(77)])
        target = tmp_path / "out"
        assert store.export(CONTRACT, target) == 5
        exported = {path.name: path.read_bytes() for path in target.iterdir()}
        assert exported == {key.hex(): data for key, data in items.items()}

    def test_dropping_a_contract(self, store: ChunkStore) -> None:
        store.put_many(CONTRACT, [chunk(1), chunk(2)])
        store.mark_deleted(CONTRACT, [chunk(1)[0]], 5)
        store.set_head(CONTRACT, LOCATOR, DEVICE, b"head", None)
        store.set_recovery(RecoveryRecord(CONTRACT, LOCATOR, 1, b"key", b"sealed"))
        store.put_many(OTHER, [chunk(1)])
        report = store.drop_contract(CONTRACT)
        assert (report.chunks, report.size_bytes) == (2, 10_000)
        assert store.contracts() == [OTHER]
        assert store.recovery(LOCATOR) == []
        assert store.get(OTHER, chunk(1)[0]) == chunk(1)[1]
        store.set_quota(CONTRACT, 100_000)
        assert store.usage(CONTRACT).chunks == 0
        assert store.heads(CONTRACT, LOCATOR) == []

    def test_heads_compare_and_swap(self, store: ChunkStore) -> None:
        first, second = b"first", b"second"
        assert store.heads(CONTRACT, LOCATOR) == []
        with pytest.raises(HeadConflictError) as caught:
            store.set_head(CONTRACT, LOCATOR, DEVICE, first, b"\x00" * 32)
        assert caught.value.current_hash is None
        store.set_head(CONTRACT, LOCATOR, DEVICE, first, None)
        store.set_head(CONTRACT, LOCATOR, DEVICE, first, None)
        with pytest.raises(HeadConflictError) as caught:
            store.set_head(CONTRACT, LOCATOR, DEVICE, second, None)
        assert caught.value.current_hash == hashlib.sha256(first).digest()
        store.set_head(CONTRACT, LOCATOR, DEVICE, second, hashlib.sha256(first).digest())
        store.set_head(CONTRACT, LOCATOR, b"\x05" * 32, b"other device", None)
        store.set_head(CONTRACT, b"\x06" * 32, DEVICE, b"other place", None)
        assert store.heads(CONTRACT, LOCATOR) == [(DEVICE, second), (b"\x05" * 32, b"other device")]
        assert store.heads(OTHER, LOCATOR) == []

    @pytest.mark.parametrize("head", [b"", bytes(65_537)])
    def test_heads_have_a_size(self, store: ChunkStore, head: bytes) -> None:
        with pytest.raises(ValueError):
            store.set_head(CONTRACT, LOCATOR, DEVICE, head, None)

    def test_heads_are_limited_in_number(self, store: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("records", "memory"):
            monkeypatch.setattr(f"sovereign_node.chunkstore.{module}.MAX_HEADS_PER_CONTRACT", 2)
        for number in range(2):
            store.set_head(CONTRACT, LOCATOR, bytes([number]) * 32, b"head", None)
        with pytest.raises(TooManyRecordsError):
            store.set_head(CONTRACT, LOCATOR, DEVICE, b"head", None)
        store.set_head(CONTRACT, LOCATOR, bytes(32), b"new", hashlib.sha256(b"head").digest())

    def test_recovery_records(self, store: ChunkStore) -> None:
        old = RecoveryRecord(CONTRACT, LOCATOR, 1, b"announce", b"sealed 1")
        new = RecoveryRecord(CONTRACT, LOCATOR, 2, b"announce 2", b"sealed 2")
        foreign = RecoveryRecord(OTHER, LOCATOR, 9, b"", b"bogus")
        assert store.recovery(LOCATOR) == []
        store.set_recovery(old)
        store.set_recovery(old)
        store.set_recovery(new)
        for record in (old, RecoveryRecord(CONTRACT, LOCATOR, 2, b"", b"another")):
            with pytest.raises(RecoveryConflictError) as caught:
                store.set_recovery(record)
            assert caught.value.revision == 2
        store.set_recovery(foreign)
        assert store.recovery(LOCATOR) == [foreign, new]
        assert store.announce_keys() == {b"", b"announce 2"}

    def test_recovery_records_are_limited(self, store: ChunkStore) -> None:
        for number in range(8):
            store.set_quota(bytes([number]) * 32, 0)
            store.set_recovery(RecoveryRecord(bytes([number]) * 32, LOCATOR, 1, b"", b"x"))
        store.set_quota(b"\x09" * 32, 0)
        with pytest.raises(TooManyRecordsError):
            store.set_recovery(RecoveryRecord(b"\x09" * 32, LOCATOR, 1, b"", b"x"))
        for number in range(4):
            store.set_recovery(RecoveryRecord(b"\x09" * 32, bytes([100 + number]) * 32, 1, b"", b"x"))
        with pytest.raises(TooManyRecordsError):
            store.set_recovery(RecoveryRecord(b"\x09" * 32, b"\xff" * 32, 1, b"", b"x"))
        with pytest.raises(ValueError):
            store.set_recovery(RecoveryRecord(b"\x09" * 32, b"\xff" * 32, 1, b"", bytes(4 * 1024**2 + 1)))

    def test_identity_logs_only_grow(self, store: ChunkStore) -> None:
        identity = b"\x07" * 32
        assert store.identity_log(identity) == []
        assert store.set_identity_log(identity, [b"one", b""], extends=lambda stored: stored == [])
        assert not store.set_identity_log(identity, [b"two"], extends=lambda stored: len(stored) < 2)
        assert store.identity_log(identity) == [b"one", b""]
