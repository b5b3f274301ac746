"""Make a device: with a new identity (`init`), or as one more device of an identity that comes back (`join`)."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sovereign_crypto.errors import CryptoError, FormatError, ParameterError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.identity import IdentityLog, IdentityRoot, build_genesis
from sovereign_crypto.kdf import passphrase_bytes
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_crypto.recovery import KitHints, RecoveryKit, render_kit_file, seal_to_recovery
from sovereign_node.clock import wall_clock
from sovereign_node.config import (
    Config,
    NetConfig,
    ProviderConfig,
    RelayConfig,
    check_config,
    load_config,
    save_config,
)
from sovereign_node.datadir import DataDir, sync_directory
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys, load_device_keys, save_device_keys
from sovereign_node.net.addresses import split_peer_id
from sovereign_node.network_id import network_id_of
from sovereign_node.services.own_identity import (
    ROOT_BOX_CONTEXT,
    IdentitySecrets,
    OwnIdentity,
    certify_device,
    save_passphrase_slot,
    save_secrets,
    store_log,
)
from sovereign_node.store import State, open_state
from sovereign_node.store.devices import Device
from sovereign_protocols.relay.endpoint import EndpointError, parse_url

MAX_NAME_CHARACTERS = 64
_KIT_CONFIRMED_KEY = "kit_confirmed"


@dataclass(frozen=True)
class DeviceOptions:
    """What a user decides about a new device.

    Args:
        name: of the device; 1 to 64 characters.
        roles: server, mobile, provider.
        bootstrap: multiaddrs of peers to ask first.
        listen: multiaddrs to listen on; empty for the default.
        nats: URLs of NATS servers to meet peers at.
        capacity_bytes: what a provider offers; None for the default.
    """

    name: str
    roles: tuple[str, ...] = ("mobile",)
    bootstrap: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    nats: tuple[str, ...] = ()
    capacity_bytes: int | None = None


@dataclass(frozen=True)
class SetupResult:
    """A new identity; show the kit once, it is not stored anywhere."""

    identity_id: bytes
    peer_id: str
    name: str
    roles: tuple[str, ...]
    kit: RecoveryKit = field(repr=False)
    kit_text: str = field(repr=False)
    qr_payload: str = field(repr=False)


def create_identity(
    root_dir: Path,
    options: DeviceOptions,
    passphrase: str,
    hand_over: Callable[[SetupResult], None] = lambda _result: None,
) -> SetupResult:
    """Create an identity with this machine as its first device.

    Args:
        root_dir: data directory; must not hold a device yet.
        options: name, roles, addresses.
        passphrase: protects the identity root on this device; 1 to 1024 bytes.
        hand_over: gives the recovery kit to the user. Called before the device counts as one: a crash in between
            must not leave an identity whose kit nobody has.

    Raises:
        NodeError: a device lives there already, or an option is not usable; nothing is left behind.
    """
    config = build_config(options)
    check_passphrase(passphrase)
    at = wall_clock()
    network_id = network_id_of(config)
    kit, root, keys = RecoveryKit.generate(), IdentityRoot.generate(), DeviceKeys.generate()
    log, secrets = _begin_log(kit, root, at=at, network_id=network_id)
    certify_device(root, log, keys, config.roles, at=at, network_id=network_id)
    with new_device(root_dir, config) as data_dir:
        state = write_device(data_dir, config, keys, log, secrets, at=at, network_id=network_id)
        state.audit.record(keys.public.hex(), "identity_created", log.identity_id.hex(), "ok", at=at)
        state.close()
        save_passphrase_slot(data_dir, root, log.identity_id, passphrase)
        hints = KitHints(config.name, log.identity_id, config.net.bootstrap)
        result = SetupResult(
            log.identity_id,
            keys.peer_id,
            config.name,
            config.roles,
            kit,
            render_kit_file(kit, hints),
            "SOVEREIGN:" + kit.to_groups().replace(" ", "-"),
        )
        hand_over(result)
    return result


def _begin_log(
    kit: RecoveryKit, root: IdentityRoot, *, at: int, network_id: bytes
) -> tuple[IdentityLog, IdentitySecrets]:
    """Return the log of a new identity, without devices, and what each of its devices will hold."""
    user_key = EncryptionKey.generate()
    genesis = build_genesis(
        root.signing_key,
        root.new_anchor(kit.signing_key.public),
        recovery_enc_pk=kit.encryption_key.public,
        user_pk=user_key.public,
        at=at,
        network_id=network_id,
    )
    root_box = seal_to_recovery(kit.encryption_key.public, ROOT_BOX_CONTEXT, root.seed)
    return IdentityLog(genesis, network_id=network_id), IdentitySecrets(kit.locator, root_box, (user_key.seed,))


def build_config(options: DeviceOptions) -> Config:
    """Return the settings of a new device.

    Raises:
        NodeError: an option is not usable.
    """
    name = unicodedata.normalize("NFC", options.name).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise NodeError(
            "invalid_name",
            f"a device name has 1 to {MAX_NAME_CHARACTERS} printable characters",
            "give another with --name",
            ExitCode.USAGE,
        )
    net = NetConfig(bootstrap=options.bootstrap)
    if options.listen:
        net = replace(net, listen=options.listen)
    provider = ProviderConfig()
    if options.capacity_bytes is not None:
        provider = replace(provider, capacity_bytes=options.capacity_bytes)
    config = Config(
        name=name,
        roles=tuple(dict.fromkeys(options.roles)),
        net=net,
        relay=RelayConfig(nats=options.nats),
        provider=provider,
    )
    check_config(config)
    for address in options.bootstrap:
        check_node_address(address)
    for server in options.nats:
        check_nats_server(server)
    return config


def check_node_address(address: str) -> None:
    """Refuse what can't be the address of a node.

    Raises:
        NodeError: it does not end in the id of a peer.
    """
    transport, peer_id = split_peer_id(address)
    try:
        if not transport.startswith("/"):
            raise FormatError("no multiaddr")
        public_key_from_peer_id(peer_id or "")
    except CryptoError as error:
        raise NodeError(
            "invalid_address",
            f"{address!r} is not the address of a node",
            "it looks like /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…; `sovereign status` shows it there",
            ExitCode.USAGE,
        ) from error


def check_nats_server(url: str) -> None:
    """Refuse what can't be the URL of a NATS server.

    Raises:
        NodeError: it is not.
    """
    try:
        parse_url(url)
    except EndpointError as error:
        raise NodeError(
            "invalid_address",
            f"{url!r} is not the URL of a NATS server",
            "it looks like nats://relay.example:4222 or tls://relay.example:4222",
            ExitCode.USAGE,
        ) from error


def check_passphrase(passphrase: str) -> None:
    """Refuse a passphrase that the key slot would not take.

    Raises:
        NodeError: empty or too long.
    """
    try:
        passphrase_bytes(passphrase)
    except ParameterError as error:
        raise NodeError(
            "invalid_passphrase", "a passphrase has 1 to 1024 bytes", "choose another", ExitCode.USAGE
        ) from error


@contextmanager
def new_device(root_dir: Path, config: Config) -> Iterator[DataDir]:
    """Make and lock the data directory; on failure nothing of it is left.

    What a killed attempt left behind is removed first.

    Raises:
        NodeError: a device lives there already, or a part of one.
    """
    data_dir = DataDir(root_dir)
    _require_free(data_dir)
    existed = root_dir.exists()
    with data_dir.locked():
        _require_free(data_dir)
        try:
            _clear(data_dir)
            unfinished = _unfinished(data_dir)
            unfinished.touch(0o600)
            sync_directory(data_dir.root)
            data_dir.create()
            yield data_dir
            # Last: a directory counts as a device only when everything else is in place.
            save_config(config, data_dir.config)
            unfinished.unlink()
        except BaseException:
            _clear(data_dir)
            if not existed:
                shutil.rmtree(data_dir.root, ignore_errors=True)
            raise


def _unfinished(data_dir: DataDir) -> Path:
    """The file that says that what lies beside it was never a whole device."""
    return data_dir.root / "unfinished"


def _parts(data_dir: DataDir) -> list[Path]:
    places = (data_dir.keys, data_dir.chunks, data_dir.spool, data_dir.cache, data_dir.config)
    return [path for path in (*places, *data_dir.root.glob("state.sqlite*")) if path.exists()]


def _require_free(data_dir: DataDir) -> None:
    if data_dir.is_initialised():
        raise NodeError(
            "already_initialised",
            f"{data_dir.root} holds a device already",
            "start it with `sovereign up`, or choose another --data-dir",
            ExitCode.IN_USE,
        )
    parts = _parts(data_dir)
    if parts and not _unfinished(data_dir).exists():
        raise NodeError(
            "directory_not_empty",
            f"{data_dir.root} holds {parts[0].name} already, of part of a device or of something else",
            "put back what is missing from a copy, or choose another --data-dir",
            ExitCode.IN_USE,
        )


def write_device(
    data_dir: DataDir,
    config: Config,
    keys: DeviceKeys,
    log: IdentityLog,
    secrets: IdentitySecrets,
    *,
    at: int,
    network_id: bytes,
) -> State:
    """Store keys, log and secrets of a new device; returns its open state."""
    save_device_keys(data_dir, keys)
    state = open_state(data_dir.state)
    try:
        with state.transaction():
            state.meta.node_name = config.name
            state.meta.roles = config.roles
            state.meta.identity_id = log.identity_id
            state.meta.peer_id = keys.peer_id
            save_secrets(state, keys, secrets)
            store_log(state, log, at=at, network_id=network_id)
            state.devices.save(own_device_row(config, keys, log, at=at))
    except BaseException:
        state.close()
        raise
    return state


def own_device_row(config: Config, keys: DeviceKeys, log: IdentityLog, *, at: int) -> Device:
    """Return this device's row of device_registry."""
    certificate = log.active_devices[keys.public]
    return Device(
        device_id=keys.public,
        device_name=config.name,
        device_type=main_role(config.roles),
        peer_id=keys.peer_id,
        added_at=at,
        roles=config.roles,
        identity=log.identity_id,
        capabilities=int(certificate.caps),
        certificate=certificate.raw,
    )


