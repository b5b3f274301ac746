import os
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
    [DeviceOptions(""), DeviceOptions("x" * 65), DeviceOptions("a\nb"), DeviceOptions("x", ("boss",))],
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
