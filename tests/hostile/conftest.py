"""The attacked nodes, started once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile_world import HostileWorld


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWorld]:
    world = HostileWorld(tmp_path_factory.mktemp("hostile"))
    with world.cluster:
        world.set_up()
        yield world
