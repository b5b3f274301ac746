"""Finding and ending processes by what they work on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sovereign_devnet.errors import CommandError, DevnetError
from sovereign_devnet.processes import request_stop, running_pid, send_signal, wait_stopped, wait_until
from sovereign_devnet.program import environment, finish_command, run_command, start_command

pytestmark = pytest.mark.processes

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


@pytest.fixture(params=[SLEEPER, DEAF])
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", request.param, "the-folder"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_a_process_is_known_by_its_arguments(process: subprocess.Popen[str], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert running_pid(pid_file, "the-folder") is None
    pid_file.write_text(f"{process.pid}\n")
    assert running_pid(pid_file, "the-folder") == process.pid
    assert running_pid(pid_file, "another-folder") is None
    process.kill()
    process.wait()
    assert running_pid(pid_file, "the-folder") is None
    pid_file.write_text("nonsense")
    assert running_pid(pid_file, "the-folder") is None


def test_who_does_not_stop_is_killed(process: subprocess.Popen[str]) -> None:
    deaf = DEAF in process.args  # type: ignore[operator]
    request_stop(process.pid)
    assert wait_stopped(lambda: process.poll() is None, process.pid, 1.0 if deaf else 10) is not deaf
    assert process.returncode is not None
    assert not send_signal(process.pid, 0)  # type: ignore[arg-type]


def test_waiting_ends() -> None:
    with pytest.raises(DevnetError, match="a miracle took longer"):
        wait_until(lambda: False, 0.1, "a miracle")


def test_commands_give_their_document_and_their_error(tmp_path: Path) -> None:
    done = run_command(tmp_path / "nowhere", "status")
    assert done.exit_code
    assert done.error["code"] == "not_initialised"
    with pytest.raises(CommandError, match="there is no Sovereign device") as caught:
        done.require_success()
    assert (caught.value.exit_code, caught.value.code) == (done.exit_code, "not_initialised")
    assert "sovereign init" in caught.value.hint


def test_a_command_that_hangs_is_killed(tmp_path: Path) -> None:
    process = start_command(tmp_path, "status")
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(DevnetError, match="took longer"):
        finish_command(process, ("status",), timeout_s=0.2)
    assert process.returncode is not None


def test_nodes_inherit_neither_data_directory_nor_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOVEREIGN_DATA_DIR", "/somewhere")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.SecretService.Keyring")
    kept = environment()
    assert "SOVEREIGN_DATA_DIR" not in kept
    assert kept["PYTHON_KEYRING_BACKEND"] == "keyring.backends.null.Keyring"
