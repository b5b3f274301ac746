"""``sovereign service``: a service of your user account that runs the node, for systemd and launchd."""

import html
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import service as group
from sovereign_node.cli.output import escape
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import NodeError

SYSTEMD_NAME = "sovereign.service"
LAUNCHD_LABEL = "network.sovereign.node"


@dataclass(frozen=True)
class Unit:
    """A service file and the commands that use it.

    Args:
        path: where the service manager looks for it.
        text: its content.
        start: commands that enable and start it.
        stop: commands that stop and disable it.
        query: words of the command whose success means that it runs.
    """

    path: Path
    text: str
    start: tuple[str, ...]
    stop: tuple[str, ...]
    query: tuple[str, ...]


@command(group, "install")
def install(
    session: Session,
    write: Annotated[bool, typer.Option("--write", help="Write the file instead of printing it.")] = False,
) -> None:
    """Print a service file for this data directory, or write it with --write."""
    unit = unit_for(sys.platform, Path.home(), session.data_dir.root)
    if write:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text, "utf-8")
        session.note(f"start it with: {' && '.join(unit.start)}")
    document = {"path": str(unit.path), "written": write, "content": unit.text, "start": list(unit.start)}
    session.show(document, lambda _: [f"Written: {escape(str(unit.path))}"] if write else [unit.text.rstrip()])


@command(group, "uninstall")
def uninstall(
    session: Session,
    write: Annotated[bool, typer.Option("--write", help="Delete the file instead of saying what to do.")] = False,
) -> None:
    """Say how to remove the service, or delete its file with --write."""
    unit = unit_for(sys.platform, Path.home(), session.data_dir.root)
    if write:
        unit.path.unlink(missing_ok=True)
    document = {"path": str(unit.path), "removed": write, "stop": list(unit.stop)}
    session.show(document, lambda _: _removed(unit, removed=write))


@command(group, "status")
def status(session: Session) -> None:
    """Tell whether the service file exists and whether the service runs."""
    unit = unit_for(sys.platform, Path.home(), session.data_dir.root)
    document = {"path": str(unit.path), "installed": unit.path.exists(), "running": _succeeds(unit.query)}
    session.show(document, _status)


def unit_for(platform: str, home: Path, data_dir: Path) -> Unit:
    """Return the service for a platform.

    Args:
        platform: as ``sys.platform``.
        home: home directory of the user.
        data_dir: data directory of the node.

    Raises:
        NodeError: the platform has neither systemd nor launchd.
    """
    words = [sys.executable, "-m", "sovereign_node.cli.main", "up", "--data-dir", str(data_dir)]
    if platform == "darwin":
        return _launchd(home, words)
    if platform.startswith("linux"):
        return _systemd(home, words)
    raise NodeError(
        "no_service_manager", f"services are not supported on {platform}", "run `sovereign up` yourself"
    )


def _systemd(home: Path, words: list[str]) -> Unit:
    # In unit files % begins a specifier and $ a variable, also inside quotes.
    quoted = " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in words)
    text = f"""\
[Unit]
Description=Sovereign storage node
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={quoted}
KillSignal=SIGINT
TimeoutStopSec=15
Restart=on-failure
RestartSec=5
NoNewPrivileges=true

[Install]
WantedBy=default.target
"""
    path = home / ".config" / "systemd" / "user" / SYSTEMD_NAME
    name = SYSTEMD_NAME.removesuffix(".service")
    return Unit(
        path,
        text,
        ("systemctl --user daemon-reload", f"systemctl --user enable --now {name}", "loginctl enable-linger"),
        (f"systemctl --user disable --now {name}",),
        ("systemctl", "--user", "is-active", "--quiet", name),
    )


def _launchd(home: Path, words: list[str]) -> Unit:
    arguments = "\n".join(f"    <string>{html.escape(word, quote=False)}</string>" for word in words)
    text = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{LAUNCHD_LABEL}</string>
  <key>ProgramArguments</key>
  <array>
{arguments}
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
</dict>
</plist>
"""
    path = home / "Library" / "LaunchAgents" / f"{LAUNCHD_LABEL}.plist"
    quoted = shlex.quote(str(path))
    return Unit(
        path,
        text,
        (f"launchctl load -w {quoted}",),
        (f"launchctl unload -w {quoted}",),
        ("launchctl", "list", LAUNCHD_LABEL),
    )


def _succeeds(words: tuple[str, ...]) -> bool:
    try:
        finished = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return finished.returncode == 0


def _removed(unit: Unit, *, removed: bool) -> Iterator[str]:
    yield f"First stop it: {' && '.join(unit.stop)}" if not removed else f"Deleted: {escape(str(unit.path))}"
    if not removed:
        yield f"Then delete {escape(str(unit.path))}, or run this command with --write"


def _status(document: dict[str, Any]) -> Iterator[str]:
    if not document["installed"]:
        yield "Not installed. Install it with: sovereign service install --write"
        return
    yield f"{'Running' if document['running'] else 'Installed, not running'}: {escape(document['path'])}"
