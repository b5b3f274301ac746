"""``sovereign config show``: the settings in force."""

from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import config as group
from sovereign_node.cli.output import Cell, facts
from sovereign_node.cli.session import Session, command


@command(group, "show")
def show(session: Session) -> None:
    """Show every setting of the running node; docs/configuration.md explains them."""
    session.show(session.call("config_show"), lambda settings: [facts(flatten(settings))])


def flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Cell]]:
    """Yield settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
