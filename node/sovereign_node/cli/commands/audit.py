"""``sovereign audit``: let providers prove what they hold; what this device did, in a chain that shows changes."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import audit as group
from sovereign_node.cli.output import Cell, escape, short_id, styled, table
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_count, format_price, format_size, format_time

_TIME_KEYS = ("at", "time", "created_at", "recorded_at")
_ACTION_KEYS = ("event", "action", "kind")
_HIDDEN_KEYS = ("hash", "previous_hash", "seq", "sequence")


@command(group, "now")
def now(
    session: Session,
    provider: Annotated[
        str | None, typer.Argument(metavar="PROVIDER", help="Name, peer id or its beginning; all without it.")
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=1, max=10_000, help="Random chunks per contract.")
    ] = 24,
) -> None:
    """Let providers prove that they hold random chunks of yours; ends with 9 if one could not."""
    results = session.stream("audit_now", "auditing", provider=provider, samples=samples)
    damaged = any(result["failed"] for result in results)
    session.show(results, _audited, ExitCode.DAMAGE_FOUND if damaged else ExitCode.OK)


def _audited(results: list[dict[str, Any]]) -> Iterator[Any]:
    if not results:
        yield "There is no contract to audit. See: sovereign contract list"
        return
    yield table(
        ["!PROVIDER", ">CHUNKS", ">ASKED", ">PROVEN", ">FAILED", ">SILENT", ">MOVED", "COST"],
        (_audit_row(result) for result in results),
    )
    for result in results:
        name = result["provider_name"] or short_id(result["provider"])
        yield ""
        yield escape(f"{name}: {result['statistics']} ({format_count(result['samples'], 'random sample')})")
        for failure in result["failures"]:
            since = format_time(failure["since_at"])
            text = (
                f"  chunk {short_id(failure['chunk'])} of {format_size(failure['size_bytes'])}: last proven {since}"
            )
            yield styled(text, "bold red")
    if any(result["failed"] for result in results):
        yield ""
        yield "What is lost is being put back from another copy; see: sovereign audit log"


def _audit_row(result: dict[str, Any]) -> list[Cell]:
    failed: Cell = (str(result["failed"]), "bold red") if result["failed"] else "0"
    return [
        result["provider_name"] or short_id(result["provider"]),
        f"{result['chunks']:,}",
        f"{result['audited']:,}",
        f"{result['passed']:,}",
        failed,
        f"{result['unanswered']:,}",
        format_size(result["bytes_moved"]),
        format_price(result["cost_micro_vibe"]),
    ]


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