def main_role(roles: tuple[str, ...]) -> str:
    """Return the role that describes a device best."""
    return next((role for role in ("provider", "server", "mobile") if role in roles), "unknown")


def read_kit(text: str) -> tuple[RecoveryKit, KitHints]:
    """Read a kit file or typed groups.

    Raises:
        NodeError: says which groups look wrong.
    """
    from sovereign_crypto.recovery import parse_kit_file

    try:
        return parse_kit_file(text)
    except FormatError as error:
        raise NodeError(
            "invalid_kit",
            f"the recovery kit can't be read: {error}",
            "check it against the paper",
            ExitCode.CANNOT_UNLOCK,
        ) from error


def confirm_kit(root_dir: Path, kit: RecoveryKit) -> None:
    """Note that the user has entered the kit once, on a device that does not run.

    Raises:
        NodeError: the node runs, or the kit is of another identity.
    """
    data_dir = DataDir(root_dir)
    data_dir.require_initialised()
    config, keys = load_config(data_dir.config), load_device_keys(data_dir)
    with data_dir.locked(), open_state(data_dir.state) as state:
        note_confirmed_kit(state, OwnIdentity(data_dir, state, keys, network_id_of(config)), kit)


def note_confirmed_kit(state: State, identity: OwnIdentity, kit: RecoveryKit) -> None:
    """Write down that the kit of this identity was entered.

    Raises:
        NodeError: it is the kit of another identity.
    """
    if kit.locator != identity.secrets.locator:
        raise NodeError(
            "wrong_kit",
            "this is the recovery kit of another identity",
            "find the one that `sovereign init` made",
            ExitCode.CANNOT_UNLOCK,
        )
    state.meta.set(_KIT_CONFIRMED_KEY, "1")


def is_kit_confirmed(state: State) -> bool:
    """Tell whether the kit was ever entered."""
    return state.meta.get(_KIT_CONFIRMED_KEY) == "1"


def _clear(data_dir: DataDir) -> None:
    for path in _parts(data_dir):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    _unfinished(data_dir).unlink(missing_ok=True)
