"""What may become a project, and how it is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sovereign_crypto import cbor
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.services.new_project import existing_source, make_project
from sovereign_node.store import State, open_state


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (b"plain", "plain"),
        ("cafe\u0301".encode(), "caf\u00e9"),
        (b"\xff\xfe bad", "__ bad"),
        (b"a\nb\x1b[2J", "a_b_[2J"),
        ("\u202egpj".encode(), "_gpj"),
        (b"n" * 255, "n" * 64),
        (b" ", "root"),
    ],
)
def test_any_folder_gets_a_name_that_others_can_read(
    tmp_path: Path, state: State, folder: bytes, name: str
) -> None:
    path = tmp_path / os.fsdecode(folder)
    path.mkdir()
    project = make_project(
        state, DeviceKeys.generate(), existing_source(str(path), tmp_path / "own"), None, 1, at=1
    )
    assert project.name == name
    assert cbor.decode(cbor.encode(project.name)) == name
    state.projects.save(project)
    (found,) = state.projects.all()
    assert found.sources == (str(path),)
    assert os.fsencode(found.sources[0]) == os.fsencode(path)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65, "\x1b[2J", "\udcff"])
def test_names_that_nobody_could_type_are_refused(tmp_path: Path, state: State, name: str) -> None:
    with pytest.raises(NodeError, match="printable"):
        make_project(state, DeviceKeys.generate(), tmp_path, name, 1, at=1)


def test_the_nodes_own_data_and_nothing_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "keys").mkdir(parents=True)
    (tmp_path / "way in").symlink_to(own / "keys")
    for path in (own, own / "keys", tmp_path / "way in"):
        with pytest.raises(NodeError, match="by itself"):
            existing_source(str(path), own)
    for text in (str(tmp_path / "nothing"), "relative"):
        with pytest.raises(NodeError, match="nothing at"):
            existing_source(text, own)
