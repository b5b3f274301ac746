"""The Typer application: the root command with its options, and the groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from sovereign_node.cli.session import DataDirOption, GlobalOptions, JsonOption, QuietOption

HELP = "Keep your data on your own devices, with encrypted copies at providers who can read nothing."
EPILOG = "First steps: sovereign init, sovereign up, then in another terminal: sovereign offers."


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)


app = typer.Typer(
    name="sovereign",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    # Rich's help and tracebacks cost start-up time, and its tracebacks would show secrets in local variables.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
contract = _group("Contracts with providers for storage.")
device = _group("Devices of your identity.")
kit = _group("The recovery kit.")
provider = _group("What this device offers to others.")
repair = _group("Rebuild what can be rebuilt.")
audit = _group("The tamper-evident log of this device.")
config = _group("Settings of this device.")
service = _group("Run the node as a service of your user account.")


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
