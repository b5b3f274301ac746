"""Every aggregate: what is saved comes back, and the rules of each table hold."""

import dataclasses

import pytest

from sovereign_node.store import (
    Collaborator,
    ContentEntry,
    Contract,
    ContractStatement,
    Device,
    DhtRecord,
    Evidence,
    HeadVerdict,
    IdentityLogEntry,
    Metric,
    Project,
    SeenHead,
    SnapshotRow,
    State,
    StateConflictError,
    open_state,
)


def ident(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


DEVICE = Device(
    device_id=ident(1),
    device_name="Studio",
    device_type="server",
    peer_id="12D3KooWStudio",
    added_at=100,
    roles=("server", "provider"),
    identity=ident(9),
    addresses=("/ip4/192.0.2.1/tcp/4001",),
    capabilities=7,
    certificate=b"certificate",
    is_online=True,
    last_seen=150,
)


def test_devices_round_trip(state: State) -> None:
    state.devices.save(DEVICE)
    assert state.devices.get(ident(1)) == DEVICE
    assert state.devices.get_by_peer_id("12D3KooWStudio") == DEVICE
    assert state.devices.get(ident(2)) is None
    assert state.devices.get_by_peer_id("unknown") is None


def test_devices_are_found_by_name_id_and_peer_id(state: State) -> None:
    laptop = dataclasses.replace(DEVICE, device_id=b"\xab" * 32, device_name="Laptop", peer_id="12D3KooWLaptop")
    state.devices.save(DEVICE)
    state.devices.save(laptop)
    assert state.devices.find("Laptop") == [laptop]
    assert state.devices.find("ABAB") == [laptop]
    assert state.devices.find("12D3KooWL") == [laptop]
    assert state.devices.find("12D3KooW") == [laptop, DEVICE]
    assert state.devices.find("") == []
    assert state.devices.find("nobody") == []


def test_a_revocation_is_never_undone(state: State) -> None:
    state.devices.save(DEVICE)
    assert state.devices.revoke(ident(1), 200)
    assert state.devices.revoke(ident(1), 300)
    state.devices.save(dataclasses.replace(DEVICE, device_name="Renamed", added_at=999))
    device = state.devices.get(ident(1))
    assert (device.revoked_at, device.device_name, device.added_at) == (200, "Renamed", 100)
    assert state.devices.all(identity=ident(9), include_revoked=False) == []
    assert len(state.devices.all(identity=ident(9))) == 1
    assert state.devices.all(identity=ident(8)) == []
    assert not state.devices.revoke(ident(5), 1)


def test_presence(state: State) -> None:
    state.devices.save(DEVICE)
    assert state.devices.set_online(ident(1), online=False, at=140)
    assert (state.devices.get(ident(1)).is_online, state.devices.get(ident(1)).last_seen) == (False, 150)
    state.devices.set_online(ident(1), online=True, at=160)
    assert state.devices.get(ident(1)).last_seen == 160
    state.devices.set_all_offline()
    assert not state.devices.get(ident(1)).is_online
    assert not state.devices.set_online(ident(2), online=True, at=1)
    assert state.devices.set_addresses(ident(1), ["/ip6/::1/tcp/1"])
    assert state.devices.get(ident(1)).addresses == ("/ip6/::1/tcp/1",)


def test_updates_move_the_timestamp(state: State) -> None:
    state.devices.save(DEVICE)
    state._database.execute("UPDATE device_registry SET updated_at = 5, created_at = 5")
    state.devices.set_online(ident(1), online=False, at=1)
    row = state._database.query("SELECT created_at, updated_at FROM device_registry")[0]
    assert row["created_at"] == 5
    assert row["updated_at"] > 1_500_000_000


CONTRACT = Contract(
    contract_id=ident(1),
    role="provider",
    state="active",
    provider_identity=ident(2),
    provider_device=ident(3),
    customer_identity=ident(4),
    customer_device=ident(5),
    capacity_bytes=5 * 10**9,
    price_micro_vibe_per_gb_month=2_000_000,
    price_micro_vibe_per_gb_transfer=500_000,
    started_at=100,
    ends_at=200,
    period_s=50,
    grace_s=10,
    state_changed_at=100,
)


def test_contracts_round_trip(state: State) -> None:
    statement = ContractStatement(ident(7), ident(1), 0x21, ident(5), 0, b"signed", 100)
    state.contracts.save(CONTRACT, [statement, statement])
    assert state.contracts.get(ident(1)) == CONTRACT
    assert state.contracts.statements(ident(1)) == [statement]
    assert not state.contracts.add_statement(statement)
    assert state.contracts.get(ident(2)) is None
    assert state.contracts.find("00") == [CONTRACT]
    assert state.contracts.find("xyz") == []
    row = state._database.query("SELECT storage_gb FROM storage_contracts")[0]
    assert row["storage_gb"] == 5.0


def test_new_terms_keep_the_counters(state: State) -> None:
    state.contracts.save(CONTRACT)
    assert state.contracts.set_stored(ident(1), stored_bytes=77, stored_chunks=2)
    assert state.contracts.set_stored(ident(1), stored_bytes=77, stored_chunks=2)
    state.contracts.save(dataclasses.replace(CONTRACT, capacity_bytes=9, revision=1))
    contract = state.contracts.get(ident(1))
    assert (contract.stored_bytes, contract.stored_chunks, contract.capacity_bytes) == (77, 2, 9)
    assert not state.contracts.set_stored(ident(9), stored_bytes=1, stored_chunks=1)


def test_contracts_are_listed_by_role_state_and_customer(state: State) -> None:
    state.contracts.save(CONTRACT)
    state.contracts.save(dataclasses.replace(CONTRACT, contract_id=ident(2), role="customer"))
    state.contracts.set_state(ident(2), "closed", 150)
    assert [c.contract_id for c in state.contracts.all()] == [ident(1), ident(2)]
    assert [c.contract_id for c in state.contracts.all(role="customer")] == [ident(2)]
    assert [c.contract_id for c in state.contracts.all(states=["active", "limited"])] == [ident(1)]
    assert state.contracts.all(customer_identity=ident(8)) == []
    assert state.contracts.committed_bytes() == 5 * 10**9
    assert not state.contracts.set_state(ident(9), "closed", 1)


def test_an_unknown_state_is_refused(state: State) -> None:
    with pytest.raises(StateConflictError):
        state.contracts.save(dataclasses.replace(CONTRACT, state="dreaming"))


def test_signed_messages_never_change(state: State) -> None:
    state.contracts.save(CONTRACT, [ContractStatement(ident(7), ident(1), 0x21, ident(5), 0, b"signed", 100)])
    with pytest.raises(StateConflictError, match="what was signed"):
        state._database.execute("UPDATE contract_statements SET raw = x'00'")


def test_metrics_hold_byte_seconds_beyond_64_bits(state: State) -> None:
    state.contracts.save(CONTRACT)
    metric = Metric(ident(1), 100, 5, 1, bytes_in=6, bytes_out=7, byte_seconds=2**80 + 1, windows_good=3)
    state.metrics.record(dataclasses.replace(metric, byte_seconds=0))
    state.metrics.record(metric)
    assert state.metrics.newest(ident(1)) == metric
    assert state.metrics.newest(ident(2)) is None
    assert state.metrics.history(ident(1), since_at=101) == []


def test_old_metrics_are_thinned_to_one_per_step(state: State) -> None:
    state.contracts.save(CONTRACT)
    for at in range(0, 1000, 10):
        state.metrics.record(Metric(ident(1), at, at, 1))
    assert state.metrics.thin(500, 100) == 45
    times = [metric.measured_at for metric in state.metrics.history(ident(1))]
    assert times == [90, 190, 290, 390, 490, *range(500, 1000, 10)]
    assert state.metrics.thin(500, 100) == 0


PROJECT = Project(ident(1), "Photos", ("/home/x/Photos",), b"sealed", 100, copies=2, placement=("12D3KooWa",))


def test_projects_round_trip(state: State) -> None:
    state.projects.save(PROJECT)
    assert state.projects.get(ident(1)) == PROJECT
    assert state.projects.find("Photos") == [PROJECT]
    assert state.projects.find("0000") == [PROJECT]
    assert state.projects.get(ident(2)) is None
    assert state.projects.set_last_backup(ident(1), 500)
    assert state.projects.get(ident(1)).last_backup_at == 500
    assert not state.projects.set_last_backup(ident(2), 500)


def test_a_name_is_free_again_after_removal(state: State) -> None:
    state.projects.save(PROJECT)
    second = dataclasses.replace(PROJECT, project_id=ident(2))
    with pytest.raises(StateConflictError):
        state.projects.save(second)
    assert state.projects.remove(ident(1), 200)
    assert not state.projects.remove(ident(1), 200)
    state.projects.save(second)
    assert state.projects.all() == [second]
    assert len(state.projects.all(include_removed=True)) == 2
    assert state.projects.find("0000") == [second]


def test_collaborators(state: State) -> None:
    state.projects.save(PROJECT)
    editor = Collaborator(ident(1), ident(5), "editor", 100)
    state.collaborators.save(editor)
    state.collaborators.save(dataclasses.replace(editor, role="viewer"))
    assert [c.role for c in state.collaborators.all(ident(1))] == ["viewer"]
    assert state.collaborators.remove(ident(1), ident(5), 200)
    assert not state.collaborators.remove(ident(1), ident(5), 200)
    assert state.collaborators.all(ident(1)) == []
    assert state.collaborators.all(ident(1), include_removed=True)[0].removed_at == 200
    with pytest.raises(StateConflictError):
        state.collaborators.save(dataclasses.replace(editor, project_id=ident(3)))
    with pytest.raises(StateConflictError):
        state.collaborators.save(dataclasses.replace(editor, role="king"))


def entry(path: str, size: int = 1, **changes) -> ContentEntry:
    values = ContentEntry(ident(1), ident(2), path, "file", size, 100, ident(3))
    return dataclasses.replace(values, **changes)


def test_the_content_index_becomes_exactly_what_was_given(state: State) -> None:
    state.projects.save(PROJECT)
    state.content.replace(ident(1), ident(2), [entry("a"), entry("b"), entry("c", kind="dir")])
    changed = entry("b", 2, snapshot_id=ident(4))
    unchanged = entry("a", snapshot_id=ident(4))
    state.content.replace(ident(1), ident(2), [unchanged, changed])
    found = state.content.entries(ident(1))
    assert found == [entry("a"), changed]


def test_the_content_index_of_other_devices_stays(state: State) -> None:
    state.projects.save(PROJECT)
    state.content.replace(ident(1), ident(2), [entry("a")])
    state.content.replace(ident(1), ident(8), [entry("a", device_id=ident(8))])
    state.content.replace(ident(1), ident(2), [])
    assert [e.device_id for e in state.content.entries(ident(1))] == [ident(8)]
    assert state.content.entries(ident(1), device_id=ident(2)) == []


def test_a_foreign_entry_changes_nothing(state: State) -> None:
    state.projects.save(PROJECT)
    state.content.replace(ident(1), ident(2), [entry("a")])
    with pytest.raises(ValueError, match="another project"):
        state.content.replace(ident(1), ident(2), [entry("b"), entry("c", project_id=ident(7))])
    assert [e.path for e in state.content.entries(ident(1))] == ["a"]


def test_content_is_paged_and_searched_literally(state: State) -> None:
    state.projects.save(PROJECT)
    paths = ["100% sure", "a_b", "axb", "photos/Sea.jpg", "photos/sea2.jpg"]
    state.content.replace(ident(1), ident(2), [entry(path) for path in paths])
    assert [e.path for e in state.content.entries(ident(1), limit=2)] == ["100% sure", "a_b"]
    assert [e.path for e in state.content.entries(ident(1), after_path="a_b", limit=1)] == ["axb"]
    assert [e.path for e in state.content.search("a_b")] == ["a_b"]
    assert [e.path for e in state.content.search("%")] == ["100% sure"]
    assert [e.path for e in state.content.search("SEA", project_id=ident(1))] == paths[3:]
    assert state.content.search("sea", project_id=ident(2)) == []


def snapshot(number: int, taken_at: int, **changes) -> SnapshotRow:
    values = SnapshotRow(ident(number), ident(1), ident(2), taken_at, 3, 300, (ident(50), ident(51)))
    return dataclasses.replace(values, **changes)


def test_snapshots(state: State) -> None:
    state.projects.save(PROJECT)
    first, second = snapshot(10, 100), snapshot(11, 200)
    state.snapshots.save(second)
    state.snapshots.save(first)
    state.snapshots.save(dataclasses.replace(first, raw=b"raw"))
    assert state.snapshots.get(ident(10)).raw == b"raw"
    assert state.snapshots.get(ident(12)) is None
    assert [s.snapshot_id for s in state.snapshots.all(ident(1))] == [ident(10), ident(11)]
    assert state.snapshots.newest(ident(1)) == second
    assert state.snapshots.forget(ident(11), 300)
    assert not state.snapshots.forget(ident(11), 300)
    assert state.snapshots.newest(ident(1)).snapshot_id == ident(10)
    assert len(state.snapshots.all(include_forgotten=True)) == 2
    assert [s.snapshot_id for s in state.snapshots.find("00")] == [ident(10)]
    assert state.snapshots.find("00", ident(7)) == []
    state.snapshots.clear(ident(1))
    assert state.snapshots.all() == []
    assert state.snapshots.newest(ident(1)) is None


def head(sequence: int, number: int = 0) -> SeenHead:
    return SeenHead(ident(1), ident(2), bytes(8), sequence, ident(100 + number), b"raw%d" % number, 100)


def test_heads_never_fall(state: State) -> None:
    assert state.heads.observe(head(5)) is HeadVerdict.NEW
    assert state.heads.observe(head(5)) is HeadVerdict.SAME
    assert state.heads.observe(head(4)) is HeadVerdict.ROLLBACK
    assert state.heads.observe(head(5, 1)) is HeadVerdict.FORK
    assert state.heads.observe(head(5, 1)) is HeadVerdict.FORK
    assert state.heads.observe(head(6, 2)) is HeadVerdict.NEW
    assert state.heads.all(ident(1)) == [head(6, 2)]
    assert state.heads.get(ident(1), ident(2), b"other ins") is None
    assert state.evidence.all("head_fork") == [Evidence("head_fork", ident(1).hex(), b"raw0", b"raw1", 100)]
    with pytest.raises(StateConflictError, match="never falls"):
        state._database.execute("UPDATE seen_heads SET sequence = 1")


def log_entry(sequence: int, number: int = 0) -> IdentityLogEntry:
    raw = b"entry %d %d" % (sequence, number)
    return IdentityLogEntry(ident(1), sequence, ident(sequence * 10 + number), raw, 100)


def test_identity_logs_only_grow(state: State) -> None:
    assert state.identity_logs.length(ident(1)) == 0
    assert state.identity_logs.append([log_entry(0), log_entry(1)]) == 2
    assert state.identity_logs.append([log_entry(0)]) == 0
    assert state.identity_logs.append([log_entry(1), log_entry(2)]) == 1
    assert state.identity_logs.entries(ident(1)) == [b"entry 0 0", b"entry 1 0", b"entry 2 0"]
    assert state.identity_logs.identities() == [ident(1)]
    with pytest.raises(ValueError, match="entry 3"):
        state.identity_logs.append([log_entry(4)])
    assert state.identity_logs.length(ident(1)) == 3


def test_a_fork_of_an_identity_log_is_evidence(state: State) -> None:
    state.identity_logs.append([log_entry(0), log_entry(1)])
    with pytest.raises(StateConflictError, match="contradict"):
        state.identity_logs.append([log_entry(1, 1), log_entry(2)])
    assert state.identity_logs.length(ident(1)) == 2
    assert state.evidence.all(subject=ident(1).hex())[0].second_raw == b"entry 1 1"


def test_a_branch_of_the_recovery_key_takes_precedence(state: State) -> None:
    state.identity_logs.append([log_entry(0), log_entry(1), log_entry(2)])
    state.identity_logs.supersede([log_entry(1, 1), log_entry(2, 1), log_entry(3, 1)])
    assert state.identity_logs.entries(ident(1)) == [b"entry 0 0", b"entry 1 1", b"entry 2 1", b"entry 3 1"]
    assert [pair.first_raw for pair in state.evidence.all("identity_superseded")] == [b"entry 1 0", b"entry 2 0"]


def test_peers(state: State) -> None:
    state.peers.learn("a", ["/1", "/2"], source="dht", at=100, name="Attic")
    state.peers.learn("a", ["/2", "/3"], source="mdns", at=110)
    state.peers.learn("b", ["/9"], source="dht", at=90)
    state.peers.mark_dial("a", "/2", succeeded=False, at=120)
    state.peers.mark_dial("a", "/1", succeeded=True, at=130)
    assert state.peers.addresses("a") == ["/1", "/3", "/2"]
    assert state.peers.known_addresses("a")[2].failures == 1
    assert state.peers.recent() == [("a", ["/1", "/3", "/2"]), ("b", ["/9"])]
    assert state.peers.prune(100) == 1
    assert state.peers.addresses("b") == []
    state.peers.forget("a")
    assert state.peers.recent() == []


def test_a_peer_keeps_its_best_addresses(state: State) -> None:
    state.peers.learn("a", ["/good"], source="user", at=1)
    state.peers.mark_dial("a", "/good", succeeded=True, at=2)
    state.peers.learn("a", [f"/{number}" for number in range(100)], source="dht", at=3)
    addresses = state.peers.addresses("a")
    assert len(addresses) == 32
    assert addresses[0] == "/good"


def test_dht_records_never_go_back(state: State) -> None:
    record = DhtRecord(b"key", "offer", b"value", 5, 1000)
    state.dht_records.save(record)
    state.dht_records.save(dataclasses.replace(record, sequence=4, value=b"old"))
    assert state.dht_records.get(b"key") == record
    state.dht_records.mark_published(b"key", 500)
    assert state.dht_records.all("offer")[0].published_at == 500
    assert state.dht_records.all("device") == []
    state.dht_records.delete(b"key")
    assert state.dht_records.get(b"key") is None


def test_jobs_wait_are_taken_and_come_back(state: State) -> None:
    assert state.jobs.add("upload", "x", "{}", at=100, peer_id="a")
    assert not state.jobs.add("upload", "x", "{}", at=100)
    assert state.jobs.add("upload", "y", "{}", at=100)
    assert state.jobs.take("upload", at=99) == []
    assert [job.dedup_key for job in state.jobs.take("upload", at=100, limit=1)] == ["x"]
    assert [job.dedup_key for job in state.jobs.take("upload", at=100, peer_id="a")] == []
    job = state.jobs.take("upload", at=100)[0]
    assert (job.dedup_key, job.attempts) == ("y", 1)
    state.jobs.retry(job.job_id, not_before_at=300, error="away")
    assert state.jobs.next_due_at("upload") == 300
    assert state.jobs.next_due_at("other") is None
    assert state.jobs.release_all() == 1
    assert {waiting.last_error for waiting in state.jobs.all("upload")} == {None, "away"}
    state.jobs.retry(1, not_before_at=900, error="away")
    assert state.jobs.wake_peer("a", 200) == 1
    assert [taken.dedup_key for taken in state.jobs.take("upload", at=200)] == ["x"]
    state.jobs.finish(1)
    assert [left.dedup_key for left in state.jobs.all()] == ["y"]


def test_jobs_survive_a_restart(tmp_path) -> None:
    path = tmp_path / "state.sqlite"
    with open_state(path) as state:
        state.jobs.add("upload", "x", '{"a":1}', at=100)
        state.jobs.take("upload", at=100)
    with open_state(path) as state:
        assert state.jobs.take("upload", at=100) == []
        state.jobs.release_all()
        assert state.jobs.take("upload", at=100)[0].attempts == 2


def fill_audit(state: State, count: int) -> None:
    for number in range(count):
        state.audit.record("user", "tested", f"object {number}", "ok", at=number)


def test_the_audit_log_is_a_chain(state: State) -> None:
    assert state.audit.verify().ok
    fill_audit(state, 3)
    assert [entry.object for entry in state.audit.entries(limit=2)] == ["object 2", "object 1"]
    assert [entry.seq for entry in state.audit.entries(before_seq=2)] == [1]
    verdict = state.audit.verify(expected_seq=3, expected_hash=state.audit.last().hash)
    assert (verdict.ok, verdict.checked) == (True, 3)


@pytest.mark.parametrize(
    ("change", "broken_seq"),
    [
        ("UPDATE audit_log SET outcome = 'denied' WHERE seq = 2", 2),
        ("DELETE FROM audit_log WHERE seq = 2", 2),
        ("UPDATE audit_log SET prev_hash = hash WHERE seq = 3", 3),
    ],
)
def test_a_changed_audit_log_is_noticed(state: State, change: str, broken_seq: int) -> None:
    fill_audit(state, 3)
    state._database.execute("DROP TRIGGER audit_log_no_update")
    state._database.execute("DROP TRIGGER audit_log_no_delete")
    state._database.execute(change)
    assert state.audit.verify().broken_seq == broken_seq


def test_a_truncated_or_rewritten_audit_log_contradicts_its_checkpoint(state: State) -> None:
    fill_audit(state, 3)
    assert state.audit.verify(expected_seq=4, expected_hash=bytes(32)).broken_seq == 4
    assert state.audit.verify(expected_seq=2, expected_hash=bytes(32)).broken_seq == 2


def test_a_long_audit_log_is_verified_in_pages(state: State) -> None:
    with state.transaction():
        fill_audit(state, 2500)
    assert state.audit.verify().checked == 2500


@pytest.mark.parametrize("sql", ["UPDATE audit_log SET time = 0", "DELETE FROM audit_log"])
def test_the_audit_log_refuses_changes(state: State, sql: str) -> None:
    fill_audit(state, 1)
    with pytest.raises(StateConflictError, match="append-only"):
        state._database.execute(sql)
