"""One module per command or family; registering one adds its commands to the application."""

from importlib import import_module

# The order of `sovereign --help`: first steps, then daily use, then care, then providers.
MODULES = (
    "init",
    "join",
    "up",
    "down",
    "status",
    "offers",
    "contract",
    "projects",
    "backup",
    "snapshots",
    "restore",
    "verify",
    "retention",
    "devices",
    "peers",
    "doctor",
    "kit",
    "provider",
    "repair",
    "audit",
    "config",
    "service",
)


def register_all() -> None:
    """Import every module, which registers its commands; a second call does nothing."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
