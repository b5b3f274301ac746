"""Names of a relay: the URL in the configuration and the multiaddr that peers publish."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

DEFAULT_PORT: Final = 4222
MULTIADDR_PLAIN: Final = "nats"
MULTIADDR_TLS: Final = "nats-tls"
_SCHEMES: Final = {"nats": False, "tls": True, "nats-tls": True}
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_MAX_TEXT: Final = 270


class EndpointError(ValueError):
    """The text does not name a relay."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where a NATS server listens.

    Attributes:
        host: lower-case DNS name or IP literal, without brackets.
        port: TCP port.
        tls: whether the connection must be TLS.
    """

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False

    @property
    def authority(self) -> str:
        """HOST:PORT, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def multiaddr(self) -> str:
        """`/nats/HOST:PORT` or `/nats-tls/HOST:PORT`."""
        return f"/{MULTIADDR_TLS if self.tls else MULTIADDR_PLAIN}/{self.authority}"

    @property
    def url(self) -> str:
        """`nats://HOST:PORT` or `tls://HOST:PORT`."""
        return f"{'tls' if self.tls else 'nats'}://{self.authority}"


def parse_authority(text: str, *, tls: bool = False, default_port: int | None = None) -> Endpoint:
    """Read HOST:PORT.

    Raises:
        EndpointError: anything else.
    """
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", text)
    plain = re.fullmatch(r"([^:\[\]]+)(?::(\d{1,5}))?", text)
    match = bracketed or plain
    if match is None or len(text) > _MAX_TEXT:
        raise EndpointError(f"{text[:_MAX_TEXT]!r} is not HOST:PORT")
    port = int(match[2]) if match[2] else default_port
    if port is None or not 1 <= port <= 65_535:
        raise EndpointError(f"{text!r} has no port from 1 to 65535")
    return Endpoint(_check_host(match[1], six=bracketed is not None), port, tls)


def _check_host(host: str, *, six: bool) -> str:
    if six:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise EndpointError(f"{host!r} is not an IPv6 address") from error
    if not _HOST_NAME.fullmatch(host):
        raise EndpointError(f"{host!r} is not a host name")
    return host.lower()


def parse_url(text: str) -> Endpoint:
    """Read `nats://HOST[:PORT]` or `tls://HOST[:PORT]` of the configuration.

    Raises:
        EndpointError: another scheme, a path, or credentials inside (they belong in files).
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise EndpointError(f"{text!r} must begin with nats:// or tls://")
    if "@" in rest:
        raise EndpointError("credentials do not belong in the address of a relay; name a file instead")
    return parse_authority(rest.rstrip("/"), tls=_SCHEMES[scheme], default_port=DEFAULT_PORT)


def parse_multiaddr(text: str) -> tuple[Endpoint, str]:
    """Read `/nats/HOST:PORT[/p2p/PEERID]`.

    Returns:
        The relay and the peer id, which is empty if the address has none.

    Raises:
        EndpointError: another kind of address.
    """
    parts = text.split("/")
    if len(parts) not in (3, 5) or parts[0] or parts[1] not in (MULTIADDR_PLAIN, MULTIADDR_TLS):
        raise EndpointError(f"{text!r} is not an address through a relay")
    if len(parts) == 5 and (parts[3] != "p2p" or not parts[4]):
        raise EndpointError(f"{text!r} does not end in a peer id")
    return parse_authority(parts[2], tls=parts[1] == MULTIADDR_TLS), parts[4] if len(parts) == 5 else ""
