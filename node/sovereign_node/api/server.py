"""HTTP server of the local API: Starlette under Hypercorn's trio worker, loopback only.

Every request needs the token that only the owner of the data directory can read, a Host header that names this
loopback address (against DNS rebinding), and, where a browser sends them, an Origin and Sec-Fetch-Site of our own
(against pages that post to localhost).
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sovereign_node.api.operations import Operation, error_document, openapi_document, parse_parameters
from sovereign_node.errors import ExitCode, NodeError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024

HTTP_STATUS = {
    ExitCode.USAGE: 400,
    ExitCode.NOT_FOUND: 404,
    ExitCode.CANNOT_UNLOCK: 403,
    ExitCode.UNREACHABLE: 502,
    ExitCode.STORAGE_FULL: 507,
}


class LocalApi:
    """Serves a table of operations on 127.0.0.1.

    Args:
        operations: name to operation.
        version: version of the program.
        translate: turns any exception of an operation into a NodeError, or returns None for a bug.
        port: TCP port; 0 picks a free one.
        extra_routes: further routes (the dashboard), behind the same Host check.
    """

    def __init__(
        self,
        operations: dict[str, Operation],
        version: str,
        translate: Callable[[Exception], NodeError | None],
        port: int = 0,
        extra_routes: list[Route] | None = None,
    ) -> None:
        self._operations = operations
        self._version = version
        self._translate = translate
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            raise NodeError(
                "api_port_taken",
                f"port {port} of 127.0.0.1 is taken",
                "choose another with --api-port, or 0 for any free one",
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self.token = secrets.token_hex(32)
        self._routes = extra_routes or []

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        app = Starlette(
            routes=[
                Route("/api/v1/openapi.json", self._openapi, methods=["GET"]),
                Route("/api/v1/{operation}", self._operation, methods=["POST"]),
                *self._routes,
            ]
        )
        guarded = _HostGuard(app, self.port)
        config = HypercornConfig()
        config.bind = [f"fd://{self._socket.detach()}"]
        config.accesslog = None
        config.errorlog = None
        config.graceful_timeout = 0.5
        config.shutdown_timeout = 0.5
        config.include_server_header = False
        await serve(
            guarded,
            config,
            shutdown_trigger=trio.sleep_forever,
            task_status=task_status,
        )

    async def _openapi(self, request: Request) -> Response:
        refused = self._refuse(request)
        return refused or JSONResponse(openapi_document(self._operations, self._version))

    async def _operation(self, request: Request) -> Response:
        refused = self._refuse(request)
        if refused:
            return refused
        try:
            operation = self._operations.get(request.path_params["operation"])
            if operation is None:
                raise NodeError("unknown_operation", "no such operation", "", ExitCode.NOT_FOUND)
            parameters = parse_parameters(operation.parameters, await _read_json(request))
            if operation.streams:
                return _ProgressResponse(operation, parameters, self._explain)
            result = await operation.run(parameters, _ignore_progress)
            return _Document(result, headers=_HEADERS)
        except Exception as error:  # noqa: BLE001 - the boundary: every failure becomes one error document
            problem = self._explain(error)
            status = HTTP_STATUS.get(problem.exit_code, 500)
            return _Document(error_document(problem), status, headers=_HEADERS)

    def _explain(self, error: Exception) -> NodeError:
        if isinstance(error, NodeError):
            return error
        known = self._translate(error)
        if known is not None:
            return known
        log.error("operation_failed", exc_info=error)
        return NodeError("internal_error", "the node met an unexpected error", "see the output of `sovereign up`")

    def _refuse(self, request: Request) -> Response | None:
        origin = request.headers.get("origin")
        if origin is not None and origin not in (self.url, f"http://localhost:{self.port}"):
            return _refusal("foreign_origin", "requests of other web pages are refused")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refusal("foreign_origin", "requests of other web pages are refused")
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return _refusal("bad_token", "the token is missing or wrong", 401)
        return None


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Document(JSONResponse):
    """JSON in ASCII: paths may hold bytes that are not UTF-8, which Python carries as lone surrogates."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class _HostGuard:
    """Refuses requests whose Host header is not this loopback address."""

    def __init__(self, app: Callable[..., Awaitable[None]], port: int) -> None:
        self._app = app
        self._allowed = {f"{host}:{port}".encode() for host in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"host") not in self._allowed:
            await _refusal("foreign_host", "the Host header must name this machine")(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refusal(code: str, message: str, status: int = 403) -> Response:
    # Closed at once: whoever may not ask must not hold a connection with a body that never ends.
    return _Document(error_document(NodeError(code, message)), status, headers=_HEADERS | {"Connection": "close"})


async def _read_json(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise NodeError("bad_request", "the content type must be application/json", "", ExitCode.USAGE)
    body = bytearray()
    try:
        async with aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise NodeError("bad_request", "the request is too large", "", ExitCode.USAGE)
    except ClientDisconnect as error:
        raise NodeError("bad_request", "the request ends too early", "", ExitCode.USAGE) from error
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise NodeError("bad_request", "the body is not JSON", "", ExitCode.USAGE) from error


async def _ignore_progress(_progress: dict[str, Any]) -> None:
    return


class _ProgressResponse(Response):
    """Runs a streaming operation and sends its progress; a client that hangs up cancels the operation."""

    media_type = "application/x-ndjson"

    def __init__(self, operation: Operation, parameters: Any, explain: Callable[[Exception], NodeError]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._operation = operation
        self._parameters = parameters
        self._explain = explain

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def send_line(document: dict[str, Any], more: bool = True) -> None:
            body = json.dumps(document).encode() + b"\n"
            await send({"type": "http.response.body", "body": body, "more_body": more})

        async def report(progress: dict[str, Any]) -> None:
            await send_line({"progress": progress})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
            try:
                document = {"result": await self._operation.run(self._parameters, report)}
            except Exception as error:  # noqa: BLE001 - the boundary: every failure becomes one error document
                document = error_document(self._explain(error))
            await send_line(document, more=False)
            nursery.cancel_scope.cancel()


async def _cancel_on_disconnect(receive: Any, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
