import os
import subprocess
import sys
from pathlib import Path

import pytest

from sovereign_node.datadir import DataDir, read_private_file, write_private_file
from sovereign_node.errors import ExitCode, NodeError


def test_directories_belong_to_the_owner_alone(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")
    data_dir.create()
    for path in (data_dir.root, data_dir.keys, data_dir.chunks, data_dir.spool, data_dir.cache):
        assert path.stat().st_mode & 0o777 == 0o700


def test_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from sovereign_node.datadir import DataDir\n"
        "with DataDir(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(NodeError, match=rf"pid {holder.pid}\b") as caught, DataDir(tmp_path).locked():
            pass
        assert caught.value.exit_code == ExitCode.IN_USE
        holder.stdin.close()
        holder.wait(10)
    with DataDir(tmp_path).locked():
        assert DataDir(tmp_path).lock_file.read_text() == f"{os.getpid()}\n"


def test_uninitialised_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        DataDir(tmp_path).require_initialised()
    assert "sovereign init" in caught.value.hint


def test_private_file_is_replaced_whole_and_refused_when_others_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"one")
    write_private_file(path, b"two")
    assert read_private_file(path) == b"two"
    assert [item.name for item in tmp_path.iterdir()] == ["secret"]
    path.chmod(0o640)
    with pytest.raises(NodeError, match="readable by you alone"):
        read_private_file(path)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"one")
    with pytest.raises(TypeError):
        write_private_file(path, "text")  # type: ignore[arg-type]
    assert read_private_file(path) == b"one"
    assert [item.name for item in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("missing", ["config.toml", "keys"])
def test_an_incomplete_device_names_what_is_missing(tmp_path: Path, missing: str) -> None:
    data_dir = DataDir(tmp_path)
    data_dir.create()
    data_dir.state.touch()
    data_dir.config.touch()
    path = tmp_path / missing
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    with pytest.raises(NodeError, match=f"{missing} is missing"):
        data_dir.require_initialised()
