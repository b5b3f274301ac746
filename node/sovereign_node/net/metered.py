"""Whether the network that this machine uses is paid for by volume."""

import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

_ROUTES = Path("/proc/net/route")
_FLAG_UP = 1
_ANY_DESTINATION = "00000000"
_NM = "org.freedesktop.NetworkManager"
# NetworkManager's NM_METERED_YES and NM_METERED_GUESS_YES.
_METERED = (1, 3)
_BUS_TIMEOUT_S = 1.0


def default_interface(routes: Path = _ROUTES) -> str:
    """Name the interface of the default route, empty where there is none or the system does not tell (only Linux).

    Args:
        routes: table of the kernel.
    """
    return default_route(routes)[0]


def default_route(routes: Path = _ROUTES) -> tuple[str, str]:
    """Return interface and gateway (8 hexadecimal digits) of the default route, empty texts where there is none."""
    try:
        rows = [line.split() for line in routes.read_text("ascii").splitlines()[1:]]
    except (OSError, UnicodeDecodeError):
        return "", ""
    usable = [
        (int(row[6]), row[0], row[2])
        for row in rows
        if len(row) > 7 and row[1] == row[7] == _ANY_DESTINATION and int(row[3], 16) & _FLAG_UP
    ]
    return min(usable)[1:] if usable else ("", "")


def ask_network_manager() -> bool | None:
    """Ask NetworkManager over D-Bus; None without it. Blocks."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        from jeepney import DBusAddress, Properties
        from jeepney.io.blocking import open_dbus_connection
    except ImportError:
        return None
    manager = DBusAddress("/org/freedesktop/NetworkManager", bus_name=_NM, interface=_NM)
    try:
        with open_dbus_connection(bus="SYSTEM") as bus:
            reply = bus.send_and_get_reply(Properties(manager).get("Metered"), timeout=_BUS_TIMEOUT_S)
            _signature, value = reply.body[0]
    except (OSError, EOFError, RuntimeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return value in _METERED


def is_metered(
    rule: str,
    interfaces: Sequence[str],
    *,
    interface: Callable[[], str] = default_interface,
    ask: Callable[[], bool | None] = ask_network_manager,
) -> bool:
    """Decide. Blocks.

    Args:
        rule: "yes", "no", or "auto": by the name of the interface, then by what the system says.
        interfaces: names of metered interfaces, with ``*`` and ``?``.
        interface: names the interface in use.
        ask: what the system says, None if nothing.
    """
    if rule != "auto":
        return rule == "yes"
    name = interface()
    if name and any(fnmatchcase(name, pattern) for pattern in interfaces):
        return True
    return bool(ask())
