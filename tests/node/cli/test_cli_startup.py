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


@pytest.mark.parametrize("words", [["--help"], ["status", "--json"]])
def test_rich_is_loaded_only_to_draw(node: Any, words: list[str]) -> None:
    node.answers["status"] = status()
    assert "rich" not in modules_after("--data-dir", str(node.data_dir.root), *words)
