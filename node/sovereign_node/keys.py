"""The device's own keys at rest: sealed under a secret of the OS keyring, or else of a 0600 file.

`keys/device.sealed` is an SVE1 envelope; the secret that opens it lies in the OS keyring where one works, so that a
copied data directory is not enough to be this device. The identity root is not among these keys: it lies in
`keys/identity.slot` under the passphrase and is opened for single acts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from sovereign_crypto import cbor
from sovereign_crypto.envelope import Purpose, open_sealed, seal
from sovereign_crypto.errors import CryptoError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_node.datadir import DataDir, read_private_file, write_private_file
from sovereign_node.errors import ExitCode, NodeError

log = structlog.get_logger(__name__)

KEYRING_SERVICE = "sovereign"
_CONTEXT = b"device keys"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class DeviceKeys:
    """Long-lived secrets of one device.

    Args:
        signing: Ed25519; its public half is the device id and the libp2p peer id.
        encryption: X25519; others wrap keys to its public half.
        local_secret: 32 bytes; seals secrets in the state database.
    """

    signing: SigningKey = field(repr=False)
    encryption: EncryptionKey = field(repr=False)
    local_secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> DeviceKeys:
        """Make fresh keys."""
        return cls(SigningKey.generate(), EncryptionKey.generate(), os.urandom(32))

    @property
    def public(self) -> bytes:
        """Device id: 32 bytes, Ed25519."""
        return self.signing.public

    @property
    def peer_id(self) -> str:
        """Base58 text of the libp2p peer id."""
        return peer_id_from_public_key(self.public)

    def seal_local(self, context: bytes, plaintext: bytes) -> bytes:
        """Seal something that only this device reads, for the state database."""
        return seal(Purpose.LOCAL_SECRET, self.local_secret, context, plaintext)

    def open_local(self, context: bytes, sealed: bytes) -> bytes:
        """Open what :meth:`seal_local` made.

        Raises:
            CryptoError: altered, or of another device.
        """
        return open_sealed(Purpose.LOCAL_SECRET, self.local_secret, context, sealed)


def save_device_keys(data_dir: DataDir, keys: DeviceKeys) -> str:
    """Store ``keys`` for good.

    Returns:
        Where the opening secret lies: "keyring" or "file".
    """
    secret = os.urandom(_SECRET_BYTES)
    body = cbor.encode(
        {"v": 1, "signing": keys.signing.seed, "encryption": keys.encryption.seed, "local": keys.local_secret}
    )
    sealed = seal(Purpose.LOCAL_SECRET, secret, _CONTEXT, body)
    place = "keyring" if _store_in_keyring(_keyring_account(data_dir), secret) else "file"
    if place == "file":
        write_private_file(_secret_file(data_dir), secret)
    write_private_file(_sealed_file(data_dir), sealed)
    return place


def load_device_keys(data_dir: DataDir) -> DeviceKeys:
    """Open the keys of an initialised device.

    Raises:
        NodeError: files are missing, readable by others, or can't be opened.
    """
    try:
        sealed = read_private_file(_sealed_file(data_dir))
    except FileNotFoundError as error:
        raise _damaged(data_dir, "the device key file is missing") from error
    secret = _load_secret(data_dir)
    try:
        body = cbor.decode(open_sealed(Purpose.LOCAL_SECRET, secret, _CONTEXT, sealed))
        return DeviceKeys(SigningKey.from_seed(body["signing"]), EncryptionKey(body["encryption"]), body["local"])
    except (CryptoError, KeyError, TypeError) as error:
        raise _damaged(data_dir, "the device keys can't be opened") from error


def secret_place(data_dir: DataDir) -> str:
    """Tell where the secret lies: "keyring" or "file"."""
    return "file" if _secret_file(data_dir).exists() else "keyring"


def _load_secret(data_dir: DataDir) -> bytes:
    if _secret_file(data_dir).exists():
        return read_private_file(_secret_file(data_dir))
    stored = _read_keyring(_keyring_account(data_dir))
    if stored is None:
        raise NodeError(
            "keyring_locked",
            "the secret that opens this device's keys is not in the OS keyring",
            "unlock the keyring and try again, or bring the identity back on a new data directory: sovereign join",
            ExitCode.CANNOT_UNLOCK,
        )
    return stored


def _store_in_keyring(account: str, secret: bytes) -> bool:
    """Store and read back; False where there is no keyring that keeps it."""
    import keyring
    from keyring.errors import KeyringError

    try:
        if keyring.get_keyring().priority <= 0:
            return False
        keyring.set_password(KEYRING_SERVICE, account, secret.hex())
        return bool(keyring.get_password(KEYRING_SERVICE, account) == secret.hex())
    except (KeyringError, RuntimeError, OSError) as error:
        log.info("keyring_not_usable", reason=type(error).__name__)
        return False


def _read_keyring(account: str) -> bytes | None:
    import keyring
    from keyring.errors import KeyringError

    try:
        text = keyring.get_password(KEYRING_SERVICE, account)
    except (KeyringError, RuntimeError, OSError):
        return None
    return bytes.fromhex(text) if text else None


def _keyring_account(data_dir: DataDir) -> str:
    return str(data_dir.root.resolve())


def _sealed_file(data_dir: DataDir) -> Path:
    return data_dir.keys / "device.sealed"


def _secret_file(data_dir: DataDir) -> Path:
    return data_dir.keys / "device.secret"


def identity_slot_file(data_dir: DataDir) -> Path:
    """Key slot of the identity root, under the passphrase."""
    return data_dir.keys / "identity.slot"


def _damaged(data_dir: DataDir, reason: str) -> NodeError:
    return NodeError(
        "keys_damaged",
        f"{reason} ({data_dir.keys})",
        "bring the identity back with the recovery kit on a new data directory: sovereign join",
    )
