from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from sovereign_node.datadir import DataDir
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys, load_device_keys, save_device_keys, secret_place


class MemoryKeyring(KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def __init__(self, forgets: bool = False) -> None:
        self.stored: dict[tuple[str, str], str] = {}
        self.forgets = forgets

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgets:
            self.stored[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        return self.stored.get((service, username))


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    result = DataDir(tmp_path)
    result.create()
    return result


def use_keyring(backend: KeyringBackend) -> None:
    keyring.set_keyring(backend)


@pytest.fixture(autouse=True)
def _restore_keyring() -> object:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("backend", "place"), [(MemoryKeyring(), "keyring"), (MemoryKeyring(forgets=True), "file")]
)
def test_keys_survive_a_restart(data_dir: DataDir, backend: KeyringBackend, place: str) -> None:
    use_keyring(backend)
    keys = DeviceKeys.generate()
    assert save_device_keys(data_dir, keys) == place
    assert secret_place(data_dir) == place
    again = load_device_keys(data_dir)
    assert again.signing.seed == keys.signing.seed
    assert again.encryption.seed == keys.encryption.seed
    assert again.open_local(b"x", keys.seal_local(b"x", b"secret")) == b"secret"
    for path in data_dir.keys.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert keys.signing.seed not in path.read_bytes()


def test_locked_keyring_is_named(data_dir: DataDir) -> None:
    use_keyring(MemoryKeyring())
    save_device_keys(data_dir, DeviceKeys.generate())
    use_keyring(MemoryKeyring())
    with pytest.raises(NodeError, match="keyring"):
        load_device_keys(data_dir)


def test_damaged_keys_point_to_the_kit(data_dir: DataDir) -> None:
    use_keyring(MemoryKeyring(forgets=True))
    save_device_keys(data_dir, DeviceKeys.generate())
    sealed = data_dir.keys / "device.sealed"
    raw = bytearray(sealed.read_bytes())
    raw[-1] ^= 1
    sealed.write_bytes(raw)
    with pytest.raises(NodeError, match="can't be opened") as caught:
        load_device_keys(data_dir)
    assert "recovery kit" in caught.value.hint
    sealed.unlink()
    with pytest.raises(NodeError, match="missing"):
        load_device_keys(data_dir)


def test_representation_shows_no_secret() -> None:
    keys = DeviceKeys.generate()
    for secret in (keys.signing.seed, keys.encryption.seed, keys.local_secret):
        assert secret.hex() not in repr(keys)
        assert repr(secret) not in repr(keys)
