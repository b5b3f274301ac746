"""Programs besides nodes that run in a namespace."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.nats_server import find_nats_server
from sovereign_devnet.topology.namespace import Namespace

NATS_PORT = 4222
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.05


class HostedNats:
    """A nats-server on a host; starts at once and can be stopped and started again.

    Args:
        host: where it runs.
        address: IP address of the host.
        log_file: takes what it prints.
    """

    def __init__(self, host: Namespace, address: str, log_file: Path) -> None:
        self._host = host
        self._address = address
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"nats://{address}:{NATS_PORT}"
        self.start()

    def start(self) -> None:
        """Start the server and wait until it serves.

        Raises:
            DevnetError: it ended or took too long.
        """
        words = [find_nats_server(), "-a", self._address, "-p", str(NATS_PORT)]
        with self._log_file.open("wb") as log:
            self._process = self._host.inside(
                lambda: subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while b"Server is ready" not in self._log_file.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise DevnetError(
                    f"nats-server did not start: {self._log_file.read_text('utf-8', 'replace')[-500:]}"
                )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop the server; nothing happens if it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
