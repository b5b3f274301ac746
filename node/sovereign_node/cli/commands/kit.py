"""``sovereign kit confirm``: prove that the recovery kit was saved."""

from pathlib import Path
from typing import Annotated

import typer

from sovereign_node.cli.application import kit as group
from sovereign_node.cli.output import styled
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode, NodeError


@command(group, "confirm")
def confirm(
    session: Session,
    kit_file: Annotated[
        Path | None, typer.Option("--kit-file", metavar="FILE", help="The file with the kit; typed without it.")
    ] = None,
) -> None:
    """Enter the recovery kit once, so that you know you have it."""
    from sovereign_node.cli.kit import parse_kit, read_kit_text

    kit, _ = parse_kit(read_kit_text(kit_file))
    try:
        answer = session.call("kit_confirm", kit=kit.to_groups())
    except NodeError as error:
        if error.code != "not_running":
            raise
        # Right after `init` no node runs yet; the check needs none.
        from sovereign_node.services import setup

        setup.confirm_kit(session.data_dir.root, kit)
        answer = {"confirmed": True}
    if not answer["confirmed"]:
        raise NodeError(
            "kit_wrong",
            "this is not the recovery kit of this identity",
            "look for the kit that was shown or written by `sovereign init`",
            ExitCode.CANNOT_UNLOCK,
        )
    session.report(
        answer, lambda _: [styled("The recovery kit is confirmed. Keep it away from your devices.", "green")]
    )
