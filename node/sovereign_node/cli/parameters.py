"""Options and arguments that several commands share, so that they have the same words everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Name, id or beginning of the id.")]
OptionalProjectArgument = Annotated[
    str | None, typer.Argument(metavar="[PROJECT]", help="Name, id or beginning of the id; all without it.")
]
SnapshotOption = Annotated[
    str | None, typer.Option("--snapshot", "-s", metavar="ID", help="Id or its beginning; the newest without it.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would happen, change nothing.")]

NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of this device; the host name without it.")
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="server, mobile or provider; may be repeated. [default: mobile]"),
]
BootstrapOption = Annotated[
    list[str] | None,
    typer.Option("--bootstrap", metavar="ADDR", help="Multiaddr of a peer to ask first; may be repeated."),
]
ListenOption = Annotated[
    list[str] | None,
    typer.Option("--listen", metavar="ADDR", help="Multiaddr to listen on; may be repeated."),
]
NatsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--nats", metavar="URL", help="NATS server to meet peers at where no other path works; may be repeated."
    ),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="File whose first line is the passphrase."),
]
PassphraseCommandOption = Annotated[
    str | None,
    typer.Option(
        "--passphrase-command", metavar="CMD", help="Command that prints the passphrase; run without a shell."
    ),
]
