"""``sovereign devices`` and ``device revoke``: the devices of this identity."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.application import device as group
from sovereign_node.cli.output import Cell, escape, short_id, table
from sovereign_node.cli.parameters import PassphraseCommandOption, PassphraseFileOption
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_age, format_time


@command(app, "devices")
def devices(session: Session) -> None:
    """List your devices: type, online or last seen, id."""
    now = int(time.time())
    session.show(session.call("devices"), lambda found: _list(found, now))


@command(group, "revoke")
def revoke(
    session: Session,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name, id or beginning of the id.")],
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
) -> None:
    """Remove a device from your identity; needs the passphrase."""
    from sovereign_node.cli.passphrase import read_passphrase

    passphrase = read_passphrase(passphrase_file, passphrase_command, new=False, purpose="Passphrase")
    answer = session.call("device_revoke", device=device, passphrase=passphrase)
    session.report(answer, lambda _: [f"{escape(device)} is revoked: it can no longer act for you."])


@command(group, "renew")
def renew(
    session: Session,
    kit_file: Annotated[
        Path | None,
        typer.Option("--kit-file", metavar="FILE", help="The recovery kit, where this device has no passphrase."),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
) -> None:
    """Certify this device for another year; needs the passphrase or the recovery kit."""
    if kit_file is not None:
        from sovereign_node.cli.kit import parse_kit, read_kit_text

        secret = {"kit": parse_kit(read_kit_text(kit_file))[0].to_groups()}
    else:
        from sovereign_node.cli.passphrase import read_passphrase

        secret = {
            "passphrase": read_passphrase(passphrase_file, passphrase_command, new=False, purpose="Passphrase")
        }
    answer = session.call("device_renew", **secret)
    session.report(answer, lambda done: [f"This device is certified until {format_time(done['valid_until'])}."])


def _list(found: list[dict[str, Any]], now: int) -> Iterator[Any]:
    yield table(["!DEVICE", "NAME", "TYPE", "ROLES", "STATE", "LAST SEEN"], (_row(item, now) for item in found))


def _row(item: dict[str, Any], now: int) -> list[Cell]:
    last_seen = item.get("last_seen")
    this = " (this one)" if item.get("this_device") else ""
    return [
        short_id(item.get("peer_id") or item["device_id"]),
        item["name"] + this,
        item.get("type") or "-",
        ", ".join(item.get("roles") or ()) or "-",
        _state(item),
        "now" if item.get("is_online") else format_age(last_seen, now) if last_seen else "never",
    ]


def _state(item: dict[str, Any]) -> Cell:
    if item.get("revoked_at"):
        return "revoked", "red"
    return ("online", "green") if item.get("is_online") else ("offline", "dim")
