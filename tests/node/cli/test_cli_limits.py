"""Limits and what waits, as the command line shows them."""

from __future__ import annotations

import time
from typing import Any

import pytest

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
FREE: dict[str, Any] = {
    "upload_bytes_per_s": 0,
    "download_bytes_per_s": 0,
    "reason": "settings",
    "metered": False,
    "background_paused": False,
    "schedule": [],
    "peers": [],
}
BOUND = {
    **FREE,
    "upload_bytes_per_s": 500_000,
    "reason": "command",
    "metered": True,
    "background_paused": True,
    "schedule": ["22:00-06:00 up=0"],
    "peers": [{"peer_id": PEER, "name": "studio", "upload_bytes_per_s": 0, "download_bytes_per_s": 2_000_000}],
}


@pytest.mark.parametrize(
    ("words", "operation", "parameters"),
    [
        (["show"], "limits", {}),
        (["clear"], "limits_clear", {}),
        (["set", "--up", "500KB"], "limits_set", {"upload_bytes_per_s": 500_000}),
        (
            ["set", "--down", "2MB/s", "--peer", "studio"],
            "limits_set",
            {"download_bytes_per_s": 2_000_000, "peer": "studio"},
        ),
        (["set", "--up", "none", "--metered", "yes"], "limits_set", {"upload_bytes_per_s": 0, "metered": "yes"}),
    ],
)
def test_the_node_is_asked_for_what_was_meant(
    node: Any, cli: Any, words: Any, operation: str, parameters: Any
) -> None:
    node.answers[operation] = BOUND
    outcome = cli("limits", *words)
    assert outcome.code == 0
    asked, given = node.calls[0]
    assert asked == operation
    assert {name: value for name, value in given.items() if value is not None} == parameters
    for text in (
        "500 KB/s",
        "no limit",
        "by command",
        "yes; waiting backups",
        "22:00-06:00",
        "studio",
        "2.00 MB/s",
    ):
        assert text in outcome.out
    assert cli("limits", *words, "--json").document == BOUND


def test_without_limits_it_says_so(node: Any, cli: Any) -> None:
    node.answers["limits"] = FREE
    shown = cli("limits", "show").out
    assert "no limit" in shown
    assert "by the settings" in shown
    assert "studio" not in shown


def test_what_is_no_rate_is_named(node: Any, cli: Any) -> None:
    outcome = cli("limits", "set", "--up", "fast", "--json")
    assert outcome.code == 2
    assert "'fast' is not a size" in outcome.document["error"]["message"]
    assert node.calls == []


def test_status_tells_what_waits_and_what_limits(node: Any, cli: Any) -> None:
    now = int(time.time())
    node.answers["status"] = {
        "name": "laptop",
        "identity": "ab" * 32,
        "peer_id": PEER,
        "roles": ["mobile"],
        "addresses": [],
        "projects": [{"id": "cd" * 32, "name": "photos", "sources": ["/photos"], "pending": 3}],
        "version": "0.1.0",
        "limits": BOUND,
        "waiting": [
            {
                "project": "photos",
                "chunks": 3,
                "bytes": 12_000_000,
                "waits_for": [{"peer_id": PEER, "name": "studio", "connected": False}],
                "since": now - 7200,
                "attempts": 1,
                "next_try_at": now + 60,
                "reason": "off line: studio",
            }
        ],
    }
    shown = " ".join(cli("status").out.split())
    assert "500 KB/s up, metered network, background work waits" in shown
    assert "! photos: 3 chunks (12.0 MB) on this device only, for studio, since 2 h ago; off line: studio" in shown
    assert "next try in" in shown
