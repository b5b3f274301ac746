"""docs/cli.md is what the command tree says, and every command and option is explained."""

from __future__ import annotations

from pathlib import Path

from typer.core import TyperArgument

from sovereign_node.cli.reference import commands, reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
FIXED = {
    *("init", "join", "up", "down", "status", "devices", "peers", "ping", "doctor"),
    *("offers", "contract open", "contract list", "contract show"),
    *("protect", "backup", "snapshots", "ls", "restore", "verify", "forget", "gc"),
    *("kit confirm", "provider status", "provider offer set", "provider export", "provider scrub"),
    *("repair index", "audit log", "config show"),
}


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == reference(), "run: python -m sovereign_node.cli.reference > docs/cli.md"


def test_names_that_scripts_rely_on() -> None:
    assert {path.removeprefix("sovereign ") for path, _ in commands()} >= FIXED


def test_everything_is_explained() -> None:
    for path, command in commands():
        assert command.help, path
        for item in command.params:
            assert item.help, (path, item.name)
            assert isinstance(item, TyperArgument) or item.is_flag or item.metavar, (path, item.name)


def test_every_command_takes_the_shared_options() -> None:
    for path, command in commands():
        options = {name for item in command.params for name in item.opts}
        assert {"--data-dir", "--json", "--quiet"} <= options, path
