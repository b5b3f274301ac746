"""One module per command or family; registering one adds its commands to the application."""

from importlib import import_module
from typing import Any

from sovereign_node.cli.application import app

# The order of `sovereign --help`: first steps, then daily use, then care, then providers.
MODULES = (
    "init",
    "join",
    "up",
    "down",
    "status",
    "offers",
    "contract",
    "wallet",
    "money",
    "sponsor",
    "dispute",
    "projects",
    "placement",
    "backup",
    "snapshots",
    "restore",
    "verify",
    "retention",
    "devices",
    "peers",
    "limits",
    "doctor",
    "kit",
    "provider",
    "provider_market",
    "repair",
    "uptime",
    "audit",
    "config",
    "service",
    "completion",
)


def register_all() -> None:
    """Import every module, which registers its commands, and put them into the order above."""
    for name in MODULES:
        register(name)
    app.registered_commands.sort(key=lambda info: MODULES.index(_module_of(info.callback)))


def register(name: str) -> None:
    """Import one module, which registers its commands."""
    import_module(f"{__name__}.{name}")


def _module_of(callback: Any) -> str:
    return str(callback.__module__).rpartition(".")[2]
