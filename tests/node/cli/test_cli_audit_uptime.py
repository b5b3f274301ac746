"""`audit now` and `uptime` against a node that answers from a table."""

from typing import Any

import pytest

PEER = "12D3KooWFvcNfdegfXjfMt9WMgMUo9FPrb98kviTpzkhRrnZhsRq"
NOW = 1_800_000_000
AUDITED: dict[str, Any] = {
    "contract": "12" * 32,
    "role": "customer",
    "provider": PEER,
    "provider_name": "attic",
    "chunks": 1234,
    "audited": 24,
    "passed": 24,
    "failed": 0,
    "unanswered": 0,
    "failures": [],
    "samples": 459,
    "statistics": "99 % sure that less than 1 % is missing",
    "bytes_moved": 105_000,
    "cost_micro_vibe": 53,
    "repairs_waiting": 0,
}
UPTIME: dict[str, Any] = {
    "contract": "12" * 32,
    "role": "customer",
    "provider": PEER,
    "provider_name": "",
    "from_at": NOW,
    "until_at": NOW + 86_400,
    "seen": {"good": 99_899, "observed": 100_000, "total": 125_000, "percent": 99.899},
    "counted": {"good": 1, "observed": 1, "total": 1, "percent": 100.0, "earns_bonus": True},
    "observers": [PEER],
    "maintenance": [{"from_at": NOW, "until_at": NOW + 600}],
}


def test_audit_now_says_what_the_samples_mean(node: Any, cli: Any) -> None:
    node.stream("audit_now", {"progress": {"chunks_done": 3}}, {"result": [AUDITED]})
    outcome = cli("audit", "now", "attic", "--samples", "48")
    assert node.calls == [("audit_now", {"provider": "attic", "samples": 48})]
    assert outcome.code == 0
    assert "attic: 99 % sure that less than 1 % is missing (459 random samples)" in outcome.out


def test_a_failed_audit_ends_with_9_and_names_the_chunk(node: Any, cli: Any) -> None:
    failure = {"chunk": "ab" * 32, "size_bytes": 4_000_000, "since_at": NOW}
    node.stream("audit_now", {"result": [{**AUDITED, "failed": 1, "failures": [failure]}]})
    outcome = cli("audit", "now")
    assert outcome.code == 9
    assert node.calls == [("audit_now", {"samples": 24})]
    assert "of 4.00 MB: last proven" in outcome.out
    assert "being put back" in outcome.out
    assert cli("audit", "now", "--json").document[0]["failed"] == 1


def test_nothing_to_audit(node: Any, cli: Any) -> None:
    node.stream("audit_now", {"result": []})
    assert "no contract to audit" in cli("audit", "now").out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "99.89 %"),
        ({}, "100,000 (80 %)"),
        ({}, "earned"),
        ({}, "announced maintenance from"),
        ({"observers": []}, "no observer named"),
        ({"counted": {**UPTIME["counted"], "earns_bonus": False}}, "not earned"),
        ({"counted": {**UPTIME["counted"], "earns_bonus": False, "total": 9}}, "too little observed"),
        ({"seen": {"good": 0, "observed": 0, "total": 0, "percent": None}}, "0 (0 %)"),
        ({"seen": {"good": 1, "observed": 2, "total": 2, "percent": 50.0}, "maintenance": []}, "50.00 %"),
        ({"seen": {"good": 2, "observed": 2, "total": 2, "percent": 100.0}}, "100.00 %"),
    ],
)
def test_uptime_is_cut_and_not_rounded(node: Any, cli: Any, change: dict[str, Any], text: str) -> None:
    node.answers["uptime"] = [UPTIME | change]
    outcome = cli("uptime", "attic", "--days", "7")
    assert node.calls == [("uptime", {"provider": "attic", "days": 7})]
    assert outcome.code == 0
    assert text in outcome.out


def test_uptime_without_contracts(node: Any, cli: Any) -> None:
    node.answers["uptime"] = []
    assert "no contract yet" in cli("uptime").out
