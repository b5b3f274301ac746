"""``sovereign up``: run the node in the foreground."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.commands.status import provider_line
from sovereign_node.cli.output import Cell, escape, facts, styled, write_json, write_message, write_result
from sovereign_node.cli.parameters import (
    BootstrapOption,
    ListenOption,
    PassphraseCommandOption,
    PassphraseFileOption,
)
from sovereign_node.cli.session import Session, command


@command(app, "up")
def up(
    session: Session,
    listen: ListenOption = None,
    bootstrap: BootstrapOption = None,
    api_port: Annotated[
        int | None,
        typer.Option(
            "--api-port", metavar="PORT", min=0, max=65535, help="TCP port of the local API; any free one for 0."
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_command: PassphraseCommandOption = None,
) -> None:
    """Run the node until Ctrl-C; with --json, print its status once when it is ready.

    With a passphrase file or command, it renews the certificate of this device by itself, once a year.
    """
    session.data_dir.require_initialised()
    from sovereign_node.app import RunOptions, run_node
    from sovereign_node.cli.passphrase import passphrase_source
    from sovereign_node.interpreter import set_up_interpreter

    banner = Banner(session)
    set_up_interpreter()
    run_node(
        RunOptions(
            data_dir=session.data_dir,
            listen=tuple(listen or ()),
            bootstrap=tuple(bootstrap or ()),
            api_port=api_port,
            on_status=banner.update,
            read_passphrase=passphrase_source(passphrase_file, passphrase_command),
        )
    )


class Banner:
    """Shows what the node is when it is ready, and later what changes.

    Args:
        session: where and how to show it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last: dict[str, Any] | None = None

    def update(self, state: dict[str, Any]) -> None:
        """Take a status document: the first is the banner, later ones are shown if something changed."""
        first, previous, self._last = self._last is None, self._last or {}, state
        if first and self._session.json:
            write_json(state)
        elif first and not self._session.quiet:
            write_result(_banner(state, str(self._session.data_dir.root)))
        elif not self._session.quiet:
            for line in changes(previous, state):
                write_message(line)


def _banner(state: dict[str, Any], data_dir: str) -> Iterator[Any]:
    yield styled(f"{state['name']} is up ({', '.join(state['roles'])})", "bold green")
    yield facts(_facts(state, data_dir))
    yield "Stop it with Ctrl-C, or with `sovereign down` from another terminal."


def _facts(state: dict[str, Any], data_dir: str) -> Iterator[tuple[str, Cell]]:
    yield "peer id", state["peer_id"]
    yield "identity", state["identity"]
    yield "listening", list(state["addresses"]) or "nowhere"
    yield "reached", str(state.get("reachability") or "unknown yet")
    yield "data", data_dir
    if "provider" in state["roles"]:
        yield "provider", provider_line(state)


def changes(previous: dict[str, Any], state: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each thing that a user would want to notice."""
    if "provider" in state["roles"] and provider_line(previous) != provider_line(state):
        yield f"provider: {provider_line(state)}"
    if previous.get("reachability") != state.get("reachability"):
        yield f"reached: {escape(str(state.get('reachability') or 'unknown'))}"
    if previous.get("addresses") != state.get("addresses"):
        yield f"listening: {escape(', '.join(state['addresses']) or 'nowhere')}"
