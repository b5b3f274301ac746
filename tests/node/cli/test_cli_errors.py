"""What wrong words, bugs and interruptions get: one message with a next step, or one JSON document."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from sovereign_node.cli.main import main, wants_json
from sovereign_node.datadir import write_private_file
from sovereign_node.errors import ExitCode, NodeError

WRONG = [
    (["nonsense"], "No such command 'nonsense'", "sovereign --help"),
    (["statu"], "status", "sovereign --help"),
    (["status", "--colour"], "No such option: --colour", "sovereign status --help"),
    (["status", "extra"], "unexpected extra argument", "sovereign status --help"),
    (["ls"], "Missing argument", "sovereign ls --help"),
    (["restore", "photos"], "--to", "sovereign restore --help"),
    (["contract", "open", "x"], "--capacity", "sovereign contract open --help"),
    (["contract", "open", "x", "--capacity", "five"], "'five' is not a size", "sovereign contract open --help"),
    (["forget", "x", "--keep-within", "5m"], "'5m' is not a duration", "sovereign forget --help"),
    (["forget", "x", "--keep-last", "0"], "--keep-last", "sovereign forget --help"),
    (["verify", "--read-data=200%"], "'200%' is not a percentage", "sovereign verify --help"),
    (["provider", "offer", "set", "--price", "2 EUR"], "is not an amount", "sovereign provider offer set --help"),
    (["restore", "x", "--to", "y", "--overwrite", "sometimes"], "sometimes", "sovereign restore --help"),
    (["forget", "photos"], "nothing says which snapshots to keep", "--keep-last 10"),
    (["provider", "offer", "set"], "nothing says what to change", "--capacity"),
    (["device", "revoke", "x", "--passphrase", "hunter2"], "No such option: --passphrase", "--passphrase-file"),
    (["init", "--passphrase=hunter2"], "No such option: --passphrase", "secrets on a command line"),
]


@pytest.mark.parametrize(("words", "message", "hint"), WRONG, ids=lambda value: str(value))
def test_wrong_words_get_a_message_and_a_next_step(cli: Any, words: list[str], message: str, hint: str) -> None:
    outcome = cli(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert hint in outcome.err
    assert "hunter2" not in outcome.err
    as_json = cli(*words, "--json")
    assert as_json.code == 2
    assert message in as_json.document["error"]["message"]
    assert hint in as_json.document["error"]["hint"]
    assert as_json.document["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    ("line", "proposed"),
    [("sovereign statu", "status"), ("sovereign contract o", "open"), ("sovereign verify --rea", "--read-data")],
)
def test_the_shell_completes(line: str, proposed: str) -> None:
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_SOVEREIGN_COMPLETE": "complete_bash"}
    program = [sys.executable, "-m", "sovereign_node.cli.main"]
    finished = subprocess.run(program, env={**os.environ, **asked}, capture_output=True, check=True, text=True)
    assert finished.stdout.split() == [proposed]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_this_program(cli: Any, shell: str) -> None:
    script = cli("completion", shell).out
    assert "_SOVEREIGN_COMPLETE" in script
    assert cli("completion", shell, "--json").document["script"].strip() == script.strip()


@pytest.mark.parametrize("words", [[], ["contract"], ["provider"], ["provider", "offer"]])
def test_a_group_without_command_shows_its_help(cli: Any, words: list[str]) -> None:
    outcome = cli(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Commands:" in outcome.err


def test_help_and_version(cli: Any) -> None:
    assert "Commands:" in cli("--help").out
    assert "--read-data" in cli("verify", "--help").out
    version = cli("--version")
    assert version.code == 0
    assert version.out.strip()[0].isdigit()


def test_wants_json_looks_only_at_options() -> None:
    assert wants_json(["status", "--json"])
    assert not wants_json(["protect", "--", "--json"])
    assert not wants_json(["status"])


def test_a_bug_ends_in_one_document(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> Any:
        raise RuntimeError("odd\x1b[0m")

    monkeypatch.setattr("sovereign_node.api.client.ApiClient.call", broken)
    outcome = cli("status", "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == "internal_error"
    assert "RuntimeError: odd" in outcome.err


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ([NodeError("in_use", "taken", "", ExitCode.IN_USE)], 10),
        ([ValueError("x"), BaseExceptionGroup("inner", [NodeError("full", "", "", ExitCode.STORAGE_FULL)])], 8),
        ([KeyboardInterrupt()], 130),
        ([ValueError("x")], 1),
    ],
)
def test_errors_that_come_in_groups(cli: Any, monkeypatch: pytest.MonkeyPatch, inner: list[Any], code: int) -> None:
    def broken(*_arguments: Any) -> Any:
        raise BaseExceptionGroup("of a nursery", inner)

    monkeypatch.setattr("sovereign_node.api.client.ApiClient.call", broken)
    outcome = cli("status", "--json")
    assert outcome.code == outcome.document["error"]["exit_code"] == code


def test_ctrl_c_ends_with_130(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("sovereign_node.api.client.ApiClient.call", interrupted)
    outcome = cli("status", "--json")
    assert outcome.code == 130
    assert outcome.document["error"]["code"] == "interrupted"


def test_ctrl_c_ends_a_stream_and_hangs_up(initialised: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}", "token": "x", "pid": 1, "version": "1"}
        write_private_file(initialised.api_file, json.dumps(endpoint).encode())
        words = ["backup", "--json", "--data-dir", str(initialised.root)]
        program = [sys.executable, "-m", "sovereign_node.cli.main", *words]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            connection, _ = listener.accept()
            with connection:
                connection.sendall(head + b'{"progress": {"phase": "sending", "bytes_done": 1}}\n')
                assert "sending" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
                out, errors = process.communicate(timeout=20)
                connection.settimeout(20)
                while connection.recv(65536):
                    pass  # the request, then the end of the connection
    assert process.returncode == 130
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert "Traceback" not in errors


def test_end_of_input_at_a_question_ends_with_130(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_arguments: Any) -> Any:
        raise EOFError

    monkeypatch.setattr("sovereign_node.api.client.ApiClient.call", ended)
    assert cli("status").code == 130


def test_a_reader_that_has_enough_is_no_error(node: Any) -> None:
    entry = {"path": "x" * 100, "kind": "file", "mode": 0o644, "size": 1, "mtime_ns": 0}
    node.answers["ls"] = [entry] * 20_000
    words = [sys.executable, "-m", "sovereign_node.cli.main", "ls", "p", "--data-dir", str(node.data_dir.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode in (0, 1)


def test_output_that_the_terminal_cannot_show_is_written_with_backslashes(node: Any) -> None:
    node.answers["project_list"] = [{"id": "ab" * 32, "name": "Bücher", "sources": []}]
    words = [sys.executable, "-m", "sovereign_node.cli.main", "projects", "--data-dir", str(node.data_dir.root)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    finished = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert b"B\\xfccher" in finished.stdout
    as_json = subprocess.run([*words, "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(as_json.stdout)[0]["name"] == "Bücher"


def test_the_words_of_the_process_are_used_without_arguments(
    node: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node.answers["project_list"] = []
    monkeypatch.setattr(sys, "argv", ["sovereign", "projects", "--json", "--data-dir", str(node.data_dir.root)])
    assert main() == 0
    assert json.loads(capsys.readouterr().out) == []
