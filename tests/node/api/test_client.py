"""The client of the local API against broken endpoints, a canned server, and the real server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from sovereign_node.api import client as client_module
from sovereign_node.api.client import ApiClient, Endpoint, command_for, read_endpoint
from sovereign_node.api.operations import NoParameters, Operation
from sovereign_node.api.server import LocalApi
from sovereign_node.datadir import DataDir, write_private_file
from sovereign_node.errors import ExitCode, NodeError


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    directory = DataDir(tmp_path / "it's here")
    directory.create()
    directory.config.write_text('name = "x"\n')
    return directory


def announce(data_dir: DataDir, port: int, **changes: Any) -> None:
    document = {"url": f"http://127.0.0.1:{port}", "token": "secret", "pid": 7, "version": "1", **changes}
    write_private_file(data_dir.api_file, json.dumps(document).encode())


class OneAnswer:
    """A server that reads one request, answers with fixed bytes and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.request = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            while b"\r\n\r\n" not in self.request or not self.request.endswith(b"}"):
                self.request += connection.recv(65536)
            connection.sendall(self._answer)

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


@pytest.fixture
def answering(data_dir: DataDir) -> Iterator[Any]:
    servers: list[OneAnswer] = []

    def start(body: bytes, status: str = "200 OK") -> OneAnswer:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        server = OneAnswer(head + body if status else body)
        announce(data_dir, server.port)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def failure(data_dir: DataDir, *, stream: bool = False) -> NodeError:
    client = ApiClient(data_dir)
    with pytest.raises(NodeError) as raised:
        list(client.stream("work")) if stream else client.call("work")
    return raised.value


def test_an_empty_directory_is_not_initialised(tmp_path: Path) -> None:
    error = failure(DataDir(tmp_path))
    assert error.code == "not_initialised"
    assert f"sovereign init --data-dir {tmp_path}" in error.hint


def test_a_directory_below_a_file_is_not_initialised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert failure(DataDir(tmp_path / "file" / "x")).code == "not_initialised"


def test_without_endpoint_file_no_node_runs(data_dir: DataDir) -> None:
    error = failure(data_dir)
    assert (error.code, error.exit_code) == ("not_running", ExitCode.NOT_RUNNING)
    assert error.hint.startswith("start it with: sovereign up --data-dir '/")


def test_the_default_directory_is_not_named_in_hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOVEREIGN_DATA_DIR", str(tmp_path))
    assert command_for(DataDir(tmp_path), "up") == "sovereign up"


def test_a_file_left_by_a_dead_node_means_not_running(data_dir: DataDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    announce(data_dir, port)
    assert failure(data_dir).code == "not_running"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"url": 5}', b'{"url": "http://127.0.0.1:70000"}', b"\xff"]
)
def test_a_damaged_endpoint_file_is_named(data_dir: DataDir, content: bytes) -> None:
    write_private_file(data_dir.api_file, content)
    assert failure(data_dir).code == "api_file_damaged"


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1", "http://x.localhost:1"]
)
def test_secrets_go_nowhere_but_to_loopback(data_dir: DataDir, url: str) -> None:
    announce(data_dir, 1, url=url)
    assert failure(data_dir).code == "api_not_loopback"


def test_a_file_that_others_can_read_is_refused(data_dir: DataDir) -> None:
    announce(data_dir, 1)
    data_dir.api_file.chmod(0o644)
    assert failure(data_dir).code == "unsafe_permissions"


def test_a_directory_in_place_of_the_file_is_an_error(data_dir: DataDir) -> None:
    data_dir.api_file.mkdir(mode=0o700)
    assert failure(data_dir).code == "api_file_unreadable"


def test_the_token_is_hidden_in_the_endpoint(data_dir: DataDir) -> None:
    announce(data_dir, 1234)
    endpoint = read_endpoint(data_dir)
    assert endpoint == Endpoint("127.0.0.1", 1234, "secret", 7, "1")
    assert "secret" not in repr(endpoint)


def test_a_request_carries_the_token_and_no_empty_parameters(data_dir: DataDir, answering: Any) -> None:
    server = answering(b'{"a": 1}')
    assert ApiClient(data_dir).call("work", {"x": 1, "y": None}) == {"a": 1}
    assert server.request.startswith(b"POST /api/v1/work HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret\r\n" in server.request
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.request
    assert server.request.endswith(b'\r\n\r\n{"x": 1}')


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe"])
def test_an_answer_that_is_not_json(data_dir: DataDir, answering: Any, body: bytes) -> None:
    answering(body)
    error = failure(data_dir)
    assert error.code == "unexpected_answer"
    assert "sovereign down" in error.hint


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"error": "x"}', b'{"error": {"code": "x"}}'])
def test_a_failure_without_error_document(data_dir: DataDir, answering: Any, body: bytes) -> None:
    answering(body, "500 Oops")
    assert failure(data_dir).code == "unexpected_answer"


