"""Network namespaces: made and removed with `ip`, entered by threads of this process."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from sovereign_devnet.errors import DevnetError

Result = TypeVar("Result")

PREFIX = "svd"
_CLONE_NEWNET = 0x40000000
_TOOLS = {"ip": "iproute2", "nft": "nftables"}
_TUN = Path("/dev/net/tun")
_FOLDER = Path("/run/netns")
_TIMEOUT_S = 20.0


def missing_requirement() -> str:
    """Say in one sentence why no namespaces can be made here; empty if they can."""
    if os.name != "posix" or not Path("/proc/self/ns/net").exists():
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root"
    packages = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if packages:
        return f"network namespaces need these packages: {', '.join(packages)}"
    if not _TUN.exists():
        return f"cables between network namespaces need {_TUN}"
    return _refusal()


@cache
def _refusal() -> str:
    """Try what a topology needs: root in a container may lack the right, or the kernel a module."""
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
        namespace = Namespace("trial")
        try:
            namespace.nft(
                "table ip trial { chain out { type nat hook postrouting priority srcnat; masquerade; }; }"
            )
        finally:
            namespace.remove()
    except (DevnetError, OSError) as error:
        return f"network namespaces can't be made here: {error}"
    return ""


def run(*words: str, script: str = "") -> str:
    """Run a program to its end and return what it printed.

    Args:
        words: program and arguments.
        script: what it reads from standard input.

    Raises:
        DevnetError: it failed.
    """
    done = subprocess.run(words, input=script, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise DevnetError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Namespace:
    """One network namespace, with its loopback interface up.

    Args:
        name: short; the real name also holds the id of this process, so that runs do not meet.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.full_name = f"{PREFIX}{os.getpid()}-{name}"
        run("ip", "netns", "add", self.full_name)
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    def ip(self, *words: str) -> str:
        """Run `ip` inside."""
        return run("ip", "-n", self.full_name, *words)

    def nft(self, script: str) -> None:
        """Load a ruleset inside."""
        run("ip", "netns", "exec", self.full_name, "nft", "-f", "-", script=script)

    def forward(self) -> None:
        """Pass packets on between interfaces, as a router does."""
        self.inside(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n", encoding="ascii"))

    def inside(self, function: Callable[[], Result]) -> Result:
        """Run a function in a thread whose sockets and child processes belong to this namespace."""
        outcome: list[Result] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                _enter(_FOLDER / self.full_name)
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter, name=self.full_name)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return outcome[0]

    def remove(self) -> None:
        """Remove the namespace and all interfaces in it; nothing happens if it is gone."""
        subprocess.run(["ip", "netns", "del", self.full_name], capture_output=True, timeout=_TIMEOUT_S, check=False)


def connect_by_veth(one: tuple[Namespace, str], other: tuple[Namespace, str]) -> None:
    """Plug a cable between two namespaces, each given with the name of its interface; both ends are up."""
    run(
        *("ip", "link", "add", one[1], "netns", one[0].full_name, "type", "veth"),
        *("peer", "name", other[1], "netns", other[0].full_name),
    )
    for namespace, interface in (one, other):
        namespace.ip("link", "set", interface, "up")


def remove_leftovers(names: Sequence[str] | None = None) -> list[str]:
    """Remove namespaces of runs whose process has ended, as after SIGKILL.

    Args:
        names: of all namespaces; those of this machine if None.

    Returns:
        The names of those removed.
    """
    found = names if names is not None else [path.name for path in _FOLDER.iterdir()] if _FOLDER.exists() else []
    removed = []
    for name in found:
        pid, separator, _ = name.removeprefix(PREFIX).partition("-")
        if name.startswith(PREFIX) and separator and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=_TIMEOUT_S, check=False)
            removed.append(name)
    return removed


def _enter(path: Path) -> None:
    """Move the calling thread into a namespace; Python has `os.setns` only from 3.12 on."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if library.setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
