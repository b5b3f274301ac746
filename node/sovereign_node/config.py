"""Settings of one device: a frozen tree, read once from ``config.toml``; unknown keys are errors.

The tables below are the single source of names, units, defaults and help; docs/configuration.md is generated
from them (``python -m sovereign_node.config``).
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from sovereign_node.errors import NodeError
from sovereign_node.rates import parse_peer_limit, parse_period

ROLES = ("server", "mobile", "provider")
STACKS = ("fast", "stock")
ACCEPT = ("everyone", "friends", "own")
METERED = ("auto", "yes", "no")
LEAST_WINDOW_BYTES = 4 * 1024 * 1024
LEAST_CONNECTIONS = 16


def _setting(default: Any, description: str) -> Any:
    if isinstance(default, tuple | list):
        return field(default=tuple(default), metadata={"help": description})
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class NetConfig:
    """How the node meets other peers."""

    listen: tuple[str, ...] = _setting(("/ip4/0.0.0.0/tcp/0",), "multiaddrs to listen on")
    announce: tuple[str, ...] = _setting(
        (), "multiaddrs to publish instead of the ones found, e.g. behind port forwarding"
    )
    bootstrap: tuple[str, ...] = _setting((), "multiaddrs of peers that are asked first, each ending in /p2p/PEER")
    stack: str = _setting("fast", "fast: own Noise session and Yamux muxer; stock: those of py-libp2p")
    mdns: bool = _setting(True, "find and announce peers on the local network")
    max_connections: int = _setting(
        0,
        "connections at most, those that are being made included; 0 for 60 on a mobile, as home routers suffer"
        " above that, and 400 else",
    )
    relay: bool = _setting(
        True, "a server or provider carries connections of peers that others can't reach directly"
    )
    relay_bytes_per_peer_per_h: int = _setting(
        1_000_000_000, "bytes carried per hour for one peer that is neither an own device nor under contract"
    )
    receive_window_bytes: int = _setting(
        67_108_864,
        "bytes received and not yet read that all connections together may hold; a quarter of it for one peer",
    )
    upload_limit_bytes_per_s: int = _setting(0, "bytes per second sent at most, 0 for no limit")
    download_limit_bytes_per_s: int = _setting(0, "bytes per second received at most, 0 for no limit")
    limit_schedule: tuple[str, ...] = _setting(
        (),
        "other limits at times: [DAYS] HH:MM-HH:MM [up=SIZE] [down=SIZE], local time, 0 for no limit; the first"
        " that fits holds, for example mon-fri 08:00-18:00 up=200KB",
    )
    peer_limits: tuple[str, ...] = _setting(
        (), "limits of single peers besides: PEERID [up=SIZE] [down=SIZE] per second"
    )
    metered: str = _setting(
        "auto",
        "whether the network is paid for by volume: yes, no, or auto (by metered_interfaces, then NetworkManager)",
    )
    metered_interfaces: tuple[str, ...] = _setting(
        ("wwan*", "ppp*", "rmnet*"), "interfaces that are metered when the default route leads there (Linux)"
    )
    metered_upload_limit_bytes_per_s: int = _setting(
        0, "bytes per second sent at most on a metered network, 0 for no other limit"
    )
    metered_download_limit_bytes_per_s: int = _setting(
        0, "bytes per second received at most on a metered network, 0 for no other limit"
    )
    metered_pause: bool = _setting(
        True,
        "on a metered network, do only what is asked for: waiting backups, repairs and relaying wait for another",
    )


@dataclass(frozen=True)
class RelayConfig:
    """The optional NATS relay; not one packet is sent without servers."""

    nats: tuple[str, ...] = _setting(
        (), "NATS servers, nats://HOST:PORT or tls://HOST:PORT; peers on any of them reach this node"
    )
    credentials_file: str = _setting("", "NATS credentials (.creds) or NKey seed file")
    user: str = _setting("", "NATS user name")
    password_file: str = _setting("", "file that holds the NATS password or token")
    ca_file: str = _setting("", "PEM certificates to trust instead of the system's, for tls://")
    secret_file: str = _setting("", "file with a secret shared by the peers that may find each other on the relay")


@dataclass(frozen=True)
class ProviderConfig:
    """What a provider offers."""

    capacity_bytes: int = _setting(50_000_000_000, "bytes offered to customers in all")
    reserve_bytes: int = _setting(2_000_000_000, "free bytes of the file system that are never touched")
    price_micro_vibe_per_gb_month: int = _setting(2_000_000, "price of 1 GB stored for 720 h, micro-VIBE")
    price_micro_vibe_per_gb_transfer: int = _setting(500_000, "price of 1 GB moved, micro-VIBE")
    uptime_bonus_permille: int = _setting(1500, "multiplier at 99.9 % uptime, in thousandths")
    credit_limit_micro_vibe: int = _setting(
        100_000_000,
        "most that a customer may ever owe, micro-VIBE; credit begins at three days of storage and grows when paid",
    )
    region: str = _setting("", "region label shown in the offer")
    accept: str = _setting("everyone", "whose contracts are accepted: everyone, friends or own")
    friends: tuple[str, ...] = _setting((), "identities, hexadecimal, that store without charge")
    free_allowance_bytes: int = _setting(0, "bytes stored without charge for each customer")
    grace_days: int = _setting(30, "days that deleted chunks stay retrievable")


@dataclass(frozen=True)
class BackupConfig:
    """How projects are backed up."""

    copies: int = _setting(1, "providers that must hold each chunk")
    zstd_level: int = _setting(1, "zstd level; incompressible data is stored as it is")
    spool_bytes: int = _setting(20_000_000_000, "sealed chunks kept locally at most while no provider is reachable")


@dataclass(frozen=True)
class Config:
    """Everything that a device is configured with."""

    name: str = _setting("", "name of this device")
    roles: tuple[str, ...] = _setting(("mobile",), "roles: server, mobile, provider; several allowed")
    log_level: str = _setting("warning", "debug, info, warning or error")
    network: str = _setting(
        "sovereign network 1", "genesis text of the network; only equal ones talk to each other"
    )
    api_port: int = _setting(0, "TCP port of the local API on 127.0.0.1; 0 picks a free one")
    net: NetConfig = field(default_factory=NetConfig)
    relay: RelayConfig = field(default_factory=RelayConfig)
    provider: ProviderConfig = field(default_factory=ProviderConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)

    @property
    def is_provider(self) -> bool:
        """True if others may store chunks here for VIBE."""
        return "provider" in self.roles

    @property
    def connection_limit(self) -> int:
        """Connections at most, those that are being made included."""
        return self.net.max_connections or (400 if self.is_always_on else 60)

    @property
    def is_always_on(self) -> bool:
        """True for servers and providers: they serve the DHT and store for their owner's devices."""
        return bool({"server", "provider"} & set(self.roles))


