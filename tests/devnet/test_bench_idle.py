"""Measuring what an idle node sends and receives."""

from __future__ import annotations

from pathlib import Path

import pytest

from sovereign_devnet.bench import idle
from sovereign_devnet.bench.results import Settings


def row(peer: str, address: str, received: int, sent: int) -> tuple[tuple[str, str], dict[str, object]]:
    return (peer, address), {"peer_id": peer, "bytes_received": received, "bytes_sent": sent}


def test_differences_of_connections_that_stayed_and_came() -> None:
    before = dict([row("a", "/1", 100, 10), row("b", "/2", 1000, 1000)])
    after = dict([row("a", "/1", 150, 30), row("b", "/3", 7, 8)])
    found = idle._compare(before, after, [10, 30])
    assert (found["peers"], found["replaced"], found["packets"]) == (2, 1, 40)
    assert found["bytes"]["on the connections, received"] == 57
    assert found["bytes"]["on the connections, sent"] == 28
    assert found["bytes"]["with TCP/IP headers, sent"] == 28 + 40 * idle.HEADER_BYTES / 2


@pytest.mark.slow
@pytest.mark.processes
def test_a_node_among_few_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "PEERS", 3)
    monkeypatch.setattr(idle, "SETTLE_S", 1)
    monkeypatch.setattr(Settings, "pick", lambda _self, _quick, _normal: 2)
    part = idle.measure(Settings(tmp_path, quick=True, full=False, rounds=1, say=lambda _text: None))
    assert part.data["peers"] == 3
    (bar,) = part.bars
    assert bar.value > 0
