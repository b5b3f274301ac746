"""Every command against a node that answers from a table: what it asks, what it prints, how it ends.

Long, because the table of all commands is one; what a command sends, shows and returns stands in one place.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

IDENTITY = "ab" * 32
PROJECT = "cd" * 32
SNAPSHOT = "ef" * 32
CONTRACT = "12" * 32
CHUNK = "34" * 32
PEER = "12D3KooWFvcNfdegfXjfMt9WMgMUo9FPrb98kviTpzkhRrnZhsRq"
NOW = 1_800_000_000

STATUS: dict[str, Any] = {
    "name": "laptop",
    "identity": IDENTITY,
    "peer_id": PEER,
    "roles": ["mobile"],
    "addresses": [f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"],
    "peers": 3,
    "projects": [
        {
            "id": PROJECT,
            "name": "photos",
            "sources": ["/home/ann/photos"],
            "last_snapshot": SNAPSHOT,
            "last_backup_at": NOW,
            "pending": 0,
            "targets": ["studio"],
        },
        {"id": PROJECT, "name": "letters", "sources": ["/a", "/b"], "last_backup_at": None, "pending": 7},
    ],
    "version": "0.1.0",
    "dht": {"mode": "client", "peers": 12},
    "contracts": 1,
    "replicas": 0,
    "stored": {"chunks": 0, "bytes": 0},
    "vibe_per_month_micro": 10_000_000,
    "kit_confirmed": False,
    "pid": 77,
    "uptime_s": 3700,
    "reachability": "direct",
}
OFFER = {
    "peer_id": PEER,
    "name": "big disk",
    "capacity_bytes": 50_000_000_000,
    "free_bytes": 45_500_000_000,
    "price_micro_vibe_per_gb_month": 2_000_000,
    "price_micro_vibe_per_gb_transfer": 500_000,
    "own": False,
    "roles": ["provider"],
    "expires_at": NOW + 1800,
    "addresses": [],
}
OPENED = {
    "id": CONTRACT,
    "provider": PEER,
    "capacity_bytes": 5_000_000_000,
    "price_micro_vibe_per_gb_month": 2_000_000,
    "starts_at": NOW,
    "ends_at": NOW + 2_592_000,
    "state": "active",
}
LISTED = {**OPENED, "role": "customer", "customer": IDENTITY, "stored_bytes": 1_230_000_000}
BACKUP: dict[str, Any] = {
    "project": PROJECT,
    "snapshot": SNAPSHOT,
    "files": 1234,
    "bytes_read": 5_000_000_000,
    "bytes_sent": 2_000_000_000,
    "chunks_sent": 480,
    "seconds": 50.0,
    "partial": False,
    "errors": [],
    "new_bytes": 4_000_000_000,
    "dedup_saved_bytes": 1_000_000_000,
    "compression_saved_bytes": 2_000_000_000,
    "targets": ["studio"],
    "queued": False,
}
RESTORE: dict[str, Any] = {
    "project": PROJECT,
    "snapshot": SNAPSHOT,
    "files": 12,
    "bytes": 1_500_000,
    "seconds": 2.0,
    "errors": [],
    "skipped": 2,
    "partial": False,
}
VERIFY: dict[str, Any] = {
    "chunks_checked": 480,
    "errors": [],
    "bytes_checked": 2_000_000_000,
    "repaired": ["ab" * 32],
    "snapshots_checked": 3,
    "seconds": 4,
}
GC = {
    "chunks_deleted": 3,
    "bytes_deleted": 9_000_000,
    "chunks_repacked": 1,
    "failed_targets": ["studio"],
    "delete_after_at": NOW,
    "seconds": 1,
}
FORGET = {
    "keep": [{"id": SNAPSHOT, "time": NOW, "reasons": ["last 1"]}],
    "remove": [{"id": CHUNK, "time": NOW}],
    "dry_run": True,
}
DEVICE = {
    "device_id": CHUNK,
    "name": "studio",
    "type": "server",
    "is_online": True,
    "last_seen": NOW,
    "peer_id": PEER,
    "roles": ["server"],
    "this_device": False,
    "revoked_at": None,
    "addresses": [],
}
PEER_ROW = {
    "peer_id": PEER,
    "name": "studio",
    "path": "LAN",
    "address": "/ip4/10.0.0.2/tcp/4001",
    "rtt_ms": 1.26,
    "inbound": False,
    "connected_s": 75,
    "bytes_received": 1000,
    "bytes_sent": 2_000_000,
    "roles": ["server"],
}
PROVIDER = {
    "peer_id": PEER,
    "capacity_bytes": 50_000_000_000,
    "stored_bytes": 5_000_000_000,
    "free_bytes": 45_000_000_000,
    "contracts": [OPENED],
    "replicas": 2,
    "quarantined": 1,
    "vibe_per_month_micro": 10_000_000,
    "offer": {"price_micro_vibe_per_gb_month": 2_000_000, "price_micro_vibe_per_gb_transfer": 500_000},
}
FINDINGS = {
    "findings": [
        {"check": "disk", "level": "ok", "message": "12 GB free", "next_step": ""},
        {
            "check": "kit",
            "level": "warning",
            "message": "not confirmed",
            "next_step": "type it: sovereign kit confirm",
        },
    ]
}
ENTRY = {
    "name": "a",
    "path": "docs/a\x1b[2J.txt",
    "kind": "file",
    "mode": 0o640,
    "size": 42,
    "mtime_ns": NOW * 10**9,
}
LINK = {"path": "docs/b", "kind": "symlink", "mode": 0o777, "size": 0, "mtime_ns": NOW * 10**9, "target": "a\n"}
AUDIT = {"entries": [{"seq": 1, "at": NOW, "actor": "me", "action": "contract_opened", "hash": "00"}], "ok": True}


def result(document: Any) -> list[dict[str, Any]]:
    return [{"progress": {"phase": "scanning", "files_done": 1, "bytes_done": 5}}, {"result": document}]


# words of the command, operation, its parameters, answer, texts that people see
CASES: list[tuple[list[str], str, dict[str, Any], Any, list[str]]] = [
    (
        ["status"],
        "status",
        {},
        STATUS,
        [
            *[
                "laptop (mobile)",
                PEER,
                "/ip4/127.0.0.1",
                "photos",
                "studio",
                "never",
                "7 chunks",
                "10 VIBE ($0.10)",
            ],
            *["kit is not confirmed", "sovereign kit confirm", "up for 1 h 01 min", "DHT client with 12 peers"],
        ],
    ),
    (
        ["status"],
        "status",
        {},
        {
            **STATUS,
            "roles": ["provider"],
            "addresses": [],
            "projects": [],
            "stored": {"chunks": 1, "bytes": 5_000_000_000},
            "contracts": [OPENED],
            "kit_confirmed": True,
        },
        ["nobody can reach this node", "5.00 GB in 1 chunk for 1 contract, 0 replicas", "earns"],
    ),
    (["status"], "status", {}, {**STATUS, "projects": []}, ["Begin with: sovereign protect PATH"]),
    (["offers"], "offers", {}, [OFFER], ["big disk", "45.5 GB", "2 VIBE ($0.02)", "0.5 VIBE ($0.005)"]),
    (["offers"], "offers", {}, [], ["No offers yet"]),
    (["offers"], "offers", {}, [{**OFFER, "own": True}], ["free, yours"]),
    (
        ["contract", "open", "big", "--capacity", "5GB", "--months", "3"],
        "contract_open",
        {
            "provider": "big",
            "capacity_bytes": 5_000_000_000,
            "months": 3,
            "budget_micro_vibe": 0,
            "bonus": "nobody",
            "sponsor": "",
            "free": False,
        },
        OPENED,
        ["The contract is open", CONTRACT, "5.00 GB", "10 VIBE ($0.10) per month"],
    ),
    (["contract", "list"], "contract_list", {}, [LISTED], ["customer", "1.23 GB", "active", PEER[:16]]),
    (["contract", "list"], "contract_list", {}, [], ["sovereign offers"]),
    (["contract", "show", "12"], "contract_show", {"contract": "12"}, LISTED, [CONTRACT, "1.23 GB"]),
    (
        ["protect", "some/dir", "--name", "docs", "--copies", "2"],
        "protect",
        {"path": os.path.abspath("some/dir"), "name": "docs", "copies": 2},
        {"id": PROJECT, "name": "docs", "sources": ["/some/dir"]},
        ["docs is protected", "/some/dir", "sovereign backup docs"],
    ),
    (["unprotect", "docs"], "unprotect", {"project": "docs"}, {}, ["Its snapshots stay"]),
    (
        ["projects"],
        "project_list",
        {},
        [{"id": PROJECT, "name": "docs", "sources": ["/x"]}],
        ["docs", PROJECT[:12], "/x"],
    ),
    (["projects"], "project_list", {}, [], ["sovereign protect PATH"]),
    (
        ["backup", "photos"],
        "backup",
        {"project": "photos"},
        result(BACKUP),
        ["1,234 files", "5.00 GB read in 50 s, 100 MB/s", "2.00 GB sent in 480 chunks", "1.00 GB saved by dedup"],
    ),
    (
        ["backup"],
        "backup",
        {},
        result({"projects": [BACKUP, {**BACKUP, "queued": True, "missing": ["far"]}]}),
        ["kept on this device", "not yet at far"],
    ),
    (["backup"], "backup", {}, result({"projects": []}), ["Nothing is protected yet"]),
    (
        ["snapshots", "photos"],
        "snapshots",
        {"project": "photos"},
        [{"id": SNAPSHOT, "project": PROJECT, "time": NOW, "files": 1234, "bytes": 10**9, "device_name": "laptop"}],
        [SNAPSHOT[:12], PROJECT[:12], "1,234", "1.00 GB", "laptop"],
    ),
    (["snapshots"], "snapshots", {}, [], ["sovereign backup"]),
    (
        ["ls", "photos", "docs", "-s", "ef", "-r"],
        "ls",
        {"project": "photos", "path": "docs", "snapshot": "ef", "recursive": True},
        [{"path": "docs", "kind": "dir", "mode": 0o755, "size": 0, "mtime_ns": NOW * 10**9}, ENTRY, LINK],
        ["drwxr-xr-x", "-rw-r-----", "42 B", "docs/a\\x1b[2J.txt", "lrwxrwxrwx", "docs/b -> a\\x0a"],
    ),
    (
        ["restore", "photos", "--to", "out", "--snapshot", "ef", "--path", "docs", "--overwrite", "changed"],
        "restore",
        {
            "project": "photos",
            "to": os.path.abspath("out"),
            "snapshot": "ef",
            "path": "docs",
            "overwrite": "changed",
        },
        result(RESTORE),
        ["12 files, 1.50 MB restored to out", "2 files kept as they were"],
    ),
    (
        ["restore", "photos", "--to", "/out", "--dry-run"],
        "restore",
        {"project": "photos", "to": "/out", "dry_run": True},
        result(RESTORE),
        ["would be restored"],
    ),
    (
        ["verify"],
        "verify",
        {"read_data_percent": 0.0, "repair": False},
        result(VERIFY),
        ["All is well", "480 chunks checked"],
    ),
    (
        ["verify", "--read-data", "photos"],
        "verify",
        {"project": "photos", "read_data_percent": 100.0, "repair": False},
        result(VERIFY),
        ["2.00 GB read back", "1 chunk repaired"],
    ),
    (
        ["verify", "--read-data=10%"],
        "verify",
        {"read_data_percent": 10.0, "repair": False},
        result(VERIFY),
        ["All is well"],
    ),
    (
        ["verify", "--read-data", "2.5%"],
        "verify",
        {"read_data_percent": 2.5, "repair": False},
        result(VERIFY),
        ["All is well"],
    ),
    (
        ["forget", "photos", "--keep-last", "1", "--keep-daily=7", "--keep-within", "30d", "--dry-run"],
        "forget",
        {"project": "photos", "keep_last": 1, "keep_daily": 7, "keep_within_s": 2_592_000, "dry_run": True},
        FORGET,
        ["last 1", "1 snapshot would be forgotten, 1 kept"],
    ),
    (
        ["forget", "photos", "--keep-weekly", "4", "--keep-monthly", "6", "--keep-yearly", "2", "--snapshot", "34"],
        "forget",
        {
            "project": "photos",
            "keep_weekly": 4,
            "keep_monthly": 6,
            "keep_yearly": 2,
            "snapshots": ["34"],
            "dry_run": False,
        },
        {**FORGET, "dry_run": False},
        ["1 snapshot forgotten", "sovereign gc"],
    ),
    (
        ["gc", "photos"],
        "gc",
        {"project": "photos", "dry_run": False},
        result(GC),
        ["9.00 MB in 3 chunks freed", "not reached: studio", "in case this was a mistake"],
    ),
    (
        ["repair", "index"],
        "repair_index",
        {},
        result({"segments": 2, "blobs": 9, "chunks": 3, "seconds": 1, "unreadable": ["ab"]}),
        ["9 blobs"],
    ),
    (["devices"], "devices", {}, [DEVICE], ["studio", "server", "online", "now"]),
    (
        ["devices"],
        "devices",
        {},
        [{**DEVICE, "is_online": False, "revoked_at": NOW, "last_seen": None, "this_device": True}],
        ["revoked", "never", "(this one)"],
    ),
    (["peers"], "peers", {}, [PEER_ROW], ["studio", "LAN (out)", "1.3 ms", "1 min 15 s", "2.00 MB"]),
    (["peers"], "peers", {}, [], ["sovereign doctor"]),
    (
        ["ping", "studio", "-c", "2"],
        "ping",
        {"peer": "studio", "count": 2},
        {"peer_id": PEER, "rtt_ms": [1.0, 3.0], "path": "LAN"},
        ["1.00 ms, 3.00 ms", "mean 2.00 ms"],
    ),
    (["doctor"], "doctor", {}, FINDINGS, ["ok      disk: 12 GB free", "warning kit", "type it: sovereign kit"]),
    (
        ["provider", "status"],
        "provider_status",
        {},
        PROVIDER,
        ["replicas", "5.00 GB of 50.0 GB", "10 VIBE ($0.10)"],
    ),
    (
        ["provider", "offer", "set", "--capacity=1TB", "--price=$0.03", "--transfer-price=0.5", "--reserve=2GB"],
        "provider_offer_set",
        {
            "capacity_bytes": 10**12,
            "price_micro_vibe_per_gb_month": 3_000_000,
            "price_micro_vibe_per_gb_transfer": 500_000,
            "reserve_bytes": 2 * 10**9,
        },
        {"capacity_bytes": 10**12, "price_micro_vibe_per_gb_month": 3_000_000},
        ["The offer is changed", "1.00 TB", "3 VIBE ($0.03)"],
    ),
    (
        ["provider", "export", "--to", "out", "--contract", "12"],
        "provider_export",
        {"contract": "12", "to": os.path.abspath("out")},
        result({"chunks": 2, "bytes": 8_000_000, "to": "/out"}),
        ["2 chunks, 8.00 MB written to /out", "sha256sum"],
    ),
    (
        ["provider", "scrub"],
        "provider_scrub",
        {},
        result({"chunks_checked": 5, "damaged": [], "seconds": 1}),
        ["All is well: 5 chunks checked"],
    ),
    (
        ["audit", "log", "--limit", "5"],
        "audit_log",
        {"limit": 5, "verify": False},
        AUDIT,
        ["contract_opened", "actor=me"],
    ),
    (["audit", "log", "--verify"], "audit_log", {"verify": True}, AUDIT, ["chain of hashes is whole"]),
    (
        ["config", "show"],
        "config_show",
        {},
        {"name": "x", "net": {"listen": ["/a", "/b"], "mdns": True}},
        ["net.listen", "/a, /b", "net.mdns"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[0]))
def test_asks_the_node_and_shows_the_answer(node: Any, cli: Any, case: Any) -> None:
    words, operation, parameters, answer, texts = case
    node.answers[operation] = answer
    outcome = cli(*words)
    assert node.calls == [(operation, parameters)]
    assert outcome.code == 0
    for text in texts:
        assert text in outcome.out


def test_a_project_that_failed_is_told_beside_those_that_did_not(node: Any, cli: Any) -> None:
    error = {"code": "source_missing", "message": "/music is gone", "hint": "plug the disk in", "exit_code": 1}
    node.answers["backup"] = result({"projects": [BACKUP, {"project_name": "music", "error": error}]})
    outcome = cli("backup")
    assert outcome.code == 3
    for text in ("1,234 files", "music: not backed up, /music is gone", "plug the disk in"):
        assert text in outcome.out


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[0]))
def test_json_is_the_answer_of_the_node_as_one_document(node: Any, cli: Any, case: Any) -> None:
    words, operation, _parameters, answer, _texts = case
    node.answers[operation] = answer
    outcome = cli("--json", *words)
    streamed = isinstance(answer, list) and answer and "result" in answer[-1]
    assert outcome.document == (answer[-1]["result"] if streamed else answer)
    assert outcome.code == 0
    assert outcome.out.isascii()
    assert cli(*words, "--json").out == outcome.out


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[0]))
def test_an_error_of_the_node_is_one_document_and_its_exit_code(node: Any, cli: Any, case: Any) -> None:
    words, operation = case[0], case[1]
    node.fail(operation, "project_not_found", 4, 404)
    outcome = cli(*words, "--json")
    assert outcome.code == 4
    assert outcome.document == {
        "error": {
            "code": "project_not_found",
            "message": "project_not_found happened",
            "hint": "do not project_not_found",
            "exit_code": 4,
        }
    }
    assert "do not project_not_found" in cli(*words).err


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[0]))
def test_every_command_says_how_to_start_the_node(initialised: Any, cli: Any, case: Any) -> None:
    outcome = cli(*case[0], "--json")
    assert outcome.code == 5
    assert outcome.document["error"]["code"] == "not_running"
    assert "sovereign up" in outcome.document["error"]["hint"]


PARTIAL_BACKUP = {**BACKUP, "partial": True, "errors": [{"path": f"f{n}", "reason": "denied"} for n in range(25)]}


@pytest.mark.parametrize(
    ("words", "operation", "answer", "code", "text"),
    [
        (["backup"], "backup", result(PARTIAL_BACKUP), 3, "f19: denied\n    and 5 more"),
        (["backup"], "backup", result({"projects": [BACKUP, PARTIAL_BACKUP]}), 3, "25 files could not be read"),
        (["restore", "p", "--to", "x"], "restore", result({**RESTORE, "partial": True}), 3, "12 files"),
        (
            ["verify"],
            "verify",
            result({**VERIFY, "errors": [{"chunk": CHUNK, "target": "studio", "reason": "rotten"}]}),
            9,
            f"{CHUNK[:12]} at studio: rotten",
        ),
        (
            ["provider", "scrub"],
            "provider_scrub",
            result({"chunks_checked": 5, "damaged": [CHUNK], "seconds": 1}),
            9,
            CHUNK[:12],
        ),
        (["audit", "log", "--verify"], "audit_log", {"entries": [], "ok": False}, 9, "broken"),
        (
            ["doctor"],
            "doctor",
            {"findings": [{"check": "disk", "level": "error", "message": "full", "next_step": "free some"}]},
            1,
            "error   disk: full",
        ),
    ],
)
def test_results_that_are_not_all_well_have_their_exit_code(
    node: Any, cli: Any, words: Any, operation: str, answer: Any, code: int, text: str
) -> None:
    node.answers[operation] = answer
    outcome = cli(*words)
    assert outcome.code == code
    assert text in outcome.out
    as_json = cli(*words, "--json")
    assert as_json.code == code
    assert "error" not in as_json.document


def test_an_error_after_progress_ends_the_stream(node: Any, cli: Any) -> None:
    error = {"code": "quota", "message": "the quota is reached", "hint": "open another contract", "exit_code": 8}
    node.stream("backup", {"progress": {"bytes_done": 5}}, {"message": "provider \x1b is full"}, {"error": error})
    outcome = cli("backup", "--json")
    assert outcome.code == 8
    assert outcome.document["error"]["code"] == "quota"
    assert "provider \\x1b is full" in outcome.err


def test_quiet_leaves_progress_and_summaries_out_but_not_answers(node: Any, cli: Any) -> None:
    node.answers["backup"] = result(BACKUP)
    node.answers["projects"] = node.answers["project_list"] = [{"id": PROJECT, "name": "docs", "sources": []}]
    silent = cli("backup", "--quiet")
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    assert "docs" in cli("-q", "projects").out
    assert cli("backup", "-q", "--json").document == BACKUP


def test_plain_progress_goes_to_standard_error(node: Any, cli: Any) -> None:
    node.answers["backup"] = result(BACKUP)
    assert "scanning: 5 B, 1 file" in cli("backup").err


def test_down_waits_until_the_node_has_gone(node: Any, cli: Any) -> None:
    def stop(_body: Any) -> dict[str, Any]:
        node.data_dir.api_file.unlink()
        return {}

    node.answers["shutdown"] = stop
    outcome = cli("down", "--json")
    assert outcome.code == 0
    assert outcome.document == {"stopped": True, "pid": 4242}


def test_down_is_content_with_a_node_that_goes_before_it_answers(node: Any, cli: Any) -> None:
    def stop(_body: Any) -> bytes:
        node.data_dir.api_file.unlink()
        return b""

    node.answers["shutdown"] = stop
    assert cli("down").out == "The node has stopped.\n"
    node.announce()
    node.fail("shutdown", "bad_token", 1, 401)
    assert cli("down").code == 1


def test_device_revoke_sends_the_passphrase_of_a_file(node: Any, cli: Any, tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" pass word \nsecond line\n")
    secret.chmod(0o600)
    node.answers["device_revoke"] = {}
    assert cli("device", "revoke", "phone", "--passphrase-file", str(secret)).code == 0
    assert node.calls == [("device_revoke", {"device": "phone", "passphrase": " pass word "})]