def load_config(path: Path) -> Config:
    """Read and check a TOML file.

    Raises:
        NodeError: not TOML, an unknown setting, or a value of the wrong type; the message names it.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(path, str(error)) from error
    try:
        config: Config = _build(Config, data, "")
    except ValueError as error:
        raise _invalid(path, str(error)) from error
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Refuse values that can't work.

    Raises:
        NodeError: names the setting and what it takes.
    """
    wrong = [role for role in config.roles if role not in ROLES]
    if wrong or not config.roles:
        raise NodeError(
            "invalid_setting",
            f"role {wrong[0] if wrong else ''!r} is unknown",
            f"roles are {', '.join(ROLES)}",
        )
    if config.net.stack not in STACKS:
        raise NodeError("invalid_setting", f"net.stack {config.net.stack!r} is unknown", "it takes fast or stock")
    _check_limits(config.net)
    if config.provider.accept not in ACCEPT:
        raise NodeError(
            "invalid_setting",
            f"provider.accept {config.provider.accept!r} is unknown",
            f"it takes {', '.join(ACCEPT)}",
        )
    if config.backup.copies < 1:
        raise NodeError(
            "invalid_setting", "backup.copies must be at least 1", "set it to the number of providers wanted"
        )


def _check_limits(net: NetConfig) -> None:
    if net.metered not in METERED:
        raise NodeError(
            "invalid_setting", f"net.metered {net.metered!r} is unknown", f"it takes {', '.join(METERED)}"
        )
    if 0 < net.max_connections < LEAST_CONNECTIONS:
        raise NodeError(
            "invalid_setting",
            f"net.max_connections {net.max_connections} leaves no room to look for others",
            f"it takes {LEAST_CONNECTIONS} or more, or 0",
        )
    if net.receive_window_bytes < LEAST_WINDOW_BYTES:
        raise NodeError(
            "invalid_setting",
            f"net.receive_window_bytes {net.receive_window_bytes} is too little to receive anything fast",
            f"it takes {LEAST_WINDOW_BYTES} or more",
        )
    for setting, texts, parse in (
        ("limit_schedule", net.limit_schedule, parse_period),
        ("peer_limits", net.peer_limits, parse_peer_limit),
    ):
        for text in texts:
            try:
                parse(text)
            except ValueError as error:
                raise NodeError(
                    "invalid_setting", f"net.{setting}: {error}", "see docs/configuration.md for every setting"
                ) from error


