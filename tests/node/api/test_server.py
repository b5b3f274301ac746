import http.client
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.api.server import LocalApi
from sovereign_node.errors import ExitCode, NodeError


@dataclass(frozen=True)
class Counted:
    count: int
    label: str | None = None


class Work:
    def __init__(self) -> None:
        self.cancelled = trio.Event()

    async def count(self, parameters: Counted, report: ReportProgress) -> Any:
        for number in range(parameters.count):
            await report({"number": number})
        return {"counted": parameters.count}

    async def refuse(self, _parameters: NoParameters, _report: ReportProgress) -> Any:
        raise NodeError("full", "no space", "make some", ExitCode.STORAGE_FULL)

    async def break_down(self, _parameters: NoParameters, _report: ReportProgress) -> Any:
        raise ZeroDivisionError

    async def echo(self, parameters: Counted, _report: ReportProgress) -> Any:
        return {"label": parameters.label}

    async def wait(self, _parameters: NoParameters, report: ReportProgress) -> Any:
        await report({})
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


@pytest.fixture
async def api() -> AsyncIterator[tuple[LocalApi, Work]]:
    work = Work()
    operations = {
        "count": Operation("count", "Count", Counted, work.count, streams=True),
        "refuse": Operation("refuse", "Refuse", NoParameters, work.refuse),
        "refuse_late": Operation("refuse_late", "Refuse", NoParameters, work.refuse, streams=True),
        "break": Operation("break", "Break", NoParameters, work.break_down),
        "echo": Operation("echo", "Echo", Counted, work.echo),
        "wait": Operation("wait", "Wait", NoParameters, work.wait, streams=True),
    }
    server = LocalApi(operations, "1.2.3", lambda _error: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server, work
        nursery.cancel_scope.cancel()


def request(
    api: LocalApi, path: str, body: str = "{}", method: str = "POST", **headers: str
) -> tuple[int, list[Any]]:
    sent = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines()]
    finally:
        connection.close()


async def ask(api: LocalApi, path: str, *arguments: Any, **headers: str) -> tuple[int, list[Any]]:
    return await trio.to_thread.run_sync(lambda: request(api, path, *arguments, **headers))


async def test_streams_progress_then_result(api: tuple[LocalApi, Work]) -> None:
    status, lines = await ask(api[0], "/api/v1/count", '{"count": 2}')
    assert status == 200
    assert lines == [{"progress": {"number": 0}}, {"progress": {"number": 1}}, {"result": {"counted": 2}}]


async def test_errors_have_one_shape_with_and_without_stream(api: tuple[LocalApi, Work]) -> None:
    expected = {"code": "full", "message": "no space", "hint": "make some", "exit_code": 8}
    assert await ask(api[0], "/api/v1/refuse") == (507, [{"error": expected}])
    assert await ask(api[0], "/api/v1/refuse_late") == (200, [{"error": expected}])


async def test_bug_does_not_show_its_text(api: tuple[LocalApi, Work]) -> None:
    status, lines = await ask(api[0], "/api/v1/break")
    assert status == 500
    assert lines[0]["error"]["code"] == "internal_error"


@pytest.mark.parametrize(
    "body",
    ['{"count": "2"}', '{"count": true}', "{}", '{"count": 1, "more": 1}', "[]", "{", '{"count":1,"label":2}'],
)
async def test_wrong_bodies_are_refused(api: tuple[LocalApi, Work], body: str) -> None:
    status, lines = await ask(api[0], "/api/v1/count", body)
    assert status == 400
    assert lines[0]["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "foreign_host"),
        ({"Origin": "http://evil.example"}, "foreign_origin"),
        ({"Sec_Fetch_Site": "cross-site"}, "foreign_origin"),
        ({"Authorization": "Bearer 00"}, "bad_token"),
    ],
)
async def test_strangers_are_refused(api: tuple[LocalApi, Work], headers: dict[str, str], code: str) -> None:
    for path, method in (("/api/v1/count", "POST"), ("/api/v1/openapi.json", "GET")):
        _, lines = await ask(api[0], path, '{"count": 1}', method, **headers)
        assert lines[0]["error"]["code"] == code


