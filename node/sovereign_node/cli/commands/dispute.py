"""``sovereign dispute``: the papers of a contract in one file, and a check of them that needs no node."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import dispute as group
from sovereign_node.cli.output import escape, facts, short_id, styled
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.units import format_count, format_price

MAX_BUNDLE_BYTES = 1024**3


@command(group, "export")
def export(
    session: Session,
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Id or its beginning.")],
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="Where to write the bundle.")],
) -> None:
    """Write every signed paper of a contract into one file."""
    answer = session.call("dispute_export", contract=contract, to=os.path.abspath(to))
    session.report(answer, _exported)


@command(group, "verify")
def verify(
    session: Session,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="File of dispute export.")],
    customer: Annotated[
        str | None,
        typer.Option("--customer", metavar="KEY", help="Public key that the customer's device must have."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="KEY", help="Public key that the provider's device must have."),
    ] = None,
) -> None:
    """Check every signature, chain and sum of a bundle; works without a node and without any database."""
    from sovereign_node.services.money.bundle import Judge

    try:
        if bundle.stat().st_size > MAX_BUNDLE_BYTES:
            raise ValueError("it is larger than 1 GiB")
        keys = [bytes.fromhex(key) if key else None for key in (customer, provider)]
        verdict = Judge(json.loads(bundle.read_text("utf-8")), *keys).judge().to_json()
    except OSError as error:
        raise NodeError("cannot_read", f"{bundle}: {error.strerror}", "", ExitCode.NOT_FOUND) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NodeError(
            "bad_bundle", f"{bundle} is no bundle that can be read", "make one with: sovereign dispute export"
        ) from error
    session.report(verdict, _verdict, ExitCode.OK if verdict["ok"] else ExitCode.DAMAGE_FOUND)


def _exported(answer: dict[str, Any]) -> Iterator[Any]:
    yield styled(f"{format_count(answer['papers'], 'paper')} written to {answer['to']}", "bold green")
    yield facts([("customer", answer["customer_device"]), ("provider", answer["provider_device"])])
    yield "Anybody checks it with: sovereign dispute verify FILE --customer KEY --provider KEY"


def _verdict(verdict: dict[str, Any]) -> Iterator[Any]:
    papers = format_count(verdict["papers"], "paper")
    if verdict["ok"]:
        yield styled(f"Nothing contradicts: {papers} checked", "bold green")
    else:
        yield styled(f"{format_count(len(verdict['findings']), 'finding')} in {papers}", "bold red")
    for finding in verdict["findings"]:
        yield f"  {finding['who']}: {escape(finding['what'])} (paper {short_id(finding['paper'])})"
    if "charged_micro_vibe" in verdict:
        yield facts(
            [
                *(
                    (name, format_price(verdict[f"{name}_micro_vibe"]))
                    for name in ("charged", "promised", "unpaid")
                ),
                ("uptime", f"{format_count(verdict['windows_proven'], 'window')} proven by probe receipts"),
            ]
        )
