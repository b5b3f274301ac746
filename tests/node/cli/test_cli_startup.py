"""What commands load: the network stack and other slow libraries stay out of the client's path."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SLOW = {
    "libp2p",
    "trio",
    "multiaddr",
    "zstandard",
    "starlette",
    "hypercorn",
    "structlog",
    "lmdb",
    "cryptography",
    "nacl",
}
SLOW |= {"blake3", "keyring", "segno", "zeroconf", "pydantic", "sqlite3", "asyncio", "sovereign_protocols"}
PROGRAM = """
import json, sys
from sovereign_node.cli.main import main
main(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules))))
"""


def modules_after(*words: str) -> set[str]:
    finished = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=True, text=True)
    return set(json.loads(finished.stderr.splitlines()[-1]))


def status() -> dict[str, Any]:
    return {"name": "x", "identity": "00", "peer_id": "12D3", "roles": [], "addresses": [], "peers": 0} | {
        "projects": [],
        "version": "1",
    }


@pytest.mark.parametrize(
    "words", [["--help"], ["status"], ["status", "--json"], ["offers"], ["contract", "--help"]]
)
def test_slow_libraries_are_not_loaded(node: Any, words: list[str]) -> None:
    node.answers["status"] = status()
    node.answers["offers"] = []
    loaded = modules_after("--data-dir", str(node.data_dir.root), *words)
    assert loaded & SLOW == set()


def test_help_loads_no_http_client() -> None:
    assert {"http", "ssl"} & modules_after("--help") == set()


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"]])
def test_rich_is_loaded_only_for_progress(node: Any, words: list[str]) -> None:
    node.answers["status"] = status()
    assert "rich" not in modules_after("--data-dir", str(node.data_dir.root), *words)


@pytest.mark.parametrize(
    "words", [["status"], ["--json", "--data-dir", "x", "status"], ["--data-dir=x", "-q", "up"]]
)
def test_frequent_commands_load_no_others(words: list[str]) -> None:
    loaded = modules_after(*words, "--help")
    assert "sovereign_node.cli.commands.restore" not in loaded


@pytest.mark.parametrize("words", [["--help", "status"], ["--data-dir", "status", "--help"], ["stat", "--help"]])
def test_other_command_lines_know_every_command(words: list[str]) -> None:
    assert "sovereign_node.cli.commands.restore" in modules_after(*words)


def test_frequent_commands_are_in_the_module_of_their_name() -> None:
    from sovereign_node.cli import main
    from sovereign_node.cli.application import app
    from sovereign_node.cli.commands import register_all

    register_all()
    places = {info.name: str(getattr(info.callback, "__module__", "")) for info in app.registered_commands}
    for name in main._QUICK_COMMANDS:
        assert [own for own, module in places.items() if module.endswith(f".{name}")] == [name]
