"""One node of a test network: its folder, its process, and what can be done to it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.processes import request_stop, running_pid, send_signal, wait_stopped, wait_until
from sovereign_devnet.program import COMMAND_TIMEOUT_S, Finished, command_line, environment, run_command
from sovereign_node.api.client import ApiClient, read_endpoint
from sovereign_node.config import load_config, save_config
from sovereign_node.datadir import DataDir
from sovereign_node.errors import ExitCode, NodeError

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
LISTEN = "/ip4/127.0.0.1/tcp/0"


class Member:
    """A device with its own data directory and, while it is up, its own process.

    Args:
        name: of the device; names its files, too.
        folder: of the whole test network.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.data_dir = DataDir(folder / "nodes" / name)
        self.log_file = folder / "logs" / f"{name}.log"
        self.kit_file = folder / "kits" / f"{name}.kit"
        self._process: subprocess.Popen[bytes] | None = None

    # --- commands --------------------------------------------------------------------------------------------

    def run(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Run ``sovereign WORDS --json`` on this device and return its document.

        Raises:
            CommandError: the command failed.
        """
        return self.attempt(*words, timeout_s=timeout_s).require_success()

    def attempt(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Finished:
        """Run ``sovereign WORDS --json`` on this device, whatever comes of it."""
        return run_command(self.data_dir.root, *words, timeout_s=timeout_s)

    def call(self, operation: str, *, timeout_s: float = COMMAND_TIMEOUT_S, **parameters: Any) -> Any:
        """Run an operation of the running node through its local API, without a process of its own.

        Args:
            operation: its name.
            timeout_s: longest wait for the answer.
            parameters: of the operation.

        Raises:
            NodeError: the node is not running, or what it answered.
        """
        return ApiClient(self.data_dir, timeout_s=timeout_s).call(operation, parameters)

    def stream(self, operation: str, **parameters: Any) -> Any:
        """Run a streaming operation through the local API and return its result."""
        *_, last = ApiClient(self.data_dir).stream(operation, parameters)
        return last["result"]

    def configure(self, **sections: dict[str, Any]) -> None:
        """Change settings of an initialised device, for example ``net={"mdns": False}``."""
        config = load_config(self.data_dir.config)
        changed = {name: replace(getattr(config, name), **values) for name, values in sections.items()}
        save_config(replace(config, **changed), self.data_dir.config)

    # --- process ---------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id while a node runs on the data directory, whoever started it."""
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        return running_pid(self.data_dir.lock_file, "up", str(self.data_dir.root))

    @property
    def is_running(self) -> bool:
        """True while a node runs on the data directory."""
        return self.pid is not None

    def start(self, bootstrap: Sequence[str] = ()) -> None:
        """Start the process; :meth:`wait_ready` tells when it serves.

        Args:
            bootstrap: addresses besides the configured ones.
        """
        if self.is_running:
            raise DevnetError(f"{self.name} is running")
        options = [word for address in bootstrap for word in ("--bootstrap", address)]
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command_line(self.data_dir.root, "up", *options, as_json=False),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                # Ctrl-C in the terminal is for the test network, which then stops its nodes in order.
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """Wait until the started node answers, and return its status.

        Raises:
            DevnetError: it ended or took too long; the message has the end of its log.
        """
        found: list[dict[str, Any]] = []
        wait_until(lambda: self._is_ready(found), timeout_s, f"starting {self.name}")
        self._keep_port(found[0]["addresses"])
        return found[0]

    def up(self, bootstrap: Sequence[str] = ()) -> dict[str, Any]:
        """Start the process, wait until it answers, and return its status."""
        self.start(bootstrap)
        return self.wait_ready()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop the node as Ctrl-C does, with SIGKILL after ``timeout_s``; True if it stopped by itself."""
        return not stop_all([self], timeout_s)

    def kill(self) -> None:
        """End the process as a power cut would, with SIGKILL, and wait for its end."""
        self._signal(signal.SIGKILL)
        wait_until(lambda: not self.is_running, 10, f"killing {self.name}")

    def pause(self) -> None:
        """Freeze the process: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def destroy(self) -> None:
        """Kill the process and delete everything that the device has on disk."""
        if self.is_running:
            self.kill()
        shutil.rmtree(self.data_dir.root)

    def address(self) -> str:
        """Return the first address of the running node."""
        return str(self.call("status")["addresses"][0])

    def log_tail(self, size: int = 2000) -> str:
        """Return the end of the log."""
        try:
            return self.log_file.read_text("utf-8", "replace")[-size:]
        except FileNotFoundError:
            return ""

    def _is_ready(self, found: list[dict[str, Any]]) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise DevnetError(f"{self.name} ended with exit code {self._process.returncode}: {self.log_tail()}")
        try:
            # A killed node leaves its file behind, which tells of a port that another one may have by now.
            if read_endpoint(self.data_dir).pid != self._process.pid:
                return False
            found.append(self.call("status"))
        except NodeError as error:
            if error.exit_code != ExitCode.NOT_RUNNING:
                raise
            return False
        return True

    def _keep_port(self, addresses: Sequence[str]) -> None:
        """Listen on the same port from now on, as a node that others know by its address does."""
        own = [address for address in addresses if "/tcp/" in address and "/p2p-circuit" not in address]
        listen = tuple(dict.fromkeys(address.partition("/p2p/")[0] for address in own))
        if listen and load_config(self.data_dir.config).net.listen != listen:
            self.configure(net={"listen": listen})

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None or not send_signal(pid, number):
            raise DevnetError(f"{self.name} is not running")


def stop_all(members: Sequence[Member], timeout_s: float = STOP_TIMEOUT_S) -> list[str]:
    """Stop nodes side by side.

    Args:
        members: also those that do not run.
        timeout_s: what each has to stop by itself.

    Returns:
        Names of those that had to be killed.
    """
    asked = [(member, pid) for member in members if (pid := member.pid) is not None]
    for _, pid in asked:
        request_stop(pid)
    return [member.name for member, pid in asked if not wait_stopped(partial(_runs, member), pid, timeout_s)]


def _runs(member: Member) -> bool:
    return member.is_running
