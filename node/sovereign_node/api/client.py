"""Client of the local API, made of the standard library only, because commands must start fast.

The endpoint is found through the file that a running node leaves in its data directory. Every call opens one
connection; closing it while an operation streams cancels that operation in the node.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sovereign_node.datadir import DataDir, default_data_dir, read_private_file
from sovereign_node.errors import ExitCode, NodeError

if TYPE_CHECKING:
    from http.client import HTTPResponse

MAX_ANSWER_BYTES = 256 * 1024 * 1024  # a listing of a million files has about 150 MB
MAX_LINE_BYTES = MAX_ANSWER_BYTES
CALL_TIMEOUT_S = 300.0  # opening a contract or reading a far snapshot waits for other peers

_LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Endpoint:
    """Where a running node listens.

    Args:
        host: loopback address.
        port: TCP port.
        token: secret of this run of the node.
        pid: process id of the node.
        version: version of the node.
    """

    host: str
    port: int
    token: str = field(repr=False)
    pid: int
    version: str


def command_for(data_dir: DataDir, command: str) -> str:
    """Return the command line ``sovereign COMMAND`` for ``data_dir``, to be shown in hints."""
    if data_dir.root == default_data_dir():
        return f"sovereign {command}"
    return f"sovereign {command} --data-dir {shlex.quote(str(data_dir.root))}"


def not_running(data_dir: DataDir) -> NodeError:
    """The error for a data directory without a running node."""
    return NodeError(
        "not_running",
        f"no node is running on {data_dir.root}",
        f"start it with: {command_for(data_dir, 'up')}",
        ExitCode.NOT_RUNNING,
    )


def read_endpoint(data_dir: DataDir) -> Endpoint:
    """Find the running node of ``data_dir``.

    Raises:
        NodeError: nothing was set up here, no node runs, or its file is damaged or not on loopback.
    """
    try:
        raw = read_private_file(data_dir.api_file)
    except (FileNotFoundError, NotADirectoryError):
        _require_initialised(data_dir)
        raise not_running(data_dir) from None
    except OSError as error:
        raise NodeError(
            "api_file_unreadable",
            f"{data_dir.api_file} cannot be read: {error.strerror}",
            "run the command as the user who runs the node",
        ) from error
    endpoint = _parse_endpoint(data_dir, raw)
    # The token and passphrases go to this address, so it must never be anywhere but here.
    if endpoint.host not in _LOOPBACK_HOSTS or not endpoint.port:
        raise NodeError(
            "api_not_loopback",
            f"{data_dir.api_file} does not name an address of this machine",
            f"delete it and restart the node: {command_for(data_dir, 'up')}",
        )
    return endpoint


def _parse_endpoint(data_dir: DataDir, raw: bytes) -> Endpoint:
    try:
        document = json.loads(raw)
        address = urlsplit(str(document["url"]))
        return Endpoint(
            host=str(address.hostname) if address.scheme == "http" else "",
            port=int(address.port or 0),
            token=str(document["token"]),
            pid=int(document["pid"]),
            version=str(document["version"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NodeError(
            "api_file_damaged",
            f"{data_dir.api_file} is damaged",
            f"restart the node: {command_for(data_dir, 'up')}",
        ) from error


def _require_initialised(data_dir: DataDir) -> None:
    if data_dir.is_initialised():
        return
    raise NodeError(
        "not_initialised",
        f"there is no Sovereign device in {data_dir.root}",
        f"create one with `{command_for(data_dir, 'init')}`,"
        f" or bring an identity back with `{command_for(data_dir, 'join')}`",
    )


class ApiClient:
    """Calls operations of the node that runs on one data directory.

    Args:
        data_dir: its data directory.
        timeout_s: longest wait for an answer of an operation that does not stream.
    """

    def __init__(self, data_dir: DataDir, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._data_dir = data_dir
        self._timeout_s = timeout_s

    def call(self, operation: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run an operation and return its result.

        Args:
            operation: name in the table of operations.
            parameters: its parameters; those that are None are left out.

        Raises:
            NodeError: the node is not running, or what it answered.
        """
        with self._request(operation, parameters, self._timeout_s) as response:
            raw = response.read(MAX_ANSWER_BYTES + 1)
            if len(raw) > MAX_ANSWER_BYTES:
                raise _unexpected_answer("it is too long")
            if not raw or response.length:  # bytes that were announced and have not come
                raise self._gone()
            document = _parse(raw)
            if response.status != 200:
                raise _error_of(document)
            return document

    def stream(
        self, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Run a streaming operation; yield its events, the last of which is ``{"result": ...}``.

        Closing the generator drops the connection, which cancels the operation.

        Raises:
            NodeError: as :meth:`call`, also after some progress.
        """
        with self._request(operation, parameters, None) as response:
            if response.status != 200:
                raise _error_of(_parse(response.read(MAX_LINE_BYTES)))
            while line := response.readline(MAX_LINE_BYTES):
                event = _parse(line)
                if not isinstance(event, dict):
                    raise _unexpected_answer("it is not an event")
                if "error" in event:
                    raise _error_of(event)
                yield event
                if "result" in event:
                    return
            raise self._gone()

    @contextmanager
    def _request(
        self, operation: str, parameters: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Iterator[HTTPResponse]:
        import http.client  # pulls in ssl and email, which no help page needs

        endpoint = read_endpoint(self._data_dir)
        body = {name: value for name, value in (parameters or {}).items() if value is not None}
        headers = {"Authorization": f"Bearer {endpoint.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_s)
        try:
            connection.request("POST", f"/api/v1/{operation}", json.dumps(body).encode(), headers)
            with connection.getresponse() as response:
                yield response
        except ConnectionRefusedError as error:
            raise not_running(self._data_dir) from error
        except TimeoutError as error:
            raise NodeError(
                "node_timeout",
                f"the node did not answer within {timeout_s:.0f} s",
                f"look at the output of the node (pid {endpoint.pid}), or restart it",
            ) from error
        except (ConnectionError, http.client.HTTPException) as error:
            raise self._gone() from error
        finally:
            connection.close()

    def _gone(self) -> NodeError:
        return NodeError(
            "node_gone",
            "the node stopped before it had answered",
            f"start it again with: {command_for(self._data_dir, 'up')}",
            ExitCode.NOT_RUNNING,
        )


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise _unexpected_answer("it is not JSON") from error


def _error_of(document: Any) -> NodeError:
    try:
        error = document["error"]
        code, message, hint = (str(error[name]) for name in ("code", "message", "hint"))
        number = int(error["exit_code"])
    except (KeyError, TypeError, ValueError):
        return _unexpected_answer("it is not an error document")
    try:
        exit_code = ExitCode(number)
    except ValueError:
        exit_code = ExitCode.ERROR  # a newer node may know codes that this program does not
    return NodeError(code, message, hint, exit_code)


def _unexpected_answer(reason: str) -> NodeError:
    return NodeError(
        "unexpected_answer",
        f"the answer of the node is not understood: {reason}",
        "the node may be of another version: restart it with `sovereign down` and `sovereign up`",
    )
