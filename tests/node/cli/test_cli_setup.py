"""``init``, ``join`` and ``up``: commands that do their work themselves."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sovereign_crypto.recovery import RecoveryKit, parse_kit_file
from sovereign_node.cli.commands.up import changes
from sovereign_node.datadir import DataDir
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.services import setup

KIT = RecoveryKit(bytes(range(32)))
PEER = "12D3KooWFvcNfdegfXjfMt9WMgMUo9FPrb98kviTpzkhRrnZhsRq"


class Terminal(io.StringIO):
    """A stream that a person sits at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("correct horse battery staple\n")
    return str(path)


@pytest.fixture
def empty(tmp_path: Path) -> str:
    return str(tmp_path / "new")


def test_init_makes_a_device_and_a_kit_file(cli: Any, tmp_path: Path, secret: str, empty: str) -> None:
    kit = tmp_path / "kit.txt"
    words = ["init", "--data-dir", empty, "--name", "studio", "--role", "server", "--role", "provider"]
    words += ["--capacity", "5GB", "--passphrase-file", secret, "--kit-file", str(kit), "--json"]
    outcome = cli(*words, "--bootstrap", "/ip4/127.0.0.1/tcp/1/p2p/" + PEER)
    assert outcome.code == 0
    made = outcome.document
    assert set(made) == {"identity", "peer_id", "name", "roles", "data_dir", "kit_file"}
    assert (made["name"], made["roles"], made["kit_file"]) == ("studio", ["server", "provider"], str(kit))
    assert made["peer_id"].startswith("12D3Koo")
    assert kit.stat().st_mode & 0o777 == 0o600
    parsed, hints = parse_kit_file(kit.read_text())
    assert hints.identity_id == bytes.fromhex(made["identity"])
    assert parsed.to_groups()[:11] not in outcome.out + outcome.err
    assert "capacity_bytes = 5000000000" in (Path(empty) / "config.toml").read_text()

    again = cli(*words)
    assert (again.code, again.document["error"]["code"]) == (10, "already_initialised")
    other = cli(*words, "--data-dir", empty + "2")
    assert (other.code, other.document["error"]["code"]) == (2, "bad_kit_source")
    assert cli("kit", "confirm", "--kit-file", str(kit), "--data-dir", empty).code == 0


def test_init_may_use_the_empty_file_of_an_interrupted_attempt(
    cli: Any, tmp_path: Path, secret: str, empty: str
) -> None:
    kit = tmp_path / "kit.txt"
    kit.touch(0o644)
    words = ["init", "--data-dir", empty, "--name", "a", "--passphrase-file", secret, "--kit-file", str(kit)]
    assert cli(*words).code == 0
    assert kit.stat().st_mode & 0o777 == 0o600
    assert parse_kit_file(kit.read_text())


