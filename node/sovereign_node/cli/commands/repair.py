"""``sovereign repair index``: rebuild the local index from the providers."""

from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import repair as group
from sovereign_node.cli.output import styled
from sovereign_node.cli.parameters import OptionalProjectArgument
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_count, format_duration


@command(group, "index")
def index(session: Session, project: OptionalProjectArgument = None) -> None:
    """Throw the local index away and rebuild it from the providers."""
    session.report(session.stream("repair_index", "rebuilding the index", project=project), _view)


def _view(done: dict[str, Any]) -> Iterator[Any]:
    yield styled("The index is rebuilt", "bold green")
    yield (
        f"  {format_count(done['segments'], 'segment')}, {format_count(done['blobs'], 'blob')},"
        f" {format_count(done['chunks'], 'chunk')} in {format_duration(done['seconds'])}"
    )
    for name in done.get("unreadable") or []:
        yield styled(f"  cannot be read: {name}", "yellow")
