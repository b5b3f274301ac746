"""``sovereign doctor``: what is wrong and what to do about it."""

from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import app
from sovereign_node.cli.output import escape, styled
from sovereign_node.cli.session import Session, command
from sovereign_node.errors import ExitCode

_SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "bold red")}


@command(app, "doctor")
def doctor(session: Session) -> None:
    """Check this device: one sentence and one next step for each finding. Ends with 1 if one is an error."""
    answer = session.call("doctor")
    failed = any(finding["level"] == "error" for finding in answer["findings"])
    session.show(answer, _view, ExitCode.ERROR if failed else ExitCode.OK)


def _view(answer: dict[str, Any]) -> Iterator[Any]:
    for finding in answer["findings"]:
        word, style = _SIGNS.get(finding["level"], (finding["level"], ""))
        yield styled(f"{word:8}{finding['check']}: {finding['message']}", style)
        if finding.get("next_step"):
            yield f"        {escape(finding['next_step'])}"
