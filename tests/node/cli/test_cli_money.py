"""The money commands against a node that answers from a table, and a bundle that is checked without one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

CONTRACT = "12" * 32
IDENTITY = "ab" * 32
PEER = "12D3KooWFvcNfdegfXjfMt9WMgMUo9FPrb98kviTpzkhRrnZhsRq"
NOW = 1_800_000_000
NOTE = {"note": "34" * 32, "amount_micro_vibe": 5_000_000, "payer": IDENTITY, "payee": IDENTITY, "at": NOW}
BALANCE: dict[str, Any] = {
    "contract": CONTRACT,
    "role": "provider",
    "identity": IDENTITY,
    "peer_id": PEER,
    "name": "",
    "state": "limited",
    "stored_bytes": 5_000_000_000,
    "accrued_micro_vibe": 10_500_000,
    "promised_micro_vibe": 6_000_000,
    "settled_micro_vibe": 1_000_000,
    "open_micro_vibe": 5_000_000,
    "exposed_micro_vibe": 4_500_000,
    "credit_limit_micro_vibe": 4_500_000,
    "level": "stop",
    "unpaid_since": None,
    "per_month_micro_vibe": 10_000_000,
    "waiting": [NOTE],
}
WALLET = {
    "peers": [BALANCE],
    "spent_micro_vibe": 0,
    "earned_micro_vibe": 10_500_000,
    "owed_micro_vibe": 0,
    "due_to_you_micro_vibe": 9_500_000,
    "exposed_micro_vibe": 4_500_000,
    "forecast": {"spend_per_month_micro_vibe": 0, "earn_per_month_micro_vibe": 10_000_000},
    "sponsored": [],
}
BILL = {
    "contract": CONTRACT,
    "role": "customer",
    "from_at": NOW,
    "until_at": NOW + 2_592_000,
    "storage_micro_vibe": 3_000_000,
    "transfer_micro_vibe": 500_000,
    "so_far_micro_vibe": 3_500_000,
    "forecast_micro_vibe": 10_500_000,
    "forecast_with_bonus_micro_vibe": 15_750_000,
    "bonus_payer": "nobody",
    "budget_micro_vibe": 10_000_000,
    "stored_bytes": 5_000_000_000,
    "transfer_bytes": 1_000_000_000,
}
STATEMENT = {
    "contract": CONTRACT,
    "role": "customer",
    "period": 0,
    "from_at": NOW,
    "until_at": NOW + 2_592_000,
    "storage_micro_vibe": 10_000_000,
    "transfer_micro_vibe": 500_000,
    "bonus_micro_vibe": 5_250_000,
    "sponsor_bonus_micro_vibe": 0,
    "sponsor_paid_micro_vibe": 0,
    "credits_micro_vibe": 0,
    "paid_micro_vibe": 10_500_000,
    "closing_micro_vibe": 5_250_000,
    "hash": "56" * 32,
    "signed_by_both": True,
}
SPONSORED = {
    "contract": CONTRACT,
    "provider": PEER,
    "identity": IDENTITY,
    "budget_micro_vibe": 20_000_000,
    "paid_micro_vibe": 5_250_000,
    "left_micro_vibe": 14_750_000,
    "periods": 1,
    "until_at": NOW,
    "is_over": False,
    "grant": "9a" * 32,
}
QUOTE = {
    "kind": "storage",
    "basis": "list prices",
    "stored_bytes": 5_000_000_000,
    "moved_bytes": 1_000_000_000,
    "months": 1,
    "copies": 2,
    "price_micro_vibe": 10_500_000,
    "bonus_micro_vibe": 5_250_000,
    "customer_pays_at_most_micro_vibe": 10_500_000,
    "provider_earns_at_most_micro_vibe": 15_750_000,
    "contracts": [],
}
RENEWED = {"id": CONTRACT, "state": "active", "capacity_bytes": 10_000_000_000, "ends_at": NOW}
DRAIN = {
    "draining": True,
    "contracts_left": 1,
    "bytes_left": 5_000_000_000,
    "safe_to_stop": False,
    "contracts": [{"contract": CONTRACT, "customer": IDENTITY, "bytes_left": 5_000_000_000, "ends_at": NOW}],
}
LEDGER = {"ok": True, "entries": 2, "head": "78" * 32, "first_fault": None, "sum_micro_vibe": 0, "accounts": 4}
EARNINGS = {
    "contracts": [],
    "earned_micro_vibe": 15_750_000,
    "so_far_micro_vibe": 1,
    "per_month_micro_vibe": 10_000_000,
    "per_month_with_bonus_micro_vibe": 15_000_000,
}
SETTLED = {**BALANCE, "confirmed": [NOTE], "reached": True, "agreed": False, "waiting": []}
EXPORTED = {"to": "/out", "papers": 7, "contract": CONTRACT, "customer_device": "aa", "provider_device": "bb"}
MAINTENANCE = {"from_at": NOW, "until_at": NOW + 1200, "notices": 3}

CASES: list[tuple[list[str], str, dict[str, Any], Any, list[str]]] = [
    (
        ["wallet"],
        "wallet",
        {},
        WALLET,
        ["9.5 VIBE ($0.095)", "4.5 VIBE of 4.5 VIBE", "settle --confirm signs for it", CONTRACT[:12]],
    ),
    (["wallet"], "wallet", {}, {**WALLET, "peers": []}, ["No contracts yet"]),
    (["wallet"], "wallet", {}, {**WALLET, "sponsored": [SPONSORED]}, ["sovereign sponsor list"]),
    (["sponsor", "list"], "sponsor_list", {}, [SPONSORED], [CONTRACT[:12], "20 VIBE", "14.75 VIBE"]),
    (["sponsor", "list"], "sponsor_list", {}, [], ["You sponsor nothing"]),
    (
        ["sponsor", "grant", CONTRACT, PEER, "--budget", "20"],
        "sponsor_grant",
        {"contract": CONTRACT, "provider": PEER, "budget_micro_vibe": 20_000_000},
        SPONSORED,
        ["Granted up to 20 VIBE"],
    ),
    (
        ["statement"],
        "statements",
        {},
        [
            {**STATEMENT, "bonus_micro_vibe": 0, "sponsor_bonus_micro_vibe": 5_250_000},
            {**STATEMENT, "role": "provider", "sponsor_bonus_micro_vibe": 5_250_000},
            {**STATEMENT, "role": "provider", "sponsor_bonus_micro_vibe": 9, "sponsor_paid_micro_vibe": 5_000_000},
        ],
        ["5.25 VIBE ($0.0525) from the sponsor", "has not promised it yet", "which promised 5 VIBE"],
    ),
    (
        ["transfer", "ab", "5"],
        "transfer",
        {"identity": "ab", "amount_micro_vibe": 5_000_000},
        {**NOTE, "contract": CONTRACT, "state": "signed"},
        ["5 VIBE ($0.05): signed"],
    ),
    (
        ["pay", "ab", "$0.05"],
        "transfer",
        {"identity": "ab", "amount_micro_vibe": 5_000_000},
        {**NOTE, "contract": CONTRACT, "state": "waiting to be sent"},
        ["waiting to be sent"],
    ),
    (
        ["settle", "12", "--confirm"],
        "settle",
        {"contract": "12", "confirm": True},
        [SETTLED],
        ["promised and not yet paid 5 VIBE ($0.05)", "signed for 5 VIBE", "both sides count differently"],
    ),
    (["settle"], "settle", {"confirm": False}, [], ["Nothing to settle"]),
    (["bill"], "bill", {}, [BILL], ["3.5 VIBE", "10.5 VIBE of 10 VIBE", "you pay: 10.5 VIBE"]),
    (["bill"], "bill", {}, [], ["No contracts yet"]),
    (["statement"], "statements", {}, [STATEMENT], ["5.25 VIBE", "by both"]),
    (["statement", "12"], "statements", {"contract": "12"}, [], ["No period is closed yet"]),
    (
        ["quote", "--size=5GB"],
        "quote",
        {"kind": "storage", "stored_bytes": 5_000_000_000, "months": 1},
        QUOTE,
        ["10.5 VIBE ($0.105)", "they earn at most", "15.75 VIBE", "list prices", "at 2 providers"],
    ),
    (
        ["backup", "docs", "--dry-run"],
        "quote",
        {"kind": "backup", "project": "docs"},
        {**QUOTE, "basis": "contracts"},
        ["you pay at most"],
    ),
    (
        ["quote", "retention"],
        "quote",
        {"kind": "retention", "months": 1},
        {**QUOTE, "kind": "retention", "basis": "contracts", "moved_bytes": 0, "copies": 1},
        ["saves"],
    ),
    (["ledger", "verify"], "ledger_verify", {}, LEDGER, ["The books are whole: 2 entries, 4 accounts"]),
    (
        ["contract", "renew", "12", "--months=6", "--capacity=10GB"],
        "contract_renew",
        {"contract": "12", "months": 6, "capacity_bytes": 10_000_000_000},
        RENEWED,
        ["Both sides have signed", "10.0 GB"],
    ),
    (["contract", "close", "12"], "contract_close", {"contract": "12"}, RENEWED, ["is closed"]),
    (
        ["dispute", "export", "12", "--to", "out"],
        "dispute_export",
        {"contract": "12", "to": os.path.abspath("out")},
        EXPORTED,
        ["7 papers written to /out"],
    ),
    (["provider", "contracts"], "provider_contracts", {}, [BALANCE], ["limited", "10 VIBE", CONTRACT[:12]]),
    (["provider", "contracts"], "provider_contracts", {}, [], ["No contracts yet"]),
    (["provider", "earnings", "--forecast"], "earnings", {"forecast": True}, EARNINGS, ["15.75 VIBE", "15 VIBE"]),
    (
        ["provider", "maintenance", "announce", "--in=2h", "--for=20min"],
        "maintenance_announce",
        {"in_s": 7200, "for_s": 1200},
        MAINTENANCE,
        ["3 notices signed"],
    ),
    (["provider", "drain"], "drain", {"stop": False}, DRAIN, ["Still here: 1 contract, 5.00 GB"]),
    (["provider", "drain"], "drain", {"stop": False}, {**DRAIN, "safe_to_stop": True}, ["safe to stop"]),
    (["provider", "drain", "--wait"], "drain", {"stop": False}, {**DRAIN, "safe_to_stop": True}, ["safe to stop"]),
    (["provider", "drain", "--stop"], "drain", {"stop": True}, {**DRAIN, "draining": False}, ["customers again"]),
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
    assert cli(*words, "--json").document == answer


def test_statements_are_exported_exactly(node: Any, cli: Any) -> None:
    node.answers["statements"] = [STATEMENT]
    lines = cli("statement", "--export", "csv").out.splitlines()
    assert lines[0].startswith("contract,role,period,from_at")
    assert ",10000000,500000,5250000," in lines[1]
    assert json.loads(cli("statement", "--export", "json").out) == [STATEMENT]


def test_trouble_has_its_exit_code(node: Any, cli: Any) -> None:
    node.answers["ledger_verify"] = {**LEDGER, "ok": False, "first_fault": 2}
    assert cli("ledger", "verify").code == 9
    node.answers["settle"] = [{**SETTLED, "reached": False, "reason": "off line"}]
    outcome = cli("settle")
    assert outcome.code == 7
    assert "off line" in outcome.out


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "sovereign-dispute-1"}'])
def test_what_is_no_bundle_is_said(cli: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(text)
    outcome = cli("dispute", "verify", str(path), "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, "bad_bundle")
    assert cli("dispute", "verify", str(tmp_path / "none")).code == 4


def test_provider_start_writes_its_settings_and_runs(
    cli: Any, initialised: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sovereign_node import app
    from sovereign_node.config import load_config

    state = {
        "name": "attic",
        "roles": ["provider"],
        "identity": IDENTITY,
        "peer_id": PEER,
        "addresses": [],
        "contracts": 2,
        "replicas": 1,
        "stored": {"chunks": 1, "bytes": 5_000_000_000},
        "vibe_per_month_micro": 10_500_000,
    }
    monkeypatch.setattr(app, "run_node", lambda options: options.on_status(state))
    outcome = cli(
        "provider", "start", "--capacity=1TB", "--price=3", "--accept=friends", f"--friend={IDENTITY}", "--free=1GB"
    )
    assert outcome.code == 0
    for line in ("replicas: 1", "stored: 5.00 GB", "contracts: 2", "VIBE per month: 10.5", f"device id: {PEER}"):
        assert line in outcome.err
    config = load_config(initialised.config)
    assert config.is_provider
    assert (config.provider.capacity_bytes, config.provider.accept) == (10**12, "friends")
    assert config.provider.friends == (IDENTITY,)
    assert cli("provider", "start", "--accept=nobody").code == 2
