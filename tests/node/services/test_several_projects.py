"""Several projects in one go, and names that are not text."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from node_world import open_world

from sovereign_node.errors import NodeError

pytestmark = pytest.mark.usefixtures("no_keyring")


async def test_one_project_that_fails_keeps_no_other_from_its_backup(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(os.urandom(10_000))
    async with open_world(tmp_path) as world:
        world.make("laptop", "mobile")
        laptop = await world.start("laptop")
        for name in ("first", "second", "third"):
            await laptop.ask("protect", path=str(tmp_path / name))
        shutil.rmtree(tmp_path / "first")
        done = {item["project_name"]: item for item in (await laptop.ask("backup"))["projects"]}
        assert done.keys() == {"first", "second", "third"}
        assert done["first"]["error"]["code"] == "source_missing"
        assert done["second"]["files"] == done["third"]["files"] == 1
        shutil.rmtree(tmp_path / "second")
        shutil.rmtree(tmp_path / "third")
        with pytest.raises(NodeError, match="is gone"):
            await laptop.ask("backup")


async def test_a_name_that_is_not_utf8_is_listed_and_restored_by_it(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xff folder")
    odd = source / os.fsdecode(b"\xfe name")
    odd.mkdir(parents=True)
    (odd / "file").write_bytes(b"content")
    (source / "link").symlink_to(os.fsdecode(b"\xfd"))
    async with open_world(tmp_path) as world:
        world.make("laptop", "mobile")
        laptop = await world.start("laptop")
        project = await laptop.ask("protect", path=str(source))
        assert project["name"] == "_ folder"
        assert (await laptop.ask("backup"))["errors"] == []
        listed = {row["path"]: row for row in await laptop.ask("ls", project=project["id"])}
        assert set(listed) == {odd.name, "link"}
        assert listed["link"]["target"] == os.fsdecode(b"\xfd")
        done = await laptop.ask("restore", project=project["id"], path=odd.name, to=str(tmp_path / "out"))
        assert done["errors"] == []
        assert (tmp_path / "out" / odd.name / "file").read_bytes() == b"content"