def test_an_unknown_exit_code_becomes_a_plain_error(data_dir: DataDir, answering: Any) -> None:
    answering(b'{"error": {"code": "new", "message": "m", "hint": "h", "exit_code": 99}}', "418 New")
    error = failure(data_dir)
    assert (error.code, error.message, error.hint, error.exit_code) == ("new", "m", "h", ExitCode.ERROR)


def test_an_answer_that_is_too_long(data_dir: DataDir, answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 10)
    answering(b"[" + b" " * 20 + b"]")
    assert "too long" in failure(data_dir).message


def test_a_node_that_hangs_up_is_gone(data_dir: DataDir, answering: Any) -> None:
    answering(b"", "")
    error = failure(data_dir)
    assert (error.code, error.exit_code) == ("node_gone", ExitCode.NOT_RUNNING)


def test_an_answer_that_is_cut_off_means_gone(data_dir: DataDir, answering: Any) -> None:
    answering(b"")
    assert failure(data_dir).code == "node_gone"
    answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "")
    assert failure(data_dir).code == "node_gone"


def test_a_server_that_speaks_no_http_is_gone(data_dir: DataDir, answering: Any) -> None:
    answering(b"SSH-2.0\r\n", "")
    assert failure(data_dir).code == "node_gone"


def test_a_node_that_does_not_answer_in_time(data_dir: DataDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announce(data_dir, listener.getsockname()[1])
        with pytest.raises(NodeError) as raised:
            ApiClient(data_dir, timeout_s=0.05).call("work")
    assert raised.value.code == "node_timeout"
    assert "pid 7" in raised.value.hint


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "node_gone"),
        (b'{"progress": {}}\n', "node_gone"),
        (b"nonsense\n", "unexpected_answer"),
        (b"5\n", "unexpected_answer"),
        (b'{"error": {"code": "full", "message": "m", "hint": "h", "exit_code": 8}}\n', "full"),
    ],
)
def test_streams_that_do_not_end_with_a_result(data_dir: DataDir, answering: Any, body: bytes, code: str) -> None:
    answering(body)
    assert failure(data_dir, stream=True).code == code


def test_a_stream_that_is_refused(data_dir: DataDir, answering: Any) -> None:
    answering(b'{"error": {"code": "bad_token", "message": "m", "hint": "h", "exit_code": 1}}', "401 No")
    assert failure(data_dir, stream=True).code == "bad_token"


def test_a_stream_ends_with_its_result(data_dir: DataDir, answering: Any) -> None:
    answering(b'{"progress": {"n": 1}}\n{"result": 2}\n{"progress": {}}\n')
    assert list(ApiClient(data_dir).stream("work")) == [{"progress": {"n": 1}}, {"result": 2}]


@dataclass(frozen=True)
class Amount:
    """Parameters of an operation of the test."""

    amount: int


@asynccontextmanager
async def real_node(data_dir: DataDir) -> AsyncIterator[trio.Event]:
    """Serve the real local API with two operations; yields an event that is set when one is cancelled."""
    cancelled = trio.Event()

    async def double(parameters: Amount, _report: Any) -> Any:
        return {"doubled": 2 * parameters.amount}

    async def endless(_: NoParameters, report: Any) -> Any:
        try:
            while True:
                await report({"n": 1})
                await trio.sleep(0.01)
        finally:
            cancelled.set()

    table = {
        "double": Operation("double", "Double", Amount, double),
        "endless": Operation("endless", "Never ends", NoParameters, endless, streams=True),
    }
    api = LocalApi(table, "1", lambda _error: None)
    announce(data_dir, api.port, token=api.token)
    async with trio.open_nursery() as nursery:
        await nursery.start(api.run)
        yield cancelled
        nursery.cancel_scope.cancel()


async def test_calls_the_real_server(data_dir: DataDir) -> None:
    async with real_node(data_dir):
        client = ApiClient(data_dir)
        assert await trio.to_thread.run_sync(client.call, "double", {"amount": 21}) == {"doubled": 42}
        for parameters, code in (({"amount": "x"}, "bad_request"), ({}, "bad_request")):
            with pytest.raises(NodeError) as raised:
                await trio.to_thread.run_sync(client.call, "double", parameters)
            assert (raised.value.code, raised.value.exit_code) == (code, ExitCode.USAGE)
        announce(data_dir, read_endpoint(data_dir).port, token="wrong")
        with pytest.raises(NodeError) as raised:
            await trio.to_thread.run_sync(client.call, "double", {"amount": 1})
        assert raised.value.code == "bad_token"


async def test_closing_a_stream_cancels_the_operation_of_the_real_server(data_dir: DataDir) -> None:
    async with real_node(data_dir) as cancelled:

        def look_twice() -> list[Any]:
            events = ApiClient(data_dir).stream("endless")
            seen = [next(events), next(events)]
            events.close()
            return seen

        assert await trio.to_thread.run_sync(look_twice) == [{"progress": {"n": 1}}] * 2
        with trio.fail_after(5):
            await cancelled.wait()
