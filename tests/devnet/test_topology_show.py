"""`sovereign-devnet up --topology nat`: every path, chosen as expected, and changing when one dies. Needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

from sovereign_devnet.topology import show
from sovereign_devnet.topology.namespace import missing_requirement

pytestmark = [
    pytest.mark.root,
    pytest.mark.processes,
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement() or "namespaces can be made"),
]


def test_the_command_shows_every_path(tmp_path: Path) -> None:
    said: list[str] = []
    assert show.run_topology("nat", said.append, tmp_path, stay=False)
    text = "\n".join(said)
    for line in (
        "the laptop reaches the provider: hole-punched",
        "no packet gets from home to home: the laptop reaches the provider: relayed via",
        "the line is back: the laptop reaches the provider: hole-punched",
        "the relay is gone: the laptop reaches the provider: NATS",
        "the relay is back: the laptop reaches the provider: relayed via",
    ):
        assert line in text