def save_config(config: Config, path: Path) -> None:
    """Write every setting that differs from its default, as TOML."""
    from sovereign_node.datadir import write_private_file

    lines: list[str] = []
    tables: list[str] = []
    for item in fields(Config):
        value = getattr(config, item.name)
        if hasattr(value, "__dataclass_fields__"):
            changed = [
                f"{sub.name} = {_toml(getattr(value, sub.name))}"
                for sub in fields(value)
                if getattr(value, sub.name) != sub.default
            ]
            if changed:
                tables.append("\n".join(["", f"[{item.name}]", *changed]))
        elif item.name in ("name", "roles") or value != item.default:
            lines.append(f"{item.name} = {_toml(value)}")
    write_private_file(path, ("\n".join(lines + tables) + "\n").encode())


def with_overrides(config: Config, *, listen: tuple[str, ...] = (), bootstrap: tuple[str, ...] = ()) -> Config:
    """Return ``config`` with the addresses of a command line: ``listen`` replaces, ``bootstrap`` adds."""
    net = config.net
    merged = tuple(dict.fromkeys((*bootstrap, *net.bootstrap)))
    return replace(config, net=replace(net, listen=listen or net.listen, bootstrap=merged))


def _build(cls: type[Any], data: dict[str, Any], prefix: str) -> Any:
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"unknown setting {prefix}{name}")
        values[name] = _convert(hints[name], value, f"{prefix}{name}")
    return cls(**values)


def _convert(kind: Any, value: Any, name: str) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be a table")
        return _build(kind, value, f"{name}.")
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} must be a list of texts")
        return tuple(value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _toml(value: Any) -> str:
    # JSON's texts, integers, booleans and lists of texts are valid TOML.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _invalid(path: Path, reason: str) -> NodeError:
    return NodeError("invalid_config", f"{path}: {reason}", "see docs/configuration.md for every setting")


def _rows(cls: type[Any], prefix: str) -> list[str]:
    rows: list[str] = []
    nested: list[str] = []
    for item in fields(cls):
        if item.default is MISSING:
            nested += _rows(_factory(item), f"{prefix}{item.name}.")
        else:
            rows.append(f"| `{prefix}{item.name}` | `{_toml(item.default)}` | {item.metadata['help']} |")
    return rows + nested


def _factory(item: Field[Any]) -> type[Any]:
    factory: Any = item.default_factory
    assert isinstance(factory, type)
    return factory


def reference() -> str:
    """Return docs/configuration.md: every setting with its default and meaning."""
    head = [
        "# Configuration",
        "",
        "Generated by `python -m sovereign_node.config`. Settings live in `config.toml` in the data directory;",
        "a name with a dot is a key in that table. Unknown settings are refused.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join(head + _rows(Config, "")) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
