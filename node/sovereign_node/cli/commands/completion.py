"""``sovereign completion``: a script that completes commands and options in the shell."""

from enum import StrEnum
from typing import Annotated

import typer

from sovereign_node.cli.application import COMPLETION_VARIABLE, app
from sovereign_node.cli.session import Session, command


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@command(app, "completion")
def completion(
    session: Session,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a completion script; for bash: eval "$(sovereign completion bash)"."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="sovereign", complete_var=COMPLETION_VARIABLE, shell=shell.value)
    session.show({"shell": shell.value, "script": script}, lambda _: [script])
