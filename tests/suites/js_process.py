"""A js-libp2p peer in a process of its own, driven by JSON lines on its standard input and output."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

COMMAND_TIMEOUT_S = 30


class JsError(Exception):
    """What a command of the JavaScript peer ended with."""


class JsPeer:
    """The process."""

    def __init__(self, process: trio.Process, seed: bytes) -> None:
        self._process = process
        self._received = b""
        self._answers: dict[int, Any] = {}
        self._last_id = 0
        self._reading = trio.Lock()
        self.seed = seed
        self.peer_id = ""
        self.addresses: list[str] = []

    async def call(self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S, **options: Any) -> Any:
        """Run one command and return its result; several may run at once."""
        assert self._process.stdin is not None
        self._last_id += 1
        number = self._last_id
        line = json.dumps({"id": number, "command": command, **options})
        with trio.fail_after(timeout_s):
            await self._process.stdin.send_all(line.encode() + b"\n")
            while number not in self._answers:
                async with self._reading:
                    if number not in self._answers:
                        await self._read_line()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise JsError(answer["error"])
        return answer["result"]

    async def _read_line(self) -> None:
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            data = await self._process.stdout.receive_some()
            if not data:
                raise JsError("the process ended")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        answer = json.loads(line)
        self._answers[answer["id"]] = answer


JsPeers = Callable[..., AbstractAsyncContextManager[JsPeer]]
