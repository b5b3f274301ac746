"""``sovereign init``: create an identity, this device, and the recovery kit."""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign_node.api.client import command_for
from sovereign_node.cli.application import app
from sovereign_node.cli.output import escape, facts, styled, write_message
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
from sovereign_node.units import parse_size

if TYPE_CHECKING:
    from sovereign_node.cli.kit import KitFile
    from sovereign_node.services.setup import SetupResult


CapacityOption = Annotated[
    int | None,
    typer.Option(
        "--capacity", metavar="SIZE", parser=parse_size, help="What a provider or server offers, e.g. 50GB."
    ),
]


def default_name() -> str:
    """Return the name of a device that was given none: the host name without its domain."""
    return platform.node().partition(".")[0] or "device"


@command(app, "init")
def init(
    session: Session,
    name: NameOption = None,
    role: RoleOption = None,
    capacity: CapacityOption = None,
    listen: ListenOption = None,
    bootstrap: BootstrapOption = None,
    nats: NatsOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
    kit_file: Annotated[
        Path | None, typer.Option("--kit-file", metavar="FILE", help="Write the recovery kit there, for you alone.")
    ] = None,
    no_qr: Annotated[bool, typer.Option("--no-qr", help="Show the kit without a QR code.")] = False,
) -> None:
    """Create an identity, this device and a recovery kit."""
    from sovereign_node.cli.kit import KitFile
    from sovereign_node.cli.passphrase import read_passphrase

    _require_room(session, kit_file)
    passphrase = read_passphrase(passphrase_file, passphrase_command, new=True, purpose="New passphrase")
    file = KitFile(kit_file) if kit_file is not None else None
    from sovereign_node.services.setup import DeviceOptions, create_identity

    try:
        options = DeviceOptions(
            name=name or default_name(),
            roles=tuple(role or ("mobile",)),
            bootstrap=tuple(bootstrap or ()),
            listen=tuple(listen or ()),
            nats=tuple(nats or ()),
            capacity_bytes=capacity,
        )
        result = create_identity(
            session.data_dir.root,
            options,
            passphrase,
            lambda made: _hand_over_kit(made, file, with_qr=not no_qr),
        )
    except BaseException:
        if file is not None:
            file.discard()
        raise
    if file is None:
        _ask_for_kit(session, result)
    session.report(_document(session, result, file), lambda made: _view(made, session))


def _require_room(session: Session, kit_file: Path | None) -> None:
    if session.data_dir.is_initialised():
        raise NodeError(
            "already_initialised",
            f"{session.data_dir.root} holds a device already",
            f"run it with `{command_for(session.data_dir, 'up')}`, or choose another --data-dir",
            ExitCode.IN_USE,
        )
    if kit_file is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NodeError(
            "kit_file_needed",
            "the recovery kit can only be shown in a terminal",
            "use --kit-file FILE",
            ExitCode.USAGE,
        )


def _document(session: Session, result: "SetupResult", file: "KitFile | None") -> dict[str, Any]:
    return {
        "identity": result.identity_id.hex(),
        "peer_id": result.peer_id,
        "name": result.name,
        "roles": list(result.roles),
        "data_dir": str(session.data_dir.root),
        "kit_file": str(file.path) if file else None,
    }


def _hand_over_kit(result: "SetupResult", file: "KitFile | None", *, with_qr: bool) -> None:
    from sovereign_node.cli.kit import show_kit

    if file is None:
        show_kit(result.kit.to_groups(), result.qr_payload, with_qr=with_qr)
        return
    try:
        file.write(result.kit_text)
    except OSError as error:
        raise NodeError(
            "kit_not_written",
            f"no identity was created, because {file.path} could not be written: {error.strerror}",
            "name another file with --kit-file",
        ) from error


def _ask_for_kit(session: Session, result: "SetupResult") -> None:
    from sovereign_node.cli.kit import ask_again

    if ask_again(result.kit):
        from sovereign_node.services import setup

        setup.confirm_kit(session.data_dir.root, result.kit)
        write_message("The kit is confirmed.")


def _view(made: dict[str, Any], session: Session) -> Iterator[Any]:
    yield styled(f"{made['name']} is ready ({', '.join(made['roles'])})", "bold green")
    yield facts(
        [
            ("identity", made["identity"]),
            ("peer id", made["peer_id"]),
            ("data", made["data_dir"]),
            ("recovery kit", made["kit_file"] or "shown above"),
        ]
    )
    if made["kit_file"]:
        confirm = command_for(session.data_dir, "kit confirm")
        yield f"Keep the kit away from this device; prove that you have it with: {escape(confirm)}"
    yield f"Start the node with: {escape(command_for(session.data_dir, 'up'))}"
