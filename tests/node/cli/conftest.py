"""A node that answers from a table over real HTTP, and a way to run the command line against it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sovereign_node.cli.main import main
from sovereign_node.datadir import DataDir, write_private_file

TOKEN = "5e" * 32


@dataclass
class FakeNode:
    """Answers operations with canned results and remembers what was asked.

    Args:
        data_dir: directory in which the endpoint file lies.
        server: the HTTP server.
    """

    data_dir: DataDir
    server: ThreadingHTTPServer
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def announce(self, **changes: Any) -> None:
        """Write the endpoint file."""
        document = {
            "url": f"http://127.0.0.1:{self.server.server_port}",
            "token": TOKEN,
            "pid": 4242,
            "version": "0.1.0",
            **changes,
        }
        write_private_file(self.data_dir.api_file, json.dumps(document).encode())

    def fail(self, operation: str, code: str, exit_code: int, status: int = 400) -> None:
        """Let an operation end with an error."""
        error = {"code": code, "message": f"{code} happened", "hint": f"do not {code}", "exit_code": exit_code}
        self.answers[operation] = (status, {"error": error})

    def stream(self, operation: str, *events: dict[str, Any]) -> None:
        """Let an operation answer with events."""
        self.answers[operation] = list(events)


class _Handler(BaseHTTPRequestHandler):
    node: FakeNode

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.path.removeprefix("/api/v1/")
        self.node.calls.append((operation, body))
        self.node.headers.append(dict(self.headers))
        answer = self.node.answers[operation]
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, bytes):
            self._send(200, "application/json", answer)
        elif isinstance(answer, tuple):
            self._send(answer[0], "application/json", json.dumps(answer[1]).encode())
        elif isinstance(answer, list) and answer and set(answer[0]) <= {"progress", "message", "result", "error"}:
            lines = b"".join(json.dumps(event).encode() + b"\n" for event in answer)
            self._send(200, "application/x-ndjson", lines)
        else:
            self._send(200, "application/json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        return


@pytest.fixture
def initialised(tmp_path: Path) -> DataDir:
    """A data directory that looks like a device's, without a running node."""
    data_dir = DataDir(tmp_path / "data")
    data_dir.create()
    data_dir.config.write_text('name = "laptop"\n')
    return data_dir


@pytest.fixture
def node(initialised: DataDir) -> Iterator[FakeNode]:
    """A running fake node."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    fake = FakeNode(initialised, server)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"node": fake})  # type: ignore[misc]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.announce()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, initialised: DataDir
) -> Callable[..., Outcome]:
    """Run ``sovereign`` with the given words on the test's data directory."""
    monkeypatch.setenv("SOVEREIGN_DATA_DIR", str(initialised.root))

    def run(*words: str) -> Outcome:
        code = main(words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
