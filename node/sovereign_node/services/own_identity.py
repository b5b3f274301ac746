"""The identity that this device speaks for: its log, this device's certificate, and the secrets beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError, UnlockError
from sovereign_crypto.identity import (
    Capability,
    DeviceCertificate,
    IdentityLog,
    IdentityRoot,
    build_add_device,
    build_revoke_device,
    issue_certificate,
    parse_entry,
)
from sovereign_crypto.keyslot import inspect_slot, make_slot, open_slot
from sovereign_crypto.recovery import RecoveryKit, open_with_recovery
from sovereign_node.datadir import DataDir, read_private_file, write_private_file
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys, identity_slot_file
from sovereign_node.store import State
from sovereign_node.store.identity_logs import IdentityLogEntry

CERTIFICATE_LIFETIME_S = 365 * 86400
ROOT_BOX_CONTEXT = b"identity root"
_SECRETS_KEY = "identity_secrets"
_CONTEXT = b"identity secrets"


@dataclass(frozen=True)
class IdentitySecrets:
    """What every device of the identity holds, sealed in its state database.

    Args:
        locator: 32 bytes, name of the identity record at providers.
        root_box: root seed sealed to the recovery kit; opaque to devices.
        user_keys: X25519 private keys by generation, 32 bytes each.
    """

    locator: bytes
    root_box: bytes = field(repr=False)
    user_keys: tuple[bytes, ...] = field(repr=False)


def capabilities_of(roles: Sequence[str]) -> Capability:
    """Return what a device of these roles is certified for."""
    base = Capability.READ | Capability.WRITE | Capability.ADMIN_REQUEST
    return base | Capability.PROVIDER if {"server", "provider"} & set(roles) else base


def certify_device(
    root: IdentityRoot, log: IdentityLog, keys: DeviceKeys, roles: Sequence[str], *, at: int, network_id: bytes
) -> None:
    """Certify the device of ``keys`` and append the entry to ``log``."""
    certificate = issue_certificate(
        root.signing_key,
        log.anchor,
        keys.signing,
        device_enc_pk=keys.encryption.public,
        caps=capabilities_of(roles),
        not_before=at,
        not_after=at + CERTIFICATE_LIFETIME_S,
        serial=log.next_serial,
        network_id=network_id,
    )
    log.append(build_add_device(root.signing_key, log.next_position, certificate, at=at, network_id=network_id))


class OwnIdentity:
    """The identity of this device. All methods may block; call them in worker threads.

    Args:
        data_dir: where the key slot lies.
        state: open state database.
        keys: of this device.
        network_id: 32 bytes.
    """

    def __init__(self, data_dir: DataDir, state: State, keys: DeviceKeys, network_id: bytes) -> None:
        self._data_dir = data_dir
        self._state = state
        self._keys = keys
        self.network_id = network_id
        identity_id = state.meta.identity_id
        if identity_id is None:
            raise NodeError(
                "not_initialised",
                f"the state in {data_dir.root} has no identity",
                "an interrupted `sovereign init` or `sovereign join` leaves this; remove it and run it again",
            )
        self.identity_id: bytes = identity_id
        entries = state.identity_logs.entries(identity_id)
        self.log = IdentityLog.verify(entries, network_id=network_id, identity_id=identity_id)
        self.secrets = _load_secrets(state, keys)

    @property
    def device_id(self) -> bytes:
        """Public key of this device, 32 bytes."""
        return self._keys.public

    @property
    def certificate(self) -> DeviceCertificate:
        """Certificate of this device by the newest log.

        Raises:
            NodeError: another device of the identity has revoked this one.
        """
        found = self.log.active_devices.get(self._keys.public)
        if found is None:
            raise NodeError(
                "device_revoked",
                "this device was revoked by another device of its identity",
                "join again with the recovery kit on a new data directory, if it is yours",
            )
        return found

    def is_own_device(self, device_id: bytes) -> bool:
        """Tell whether the device with this public key is an active one of this identity."""
        return self.log.is_active(device_id)

    def adopt_entries(self, entries: Sequence[bytes], *, at: int) -> bool:
        """Follow a longer log of this identity.

        Returns:
            True if something was new.

        Raises:
            CryptoError: the entries are not a valid log, or contradict ours.
        """
        theirs = IdentityLog.verify(entries, network_id=self.network_id, identity_id=self.identity_id)
        newer = self.log.prefer(theirs)
        if newer.head == self.log.head:
            return False
        store_log(self._state, newer, at=at, network_id=self.network_id)
        self.log = newer
        return True

    def unlock_root(self, passphrase: str) -> IdentityRoot:
        """Open the key slot for one act; slow on purpose.

        Raises:
            NodeError: one uniform message, whatever was wrong.
        """
        try:
            slot = read_private_file(identity_slot_file(self._data_dir))
            seed = open_slot(slot, passphrase, identity_id=self.identity_id)
        except FileNotFoundError as error:
            raise NodeError(
                "no_passphrase_slot",
                "this device has no passphrase for the identity",
                "use a device that has one",
                ExitCode.CANNOT_UNLOCK,
            ) from error
        except (UnlockError, CryptoError) as error:
            raise cannot_unlock() from error
        return IdentityRoot(seed, inspect_slot(slot).generation)

    def renew_certificate(self, root: IdentityRoot, roles: Sequence[str], *, at: int) -> DeviceCertificate:
        """Append the entry that certifies this device anew; its keys stay.

        Raises:
            NodeError: another device has revoked this one.
        """
        _ = self.certificate
        log = IdentityLog.verify(self.log.entries, network_id=self.network_id)
        certify_device(root, log, self._keys, roles, at=at, network_id=self.network_id)
        store_log(self._state, log, at=at, network_id=self.network_id)
        self.log = log
        return self.certificate

    def revoke_device(self, root: IdentityRoot, device_id: bytes, *, at: int) -> None:
        """Append the entry that ends a device for good."""
        entry = build_revoke_device(
            root.signing_key,
            self.log.next_position,
            device_id,
            last_accepted=2**53,
            at=at,
            network_id=self.network_id,
        )
        log = IdentityLog.verify([*self.log.entries, entry], network_id=self.network_id)
        store_log(self._state, log, at=at, network_id=self.network_id)
        self.log = log


def open_root_with_kit(kit: RecoveryKit, root_box: bytes, log: IdentityLog) -> IdentityRoot:
    """Open the identity's root with its recovery kit.

    Args:
        kit: typed or read by the user.
        root_box: the sealed root seed, from the identity record or a device's secrets.
        log: says which root key is in force.

    Raises:
        NodeError: it is the kit of another identity, or the root is not the one in force.
    """
    try:
        seed = open_with_recovery(kit, ROOT_BOX_CONTEXT, root_box)
    except CryptoError as error:
        raise NodeError(
            "cannot_unlock",
            "the recovery kit does not open this identity",
            "check the kit",
            ExitCode.CANNOT_UNLOCK,
        ) from error
    root = IdentityRoot(seed, log.generation)
    if root.signing_key.public != log.identity_pk:
        raise NodeError("record_damaged", "the identity record holds another root key", "try again later")
    return root


def cannot_unlock() -> NodeError:
    """The one message for a wrong passphrase, kit or slot."""
    return NodeError(
        "cannot_unlock",
        "cannot unlock",
        "check the passphrase or the recovery kit and try again",
        ExitCode.CANNOT_UNLOCK,
    )


def save_passphrase_slot(data_dir: DataDir, root: IdentityRoot, identity_id: bytes, passphrase: str) -> None:
    """Lock the root seed with ``passphrase`` on this device; slow on purpose."""
    slot = make_slot(passphrase, root.seed, identity_id, generation=root.generation)
    write_private_file(identity_slot_file(data_dir), slot)


def save_secrets(state: State, keys: DeviceKeys, secrets: IdentitySecrets) -> None:
    """Seal the secrets into the state database."""
    body = {
        "v": 1,
        "locator": secrets.locator,
        "root_box": secrets.root_box,
        "user_keys": list(secrets.user_keys),
    }
    state.meta.set(_SECRETS_KEY, keys.seal_local(_CONTEXT, cbor.encode(body)).hex())


def _load_secrets(state: State, keys: DeviceKeys) -> IdentitySecrets:
    sealed = state.meta.get(_SECRETS_KEY)
    try:
        body: dict[str, Any] = cbor.decode(keys.open_local(_CONTEXT, bytes.fromhex(sealed or "")))
    except CryptoError as error:
        raise NodeError(
            "keys_damaged",
            "the identity's secrets in the state database can't be opened with this device's keys",
            "the database belongs to another device, or is damaged; join again with the recovery kit",
        ) from error
    return IdentitySecrets(body["locator"], body["root_box"], tuple(body["user_keys"]))


def store_log(state: State, log: IdentityLog, *, at: int, network_id: bytes) -> None:
    """Write what is new of a verified log into the state database."""
    rows = []
    for raw in log.entries:
        entry = parse_entry(raw, network_id)
        rows.append(IdentityLogEntry(log.identity_id, entry.position.seq, entry.statement.hash, raw, at))
    state.identity_logs.append(rows)