async def test_form_posts_and_huge_bodies_are_refused(api: tuple[LocalApi, Work]) -> None:
    assert (await ask(api[0], "/api/v1/count", "count=1", Content_Type="text/plain"))[0] == 400
    assert (await ask(api[0], "/api/v1/count", " " * 2_000_000))[0] == 400


async def test_a_stranger_holds_no_connection_with_an_endless_body(api: tuple[LocalApi, Work]) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", api[0].port)
    await stream.send_all(
        f"POST /api/v1/count HTTP/1.1\r\nHost: 127.0.0.1:{api[0].port}\r\nContent-Length: 100000\r\n\r\n{{".encode()
    )
    received = b""
    with trio.fail_after(3):
        while part := await stream.receive_some():
            received += part
    assert b"401" in received.splitlines()[0]
    await stream.aclose()


async def test_a_body_nested_too_deep_is_refused(api: tuple[LocalApi, Work]) -> None:
    status, lines = await ask(api[0], "/api/v1/count", "[" * 100_000)
    assert (status, lines[0]["error"]["code"]) == (400, "bad_request")


async def test_bytes_that_are_not_utf8_come_back(api: tuple[LocalApi, Work]) -> None:
    status, lines = await ask(api[0], "/api/v1/echo", '{"count": 1, "label": "/a/\\udcff"}')
    assert (status, lines[0]) == (200, {"label": "/a/\udcff"})


async def test_reading_changes_nothing_and_a_websocket_is_no_way_in(api: tuple[LocalApi, Work]) -> None:
    headers = f"Host: 127.0.0.1:{api[0].port}\r\nAuthorization: Bearer {api[0].token}\r\n"
    key = "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
    for extra, code in (
        ("", b"405"),
        (f"Upgrade: websocket\r\nConnection: Upgrade\r\n{key}", b"403"),
        (f"Upgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://evil.example\r\n{key}", b"403"),
    ):
        stream = await trio.open_tcp_stream("127.0.0.1", api[0].port)
        await stream.send_all(f"GET /api/v1/count HTTP/1.1\r\n{headers}{extra}\r\n".encode())
        with trio.fail_after(3):
            assert code in (await stream.receive_some()).splitlines()[0]
        await stream.aclose()


@pytest.mark.parametrize(
    "path", ["/api/v1/../../etc/passwd", "/etc/passwd", "/api/v1/count/..%2f..", "//count", "/"]
)
async def test_paths_lead_nowhere_else(api: tuple[LocalApi, Work], path: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", api[0].port)
    await stream.send_all(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{api[0].port}\r\nAuthorization: Bearer {api[0].token}\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    with trio.fail_after(3):
        assert b"404" in (await stream.receive_some()).splitlines()[0]
    await stream.aclose()


async def test_unknown_operation(api: tuple[LocalApi, Work]) -> None:
    assert (await ask(api[0], "/api/v1/nothing"))[0] == 404


async def test_client_that_hangs_up_cancels_the_work(api: tuple[LocalApi, Work]) -> None:
    server, work = api
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    await stream.send_all(
        f"POST /api/v1/wait HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".encode()
    )
    received = b""
    while b"progress" not in received:
        received += await stream.receive_some()
    await stream.aclose()
    with trio.fail_after(5):
        await work.cancelled.wait()


async def test_openapi_lists_every_operation(api: tuple[LocalApi, Work]) -> None:
    status, lines = await ask(api[0], "/api/v1/openapi.json", "", "GET")
    assert status == 200
    schema = lines[0]["paths"]["/api/v1/count"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["count"]
    assert schema["properties"]["label"] == {"type": "string", "nullable": True}


async def test_taken_port_is_named(api: tuple[LocalApi, Work]) -> None:
    with pytest.raises(NodeError, match="taken"):
        LocalApi({}, "1", lambda _error: None, port=api[0].port)
