"""``sovereign forget`` and ``gc``: which snapshots stay, and freeing what no snapshot needs."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, short_id, styled, table
from sovereign_node.cli.parameters import DryRunOption, OptionalProjectArgument, ProjectArgument
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.units import format_count, format_duration, format_size, format_time, parse_duration


def _keep(what: str) -> Any:
    return typer.Option(
        f"--keep-{what}", metavar="N", min=1, help=f"Keep the newest of the last N {_PERIODS[what]}."
    )


_PERIODS = {"daily": "days", "weekly": "weeks", "monthly": "months", "yearly": "years"}


@command(app, "forget")
def forget(
    session: Session,
    project: ProjectArgument,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", min=1, help="Keep the last N.")
    ] = None,
    keep_daily: Annotated[int | None, _keep("daily")] = None,
    keep_weekly: Annotated[int | None, _keep("weekly")] = None,
    keep_monthly: Annotated[int | None, _keep("monthly")] = None,
    keep_yearly: Annotated[int | None, _keep("yearly")] = None,
    keep_within: Annotated[
        int | None,
        typer.Option(
            "--keep-within", metavar="TIME", parser=parse_duration, help="Keep all of that time, e.g. 30d."
        ),
    ] = None,
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", "-s", metavar="ID", help="Forget exactly this one; may be repeated."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Forget snapshots by rule or by id; `gc` frees their space."""
    rules = {
        "keep_last": keep_last,
        "keep_daily": keep_daily,
        "keep_weekly": keep_weekly,
        "keep_monthly": keep_monthly,
        "keep_yearly": keep_yearly,
        "keep_within_s": keep_within,
    }
    if not snapshot and all(rule is None for rule in rules.values()):
        raise _no_rule()
    answer = session.call("forget", project=project, snapshots=snapshot or None, dry_run=dry_run, **rules)
    session.report(answer, _forgotten)


def _no_rule() -> NodeError:
    return NodeError(
        "no_rule",
        "nothing says which snapshots to keep",
        "give a rule such as --keep-last 10 --keep-daily 30, or --snapshot ID",
        ExitCode.USAGE,
    )


@command(app, "gc")
def gc(
    session: Session,
    project: OptionalProjectArgument = None,
    orphan_age: Annotated[
        int | None,
        typer.Option(
            "--orphan-age",
            metavar="TIME",
            parser=parse_duration,
            help="Give up what interrupted backups left behind once no device has claimed it for so long; 7d.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Free chunks that no snapshot needs, after a time of grace; without PROJECT also what killed backups left."""
    age = {} if orphan_age is None else {"orphan_age_s": orphan_age}
    answer = session.stream("gc", "collecting garbage", project=project, dry_run=dry_run, **age)
    session.report(answer, lambda done: _collected(done, dry_run=dry_run))


def _forgotten(answer: dict[str, Any]) -> Iterator[Any]:
    verb = "would be forgotten" if answer["dry_run"] else "forgotten"
    whys: list[tuple[dict[str, Any], Cell]] = [
        *((item, ", ".join(item["reasons"])) for item in answer["keep"]),
        *((item, (verb, "yellow")) for item in answer["remove"]),
    ]
    rows = ([short_id(item["id"]), format_time(item["time"]), why] for item, why in whys)
    yield table(["!SNAPSHOT", "TIME", "WHY"], rows)
    yield f"{format_count(len(answer['remove']), 'snapshot')} {verb}, {len(answer['keep']):,} kept"
    if answer["remove"] and not answer["dry_run"]:
        yield "Free the space with: sovereign gc"


def _collected(done: dict[str, Any], *, dry_run: bool) -> Iterator[Any]:
    verb = "would be freed" if dry_run else "freed"
    freed = f"{format_size(done['bytes_deleted'])} in {format_count(done['chunks_deleted'], 'chunk')} {verb}"
    yield styled(freed, "bold green")
    yield f"  {format_count(done['chunks_repacked'], 'chunk')} repacked in {format_duration(done['seconds'])}"
    if done.get("orphans_found"):
        yield (
            f"  {format_count(done['orphans_found'], 'chunk')} of interrupted backups found,"
            f" {done['orphans_deleted']:,} old enough and {verb} ({format_size(done['orphan_bytes'])})"
        )
    if done.get("failed_targets"):
        yield styled(f"  not reached: {', '.join(done['failed_targets'])}; run it again later", "yellow")
    if done.get("delete_after_at") and (done["chunks_deleted"] or done.get("orphans_deleted")):
        yield f"  providers keep them until {format_time(done['delete_after_at'])}, in case this was a mistake"
