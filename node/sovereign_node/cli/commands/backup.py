"""``sovereign backup``: send what is new to the providers."""

from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import app
from sovereign_node.cli.commands.money import quote_view
from sovereign_node.cli.output import escape, short_id, styled
from sovereign_node.cli.parameters import DryRunOption, OptionalProjectArgument
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode
from sovereign_node.units import format_count, format_duration, format_rate, format_size

SHOWN_ERRORS = 20


@command(app, "backup")
def backup(session: Session, project: OptionalProjectArgument = None, dry_run: DryRunOption = False) -> None:
    """Back up one project, or all of them; with --dry-run, only say what it may cost."""
    if dry_run:
        session.show(session.call("quote", kind="backup", project=project), quote_view)
        return
    result = session.stream("backup", "backing up", project=project)
    runs = runs_of(result)
    code = ExitCode.PARTIAL if any(run.get("partial") or "error" in run for run in runs) else ExitCode.OK
    session.report(result, lambda _: _view(runs), code)


def runs_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one result for each project, whether there was one or several."""
    return list(result["projects"]) if "projects" in result else [result]


def _view(runs: list[dict[str, Any]]) -> Iterator[Any]:
    if not runs:
        yield "Nothing is protected yet. Begin with: sovereign protect PATH"
    for run in runs:
        yield from _run(run)


def _run(run: dict[str, Any]) -> Iterator[Any]:
    name = run.get("project_name") or short_id(run["project"])
    if "error" in run:
        yield styled(f"{name}: not backed up, {run['error']['message']}", "bold red")
        if run["error"]["hint"]:
            yield f"  {escape(run['error']['hint'])}"
        return
    yield styled(f"{name}: snapshot {short_id(run['snapshot'])}", "bold yellow" if run["partial"] else "bold green")
    seconds = run["seconds"]
    rate = f", {format_rate(run['bytes_read'] / seconds)}" if seconds and run["bytes_read"] else ""
    read = f"{format_count(run['files'], 'file')}, {format_size(run['bytes_read'])} read"
    yield f"  {read} in {format_duration(seconds)}{rate}"
    saved = [
        f"{format_size(run[key])} saved by {what}"
        for key, what in (("dedup_saved_bytes", "deduplication"), ("compression_saved_bytes", "compression"))
        if run.get(key)
    ]
    sent = f"{format_size(run['bytes_sent'])} sent in {format_count(run['chunks_sent'], 'chunk')}"
    yield "  " + ", ".join([sent, *saved])
    if run.get("targets"):
        yield f"  to {escape(', '.join(str(target) for target in run['targets']))}"
    if run.get("missing"):
        yield styled(f"  not yet at {', '.join(map(str, run['missing']))}: sent as soon as it is back", "yellow")
    if run.get("queued"):
        yield styled("  No provider was reachable: kept on this device, and sent as soon as one is.", "yellow")
    yield from error_lines(run.get("errors") or [], "could not be read and")


def error_lines(errors: list[dict[str, Any]], what: str) -> Iterator[Any]:
    """Yield the files that failed, the first twenty by name."""
    if not errors:
        return
    yield styled(f"  {format_count(len(errors), 'file')} {what} is missing from the result:", "yellow")
    for error in errors[:SHOWN_ERRORS]:
        yield f"    {escape(str(error.get('path', '')))}: {escape(str(error.get('reason', '')))}"
    if len(errors) > SHOWN_ERRORS:
        yield f"    and {format_count(len(errors) - SHOWN_ERRORS, 'more', 'more')}; all are in the --json result"
