"""``sovereign audit log``: what this device did, in a chain that shows changes made afterwards."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import audit as group
from sovereign_node.cli.output import escape, styled
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_time

_TIME_KEYS = ("at", "time", "created_at", "recorded_at")
_ACTION_KEYS = ("event", "action", "kind")
_HIDDEN_KEYS = ("hash", "previous_hash", "seq", "sequence")


@command(group, "log")
def log(
    session: Session,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The newest N entries.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the whole chain of hashes.")] = False,
) -> None:
    """Show the audit log; with --verify, ends with 9 if entries were changed."""
    answer = session.call("audit_log", limit=limit, verify=verify)
    damaged = verify and not answer["ok"]
    session.show(
        answer, lambda found: _view(found, verify=verify), ExitCode.DAMAGE_FOUND if damaged else ExitCode.OK
    )


def _view(answer: dict[str, Any], *, verify: bool) -> Iterator[Any]:
    for entry in answer["entries"]:
        yield _line(dict(entry))
    if verify and answer["ok"]:
        yield styled("The chain of hashes is whole", "bold green")
    elif verify:
        yield styled("The log was changed: the chain of hashes is broken", "bold red")


def _line(entry: dict[str, Any]) -> str:
    at = next((entry.pop(key) for key in _TIME_KEYS if key in entry), None)
    action = next((entry.pop(key) for key in _ACTION_KEYS if key in entry), "")
    rest = " ".join(
        f"{key}={value}" for key, value in entry.items() if key not in _HIDDEN_KEYS and value is not None
    )
    return f"{format_time(at) if isinstance(at, int) else '-'}  {escape(str(action))}  {escape(rest)}".rstrip()
