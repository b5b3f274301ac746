"""``sovereign join``: bring an identity back on a new device with its recovery kit."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign_node.api.client import command_for
from sovereign_node.cli.application import app
from sovereign_node.cli.commands.init import default_name
from sovereign_node.cli.output import escape, facts, styled, table
from sovereign_node.cli.parameters import (
    BootstrapOption,
    ListenOption,
    NameOption,
    NatsOption,
    PassphraseCommandOption,
    PassphraseFileOption,
    RoleOption,
)
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode, NodeError

if TYPE_CHECKING:
    from sovereign_crypto.recovery import RecoveryKit
    from sovereign_node.services.setup import DeviceOptions


@command(app, "join")
def join(
    session: Session,
    kit_file: Annotated[
        Path | None, typer.Option("--kit-file", metavar="FILE", help="The recovery kit; typed without it.")
    ] = None,
    name: NameOption = None,
    role: RoleOption = None,
    bootstrap: BootstrapOption = None,
    listen: ListenOption = None,
    nats: NatsOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
    no_passphrase_slot: Annotated[
        bool,
        typer.Option("--no-passphrase-slot", help="Keep no passphrase here; later acts of the owner need the kit."),
    ] = False,
) -> None:
    """Bring an identity back on this new device."""
    if session.data_dir.is_initialised():
        raise NodeError(
            "already_initialised",
            f"{session.data_dir.root} holds a device already",
            "choose another --data-dir",
            ExitCode.IN_USE,
        )
    from sovereign_node.cli.kit import parse_kit, read_kit_text

    kit, hints = parse_kit(read_kit_text(kit_file))
    passphrase = _passphrase(session, passphrase_file, passphrase_command, none=no_passphrase_slot)
    # The network stack takes a second to load: only now, when nothing can be wrong with the command line.
    from sovereign_node.services.setup import DeviceOptions

    options = DeviceOptions(
        name=name or default_name(),
        roles=tuple(role or ("mobile",)),
        bootstrap=tuple(bootstrap or hints.bootstrap),
        listen=tuple(listen or ()),
        nats=tuple(nats or ()),
    )
    document = _join(session, kit, options, passphrase)
    session.report(document, lambda joined: _view(joined, session))


def _join(session: Session, kit: "RecoveryKit", options: "DeviceOptions", passphrase: str | None) -> dict[str, Any]:
    import trio

    from sovereign_node.log import configure_logging
    from sovereign_node.services.join import join_identity

    configure_logging()
    result = trio.run(join_identity, session.data_dir.root, kit, options, passphrase, session.note)
    return {
        "identity": result.identity_id.hex(),
        "peer_id": result.peer_id,
        "projects": list(result.projects),
        "providers": list(result.providers),
        "contracts": result.contracts,
        "data_dir": str(session.data_dir.root),
    }


def _passphrase(session: Session, file: Path | None, command_line: str | None, *, none: bool) -> str | None:
    from sovereign_node.cli.passphrase import read_passphrase

    given = file is not None or command_line is not None
    if none and given:
        raise NodeError(
            "bad_passphrase_source",
            "--no-passphrase-slot and a passphrase exclude each other",
            "leave one out",
            ExitCode.USAGE,
        )
    if given or (not none and sys.stdin.isatty()):
        return read_passphrase(file, command_line, new=True, purpose="New passphrase for this device")
    # The kit alone is enough to come back; a script that has nobody to ask must not fail at this.
    session.note("no passphrase is kept on this device; acts of the owner, such as revoking a device, need another")
    return None


def _view(joined: dict[str, Any], session: Session) -> Iterator[Any]:
    yield styled("Welcome back: this device belongs to your identity again", "bold green")
    yield facts([("identity", joined["identity"]), ("peer id", joined["peer_id"]), ("data", joined["data_dir"])])
    yield ""
    yield table(["PROJECT", "!ID"], [(item["name"], item["id"]) for item in joined["projects"]])
    providers = ", ".join(item["name"] or item["peer_id"] for item in joined["providers"])
    yield f"Found at: {escape(providers) or 'no provider yet'}"
    yield f"Start the node with: {escape(command_for(session.data_dir, 'up'))}"
    yield "Then, in another terminal: sovereign restore PROJECT --to DIR"
