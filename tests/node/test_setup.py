import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sovereign_crypto.recovery import parse_kit_file
from sovereign_node.config import load_config
from sovereign_node.datadir import DataDir
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import load_device_keys
from sovereign_node.network_id import network_id_of
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.setup import DeviceOptions, SetupResult, create_identity
from sovereign_node.store import open_state

OPTIONS = DeviceOptions("studio", ("server", "provider"), capacity_bytes=5_000_000_000)


def create(root: Path, options: DeviceOptions = OPTIONS) -> SetupResult:
    return create_identity(root, options, "correct horse")


def test_first_device_of_an_identity(tmp_path: Path) -> None:
    root = tmp_path / "data"
    result = create(root)
    data_dir = DataDir(root)
    config = load_config(data_dir.config)
    assert (config.name, config.roles) == ("studio", ("server", "provider"))
    assert config.provider.capacity_bytes == 5_000_000_000
    keys = load_device_keys(data_dir)
    with open_state(data_dir.state) as state:
        identity = OwnIdentity(data_dir, state, keys, network_id_of(config))
        assert identity.identity_id == result.identity_id
        assert identity.certificate.device_pk == keys.public
        assert identity.is_own_device(keys.public)
        assert identity.unlock_root("correct horse").signing_key.public == identity.log.identity_pk
        with pytest.raises(NodeError, match=r"^cannot unlock$") as caught:
            identity.unlock_root("wrong")
        assert caught.value.exit_code == ExitCode.CANNOT_UNLOCK
        row = state.devices.get(keys.public)
        assert row is not None
        assert row.device_type == "provider"


def test_kit_text_is_the_kit_and_is_stored_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "data"
    result = create(root)
    kit, hints = parse_kit_file(result.kit_text)
    assert kit.secret == result.kit.secret
    assert hints.identity_id == result.identity_id
    for path in (path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert kit.secret not in content
        assert b"correct horse" not in content
        assert path.stat().st_mode & 0o077 == 0, path


def test_second_init_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    create(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(NodeError, match="already"):
        create(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "options",
    [
        DeviceOptions(""),
        DeviceOptions("x" * 65),
        DeviceOptions("a\nb"),
        DeviceOptions("x", ("boss",)),
        DeviceOptions("x", nats=("http://relay.example",)),
    ],
)
def test_unusable_options_leave_nothing_behind(tmp_path: Path, options: DeviceOptions) -> None:
    root = tmp_path / "data"
    with pytest.raises(NodeError):
        create(root, options)
    assert not root.exists()


def test_failure_in_the_middle_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"

    def fail(*_arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("sovereign_node.services.setup.save_passphrase_slot", fail)
    with pytest.raises(OSError, match="No space"):
        create(root)
    assert not root.exists()
    monkeypatch.undo()
    assert create(root).name == "studio"


@pytest.mark.processes
@pytest.mark.parametrize("step", ["write_device", "save_passphrase_slot", "save_config"])
def test_a_killed_init_is_no_device_and_in_nobodys_way(tmp_path: Path, step: str) -> None:
    root, kit = tmp_path / "data", tmp_path / "kit"
    program = f"""
import os
from pathlib import Path
from sovereign_node.services import setup
done = setup.{step}
def die(*arguments, **options):
    done(*arguments, **options) if {step != "save_config"} else None
    os._exit(9)
setup.{step} = die
setup.create_identity(Path({str(root)!r}), setup.DeviceOptions("studio"), "correct horse",
                      lambda made: Path({str(kit)!r}).write_text(made.kit_text))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not DataDir(root).is_initialised()
    # A kit is handed over before the device counts as one, never after.
    assert kit.exists() == (step == "save_config")
    result = create(root)
    with open_state(DataDir(root).state) as state:
        assert state.meta.identity_id == result.identity_id
    assert sorted(path.name for path in root.iterdir() if path.is_file() and "state" not in path.name) == [
        "config.toml"
    ]


def test_a_device_counts_only_after_its_kit_was_handed_over(tmp_path: Path) -> None:
    root = tmp_path / "data"

    def refuse(_result: SetupResult) -> None:
        raise NodeError("kit_not_written", "no space", "")

    with pytest.raises(NodeError, match="no space"):
        create_identity(root, OPTIONS, "correct horse", refuse)
    assert not root.exists()


@pytest.mark.parametrize("name", ["cache", "keys", "state.sqlite", "config.toml"])
def test_what_lies_in_the_folder_already_is_not_touched(tmp_path: Path, name: str) -> None:
    photo = tmp_path / name / "photo" if "." not in name else tmp_path / name
    photo.parent.mkdir(exist_ok=True)
    photo.write_bytes(b"precious")
    with pytest.raises(NodeError, match=f"holds {name}") as caught:
        create(tmp_path)
    assert caught.value.exit_code == ExitCode.IN_USE
    assert photo.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "address", ["bogus", "", "/ip4/192.0.2.7/tcp/4001", "192.0.2.7:4001", "/ip4/192.0.2.7/p2p/x"]
)
def test_what_is_no_address_of_a_node_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(NodeError, match="not the address of a node") as caught:
        create(tmp_path / "data", replace(OPTIONS, bootstrap=(address,)))
    assert caught.value.exit_code == ExitCode.USAGE
    assert not (tmp_path / "data").exists()