def test_init_without_terminal_needs_a_kit_file(cli: Any, empty: str, secret: str) -> None:
    outcome = cli("init", "--data-dir", empty, "--passphrase-file", secret, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (2, "kit_file_needed")
    assert not Path(empty).exists()


def test_a_refused_init_leaves_no_kit_file(cli: Any, tmp_path: Path, empty: str, secret: str) -> None:
    kit = tmp_path / "kit.txt"
    words = ["init", "--data-dir", empty, "--passphrase-file", secret, "--kit-file", str(kit)]
    assert cli(*words, "--role", "king").code != 0
    assert not kit.exists()
    assert not Path(empty).exists()


def create(
    root_dir: Path,
    options: setup.DeviceOptions,
    _passphrase: str,
    hand_over: Callable[[setup.SetupResult], None],
    seen: list[Any],
) -> setup.SetupResult:
    seen.append((root_dir, options))
    result = setup.SetupResult(bytes(32), PEER, options.name, options.roles, KIT, "kit text", "SOVEREIGN:QR")
    hand_over(result)
    return result


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    def sit_down(typed: str) -> Terminal:
        screen = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr("getpass.getpass", lambda _prompt: "word")
        return screen

    return sit_down


def test_init_at_a_terminal_shows_the_kit_once_and_asks_for_it(
    cli: Any, empty: str, at_terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(setup, "create_identity", lambda *given: create(*given, seen))
    monkeypatch.setattr(setup, "confirm_kit", lambda root_dir, kit: seen.append((root_dir, kit)))
    screen = at_terminal(f"{KIT.to_groups()}\n\n")
    outcome = cli("init", "--data-dir", empty)
    assert outcome.code == 0
    options = seen[0][1]
    assert (options.roles, options.capacity_bytes) == (("mobile",), None)
    assert options.name
    assert seen[1] == (Path(empty), KIT)
    shown = screen.getvalue()
    assert "  ".join(KIT.to_groups().split()[:5]) in shown
    assert "The kit is confirmed." in shown
    assert "is ready (mobile)" in outcome.out
    assert "sovereign up --data-dir" in outcome.out
    assert KIT.to_groups()[:5] not in outcome.out

    screen = at_terminal("\n")
    assert cli("init", "--data-dir", empty, "--no-qr").code == 0
    assert len(seen) == 3
    assert "\u2580" not in screen.getvalue()


def test_a_kit_that_cannot_be_written_is_told(
    cli: Any, tmp_path: Path, empty: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sovereign_node.cli.kit.KitFile.write", full)
    words = ["init", "--data-dir", empty, "--passphrase-file", secret, "--kit-file", str(tmp_path / "k")]
    outcome = cli(*words)
    assert outcome.code == 1
    assert "No space left" in outcome.err
    assert "no identity was created" in outcome.err
    assert not Path(empty).exists()
    assert not (tmp_path / "k").exists()


@dataclass(frozen=True)
class Joined:
    """What a join gives back."""

    identity_id: bytes = bytes(32)
    peer_id: str = PEER
    projects: tuple[dict[str, str], ...] = ({"id": "ab" * 32, "name": "photos"},)
    providers: tuple[dict[str, str], ...] = ({"peer_id": PEER, "name": "big disk"},)
    contracts: int = 1


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []

    async def join_identity(*given: Any) -> Joined:
        seen.append(given)
        given[-1]("asking the network")
        return Joined()

    monkeypatch.setattr("sovereign_node.services.join.join_identity", join_identity)
    # Logging would stay bound to the captured standard error of this test.
    monkeypatch.setattr("sovereign_node.log.configure_logging", lambda: None)
    return seen


@pytest.fixture
def kit_file(tmp_path: Path) -> str:
    path = tmp_path / "kit.txt"
    path.touch(0o600)
    path.write_text(setup.render_kit_file(KIT, setup.KitHints("ann", None, ("/ip4/10.0.0.9/tcp/1",))))
    return str(path)


def test_join_brings_an_identity_back(cli: Any, joins: list[Any], kit_file: str, empty: str, secret: str) -> None:
    words = ["join", "--kit-file", kit_file, "--data-dir", empty, "--passphrase-file", secret, "--name", "new"]
    outcome = cli(*words, "--json")
    assert outcome.code == 0
    assert outcome.document == {
        "identity": "00" * 32,
        "peer_id": PEER,
        "projects": [{"id": "ab" * 32, "name": "photos"}],
        "providers": [{"peer_id": PEER, "name": "big disk"}],
        "contracts": 1,
        "data_dir": empty,
    }
    assert "asking the network" in outcome.err
    root, kit, options, passphrase, _report = joins[0]
    assert (root, kit.secret, passphrase) == (Path(empty), KIT.secret, "correct horse battery staple")
    assert options.bootstrap == ("/ip4/10.0.0.9/tcp/1",)
    text = cli(*words, "--bootstrap", "/ip4/10.0.0.1/tcp/2").out
    assert joins[1][2].bootstrap == ("/ip4/10.0.0.1/tcp/2",)
    assert "photos" in text
    assert "big disk" in text


def test_join_without_passphrase_says_what_that_means(
    cli: Any, joins: list[Any], kit_file: str, empty: str, secret: str
) -> None:
    words = ["join", "--kit-file", kit_file, "--data-dir", empty, "--json"]
    outcome = cli(*words)
    assert outcome.code == 0
    assert "no passphrase is kept" in outcome.err
    assert cli(*words, "--no-passphrase-slot").code == 0
    assert [given[3] for given in joins] == [None, None]
    assert cli(*words, "--no-passphrase-slot", "--passphrase-file", secret).code == 2


def test_join_refuses_a_used_directory(cli: Any, initialised: DataDir, kit_file: str) -> None:
    outcome = cli("join", "--kit-file", kit_file, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (10, "already_initialised")


STATUS: dict[str, Any] = {
    "name": "studio",
    "identity": "ab" * 32,
    "peer_id": PEER,
    "roles": ["server", "provider"],
    "addresses": [f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"],
    "reachability": "no peer connected yet",
    "replicas": 2,
    "stored": {"chunks": 5, "bytes": 5_000_000_000},
    "contracts": 1,
    "vibe_per_month_micro": 10_000_000,
}


@dataclass(frozen=True)
class RunOptions:
    """What the application is started with."""

    data_dir: DataDir
    listen: tuple[str, ...]
    bootstrap: tuple[str, ...]
    api_port: int | None
    on_status: Callable[[dict[str, Any]], None] = field(repr=False)
    read_passphrase: Callable[[], str] | None = None


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """A stand-in for the application that reports its status twice."""
    seen: list[RunOptions] = []

    def run_node(options: RunOptions) -> None:
        seen.append(options)
        options.on_status(STATUS)
        options.on_status(STATUS)
        options.on_status({**STATUS, "contracts": 2, "reachability": "LAN", "addresses": []})

    module = types.ModuleType("sovereign_node.app")
    module.RunOptions = RunOptions  # type: ignore[attr-defined]
    module.run_node = run_node  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sovereign_node.app", module)
    return seen


def test_up_says_what_the_node_is_and_what_changes(cli: Any, initialised: DataDir, runs: list[Any]) -> None:
    outcome = cli(
        "up", "--listen", "/ip4/0.0.0.0/tcp/0", "--bootstrap", "/x", "--bootstrap", "/y", "--api-port", "0"
    )
    assert outcome.code == 0
    options = runs[0]
    assert (options.data_dir, options.listen, options.api_port) == (initialised, ("/ip4/0.0.0.0/tcp/0",), 0)
    assert options.bootstrap == ("/x", "/y")
    for text in (
        "studio is up (server, provider)",
        PEER,
        "/ip4/127.0.0.1",
        str(initialised.root),
        "no peer connected",
    ):
        assert text in outcome.out
    assert "replicas 2, stored 5.00 GB, contracts 1, 10 VIBE ($0.10) per month" in outcome.out
    assert outcome.err.splitlines() == [
        "provider: replicas 2, stored 5.00 GB, contracts 2, 10 VIBE ($0.10) per month",
        "reached: LAN",
        "listening: nowhere",
    ]


def test_up_with_json_prints_its_status_once(cli: Any, runs: list[Any]) -> None:
    assert cli("up", "--json").document == STATUS
    assert cli("up", "--quiet").out == ""


def test_up_needs_a_device(cli: Any, runs: list[Any], empty: str) -> None:
    outcome = cli("up", "--data-dir", empty, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, "not_initialised")


def test_nothing_new_is_not_said() -> None:
    mobile = {**STATUS, "roles": ["mobile"]}
    assert list(changes(mobile, {**mobile, "contracts": 9})) == []


def test_down_gives_up_after_a_while(tmp_path: Path) -> None:
    from sovereign_node.cli.commands.down import wait_stopped

    data_dir = DataDir(tmp_path)
    data_dir.create()
    data_dir.api_file.write_text("{}")
    naps: list[float] = []
    with pytest.raises(NodeError) as raised:
        wait_stopped(data_dir, 42, naps.append)
    assert sum(naps) == pytest.approx(15)
    assert "kill 42" in raised.value.hint
    data_dir.api_file.unlink()
    with data_dir.locked(), pytest.raises(NodeError):
        wait_stopped(data_dir, 42, naps.append)
    wait_stopped(data_dir, 42, naps.append)
    assert raised.value.exit_code == ExitCode.ERROR
