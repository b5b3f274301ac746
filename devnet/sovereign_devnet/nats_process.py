"""A nats-server of a test network: started and stopped like its nodes, and found again by other terminals.

nats.pid      its process id
nats.port     TCP port, the same whenever the network is started again
logs/nats.log what it printed
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.nats_server import READY, find_nats_server, port_in_log
from sovereign_devnet.processes import POLL_S, request_stop, running_pid, wait_stopped

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0

# Runs a function where the server is to live, for instance inside a network namespace.
Place = Callable[[Callable[[], Any]], Any]


class NatsProcess:
    """The server; started at once, and can be stopped and started again on its port.

    Args:
        folder: of the test network.
        address: IP address to listen on.
        place: runs the function that starts the process.

    Raises:
        DevnetError: it does not start.
    """

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", place: Place = lambda function: function()
    ) -> None:
        self._folder = folder
        self._address = address
        self._place = place
        self._log_file = folder / "logs" / "nats.log"
        self._port = _read_port(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where nodes find it."""
        return f"nats://{self._address}:{self._port}"

    def start(self) -> None:
        """Start the server and wait until it serves.

        Raises:
            DevnetError: it ended or took too long.
        """
        stop_leftover(self._folder)
        try:
            program = find_nats_server()
        except FileNotFoundError as error:
            raise DevnetError(str(error)) from error
        words = [program, "-a", self._address, "-p", str(self._port), "-P", str(_pid_file(self._folder))]
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("wb") as log:
            # Ctrl-C in the terminal is for the test network, whose nodes stop before their server.
            launch = partial(
                subprocess.Popen, words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._process = self._place(launch)
        deadline = time.monotonic() + START_TIMEOUT_S
        while READY not in (printed := self._log_file.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise DevnetError(f"nats-server did not start: {printed[-500:].decode(errors='replace')}")
            time.sleep(POLL_S)
        self._port = port_in_log(printed)
        (self._folder / "nats.port").write_text(f"{self._port}\n", "ascii")

    def stop(self) -> None:
        """Stop the server; nothing happens if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def has_nats(folder: Path) -> bool:
    """Tell whether the nodes in a folder are configured for a NATS server."""
    return _read_port(folder) != -1


def stop_leftover(folder: Path) -> bool:
    """Stop the server of a network whose terminal is gone; returns whether there was one."""
    pid_file = _pid_file(folder)
    is_running = partial(running_pid, pid_file, str(pid_file))
    pid = is_running()
    if pid is None:
        return False
    request_stop(pid)
    wait_stopped(lambda: is_running() is not None, pid, STOP_TIMEOUT_S)
    return True


def _pid_file(folder: Path) -> Path:
    return folder.absolute() / "nats.pid"


def _read_port(folder: Path) -> int:
    """Return the port of before; -1 lets the server choose one."""
    try:
        return int((folder / "nats.port").read_text("ascii"))
    except FileNotFoundError:
        return -1
