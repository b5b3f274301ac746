"""The Typer application: the root command with its options, and the groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from sovereign_node.cli.coercion import PlainGroup
from sovereign_node.cli.session import DataDirOption, GlobalOptions, JsonOption, QuietOption

HELP = "Keep your data on your own devices, with encrypted copies at providers who can read nothing."
COMPLETION_VARIABLE = "_SOVEREIGN_COMPLETE"
EPILOG = "First steps: sovereign init, sovereign up, then in another terminal: sovereign offers."


app = typer.Typer(
    name="sovereign",
    cls=PlainGroup,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    # Rich's help and tracebacks cost start-up time, and its tracebacks would show secrets in local variables.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _group(parent: typer.Typer, name: str, help_text: str) -> typer.Typer:
    group = typer.Typer(help=help_text, cls=PlainGroup, no_args_is_help=True, rich_markup_mode=None)
    parent.add_typer(group, name=name)
    return group


contract = _group(app, "contract", "Contracts with providers for storage.")
device = _group(app, "device", "Devices of your identity.")
kit = _group(app, "kit", "The recovery kit.")
provider = _group(app, "provider", "What this device offers to others.")
offer = _group(provider, "offer", "The offer that others see.")
maintenance = _group(provider, "maintenance", "Planned pauses that do not count against uptime.")
ledger = _group(app, "ledger", "The books of this device.")
sponsor = _group(app, "sponsor", "Uptime bonuses that you pay for contracts of others.")
dispute = _group(app, "dispute", "Evidence that anybody can check.")
repair = _group(app, "repair", "Rebuild what can be rebuilt.")
audit = _group(app, "audit", "Proofs of what providers hold, and the tamper-evident log of this device.")
limits = _group(app, "limits", "How much this device may send and receive.")
config = _group(app, "config", "Settings of this device.")
service = _group(app, "service", "Run the node as a service of your user account.")


def _print_version(wanted: bool) -> None:
    if wanted:
        from sovereign_node.version import VERSION

        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
    quiet: QuietOption = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = GlobalOptions(data_dir, json_output, quiet)
