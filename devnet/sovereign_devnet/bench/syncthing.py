"""Syncthing as a way to have a second copy: two devices on loopback, the second one keeps only ciphertext.

It has no snapshots and no restore, so only the way there is measured: from telling the first device until it knows
that the second one has everything. Discovery, relays, port mapping, reports and upgrades are switched off before
the first start, and the watcher of the file system too, since every phase asks for a scan.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sovereign_devnet.bench.tools import PASSWORD, Tool, free_port, tool_environment, wait_port
from sovereign_devnet.bench.watch import Sample, Stopwatch, run_measured
from sovereign_devnet.processes import wait_until

_REQUEST_TIMEOUT_S = 900.0
_CONNECT_TIMEOUT_S = 90.0
_SYNC_TIMEOUT_S = 1800.0
_POLL_S = 0.1
_OPTIONS = {
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "crashReportingEnabled": "false",
    "startBrowser": "false",
    "urAccepted": "-1",
    "autoUpgradeIntervalH": "0",
    # Its pause between attempts to connect, a minute, is none of the work.
    "reconnectionIntervalS": "1",
}


class Device:
    """One running Syncthing.

    Args:
        home: for its keys, settings and database.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._key = secrets.token_hex(16)
        self._gui_port, self.port = free_port(), free_port()
        # The last one keeps it from running below a second process, which would be the one that is watched.
        environment = tool_environment() | {"STNODEFAULTFOLDER": "1", "STNOUPGRADE": "1", "STMONITORED": "1"}
        run_measured(["syncthing", "generate", "--home", str(home), "--no-default-folder"], environment)
        self._configure(home / "config.xml")
        self._log = (home / "log.txt").open("wb")
        command = ["syncthing", "serve", "--home", str(home), "--no-browser", "--no-restart", "--skip-port-probing"]
        gui = [f"--gui-address=http://127.0.0.1:{self._gui_port}", f"--gui-apikey={self._key}"]
        self.process = subprocess.Popen([*command, *gui], env=environment, stdout=self._log, stderr=self._log)
        wait_port(self._gui_port)
        self.device_id = str(self.call("GET", "system/status")["myID"])

    def _configure(self, path: Path) -> None:
        tree = ElementTree.parse(path)  # noqa: S314 - the program has just written it
        options = tree.getroot().find("options")
        assert options is not None
        for name, value in (_OPTIONS | {"listenAddress": f"tcp://127.0.0.1:{self.port}"}).items():
            for old in options.findall(name):
                options.remove(old)
            ElementTree.SubElement(options, name).text = value
        tree.write(path, "utf-8")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the program; the answer is JSON, or None if it is empty."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._gui_port}/rest/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self._key},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as answer:  # noqa: S310
            raw = answer.read()
        return json.loads(raw) if raw.strip() else None

    def know(self, other: Device) -> None:
        """Introduce another device."""
        address = f"tcp://127.0.0.1:{other.port}"
        document = {"deviceID": other.device_id, "addresses": [address]}
        self.call("PUT", f"config/devices/{other.device_id}", document)

    def is_connected(self, other: Device) -> bool:
        """Say whether another device is reached now."""
        found = self.call("GET", "system/connections")["connections"].get(other.device_id, {})
        return bool(found.get("connected"))

    def stop(self) -> None:
        """End the program."""
        self.process.terminate()
        self.process.wait()
        self._log.close()


class Syncthing:
    """Two devices that know each other.

    Args:
        near: has the corpora.
        far: gets them, encrypted.
    """

    name = "syncthing, encrypted at the second device"

    def __init__(self, near: Device, far: Device) -> None:
        self._near, self._far = near, far
        self._shared: set[str] = set()

    def backup(self, corpus: str, root: Path) -> Sample:
        """See :class:`sovereign_devnet.bench.tools.Tool`."""
        before = self._sent_bytes()
        watch = Stopwatch({"first device": self._near.process.pid, "second device": self._far.process.pid}).start()
        if corpus not in self._shared:
            self._share(corpus, root)
            self._shared.add(corpus)
        self._near.call("POST", f"db/scan?folder={corpus}")
        self._wait_complete(corpus)
        return watch.stop(self._sent_bytes() - before)

    def restore(self, corpus: str, root: Path, target: Path) -> Sample | None:
        """There is none."""
        return None

    def _share(self, corpus: str, root: Path) -> None:
        common = {"id": corpus, "fsWatcherEnabled": False, "rescanIntervalS": 0}
        with_password = [{"deviceID": self._far.device_id, "encryptionPassword": PASSWORD}]
        # A marker of its own would change the corpus for the others.
        marker = min(os.listdir(root))
        near = {"path": str(root), "type": "sendonly", "markerName": marker, "devices": with_password}
        far = {
            "path": str(self._far.home / "copies" / corpus),
            "type": "receiveencrypted",
            "devices": [{"deviceID": self._near.device_id}],
        }
        self._far.call("PUT", f"config/folders/{corpus}", common | far)
        self._near.call("PUT", f"config/folders/{corpus}", common | near)

    def _wait_complete(self, corpus: str) -> None:
        deadline = time.monotonic() + _SYNC_TIMEOUT_S
        while not self._is_complete(corpus):
            if time.monotonic() > deadline:
                raise RuntimeError(f"syncthing did not finish with {corpus}")
            time.sleep(_POLL_S)

    def _is_complete(self, corpus: str) -> bool:
        found = self._near.call("GET", f"db/completion?folder={corpus}&device={self._far.device_id}")
        if any(found[f"need{what}"] for what in ("Items", "Bytes", "Deletes")):
            return False
        # While the first device looks, it knows only a part; before both have exchanged their lists, nothing seems
        # to be needed.
        is_idle = self._near.call("GET", f"db/status?folder={corpus}")["state"] == "idle"
        return bool(is_idle and 0 < found["globalItems"] <= self._items_there(corpus))

    def _items_there(self, corpus: str) -> int:
        found = self._far.call("GET", f"db/status?folder={corpus}")
        return sum(int(found[f"local{what}"]) for what in ("Files", "Directories", "Symlinks"))

    def _sent_bytes(self) -> int:
        connections = self._near.call("GET", "system/connections")["connections"]
        return int(connections.get(self._far.device_id, {}).get("outBytesTotal", 0))


@contextmanager
def open_syncthing(folder: Path) -> Iterator[Tool]:
    """Start both devices and introduce them to each other."""
    near = Device(folder / "near")
    try:
        far = Device(folder / "far")
        try:
            near.know(far)
            far.know(near)
            wait_until(lambda: near.is_connected(far), _CONNECT_TIMEOUT_S, "the connection of the devices")
            yield Syncthing(near, far)
        finally:
            far.stop()
    finally:
        near.stop()
