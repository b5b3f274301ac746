"""Finding nodes on the local network by multicast DNS, and being found.

The records are those of libp2p's mDNS, under a service name of our own so that other applications' nodes are not
dialled: a random instance name, and TXT strings ``dnsaddr=MULTIADDR`` that end in ``/p2p/PEER``.

Everything here is a hint from whoever shares the network; a connection proves who is there. A machine without
multicast simply finds nobody: nothing here may hold up or stop a node.

Source: libp2p specs, discovery/mdns; RFC 6762, RFC 6763.
"""

import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import trio

from sovereign_crypto.errors import FormatError
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.net.addresses import split_peer_id
from sovereign_protocols.kad.messages import MAX_ADDRESSES

if TYPE_CHECKING:
    from trio_typing import TaskStatus
    from zeroconf import ServiceInfo, Zeroconf

_log = structlog.get_logger(__name__)

SERVICE_TYPE = "_sovereign._udp.local."
# One TXT string is at most 255 bytes, the whole record must fit one packet.
_MAX_STRING_BYTES = 255
_MAX_TXT_BYTES = 1200
_PREFIX = b"dnsaddr="
_RESOLVE_TIMEOUT_MS = 2000
_CLOSE_TIMEOUT_S = 1.5
_QUEUE_SIZE = 64
_REANNOUNCE_S = 30.0
# The port of the service record is not used (the TXT strings have theirs), but must not be 0.
_UNUSED_PORT = 4001

PeerFound = Callable[[str, list[str]], None]


def encode_txt(addresses: Sequence[str]) -> bytes:
    """Write addresses as the strings of a TXT record.

    Args:
        addresses: multiaddrs that end in ``/p2p/PEER``; those that do not fit are left out.

    Returns:
        Strings with their length byte in front.
    """
    out = b""
    for address in addresses[:MAX_ADDRESSES]:
        item = _PREFIX + address.encode()
        if len(item) <= _MAX_STRING_BYTES and len(out) + 1 + len(item) <= _MAX_TXT_BYTES:
            out += bytes([len(item)]) + item
    return out


def decode_txt(data: bytes) -> tuple[str, list[str]] | None:
    """Read the strings of a TXT record.

    Args:
        data: as received.

    Returns:
        The peer id and its addresses; None if there are none, or they name more than one peer.
    """
    found: list[str] = []
    offset = 0
    while offset < len(data) and len(found) < MAX_ADDRESSES:
        item = data[offset + 1 : offset + 1 + data[offset]]
        offset += 1 + data[offset]
        if item.startswith(_PREFIX) and item.isascii():
            found.append(item[len(_PREFIX) :].decode("ascii"))
    peers = {split_peer_id(address)[1] for address in found}
    peer_id = peers.pop() if len(peers) == 1 else None
    if peer_id is None:
        return None
    try:
        public_key_from_peer_id(peer_id)
    except FormatError:
        return None
    return peer_id, list(dict.fromkeys(found))


class Mdns:
    """Announces this node on the local network and reports others.

    Args:
        peer_id: our own, which is not reported.
        addresses: gives our addresses, ending in ``/p2p/PEER``.
        on_peer: called in the trio thread with a peer id and its addresses, again whenever they change.
        interfaces: IPv4 addresses of the interfaces to use; empty for all.
    """

    def __init__(
        self,
        peer_id: str,
        addresses: Callable[[], list[str]],
        on_peer: PeerFound,
        *,
        interfaces: Sequence[str] = (),
    ) -> None:
        self._peer_id = peer_id
        self._addresses = addresses
        self._on_peer = on_peer
        self._interfaces = list(interfaces)
        # Random, so that the name does not follow a device from one network to the next.
        self._name = f"{secrets.token_hex(16)}.{SERVICE_TYPE}"

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Announce and report until cancelled; returns early if multicast does not work here.

        Args:
            task_status: told at once: starting takes a second, which nobody should wait for.
        """
        task_status.started()
        try:
            responder = await trio.to_thread.run_sync(self._open)
        except OSError as error:
            _log.info("mdns_unavailable", reason=str(error))
            return
        try:
            await self._serve(responder)
        except OSError as error:
            _log.info("mdns_stopped", reason=str(error))
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_TIMEOUT_S):
                # The stubs know an older trio.
                await trio.to_thread.run_sync(responder.close, abandon_on_cancel=True)  # type: ignore[call-arg]

    def _open(self) -> "Zeroconf":
        from zeroconf import InterfaceChoice, IPVersion, Zeroconf

        for interface in self._interfaces:
            # Zeroconf would raise the same error, but leave a socket open.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((interface, 0))
        chosen = self._interfaces or InterfaceChoice.All
        return Zeroconf(interfaces=chosen, ip_version=IPVersion.V4Only)

    async def _serve(self, responder: "Zeroconf") -> None:
        found_send, found = trio.open_memory_channel[tuple[str, list[str]]](_QUEUE_SIZE)
        listener = _Listener(self._peer_id, trio.lowlevel.current_trio_token(), found_send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, responder)
            await trio.to_thread.run_sync(_browse, responder, listener)
            async for peer_id, addresses in found:
                self._on_peer(peer_id, addresses)

    async def _announce(self, responder: "Zeroconf") -> None:
        """Keep the announcement equal to our addresses, which come and go with interfaces and relays."""
        announced = b""
        while True:
            txt = encode_txt(self._addresses())
            if txt and txt != announced:
                await trio.to_thread.run_sync(_publish, responder, self._info(txt), bool(announced))
                announced = txt
            await trio.sleep(_REANNOUNCE_S)

    def _info(self, txt: bytes) -> "ServiceInfo":
        from zeroconf import ServiceInfo

        label = self._name.partition(".")[0]
        return ServiceInfo(
            SERVICE_TYPE,
            self._name,
            port=_UNUSED_PORT,
            properties=txt,
            server=f"{label}.local.",
            addresses=[socket.inet_aton("127.0.0.1")],
        )


def _publish(responder: "Zeroconf", info: "ServiceInfo", known: bool) -> None:
    if known:
        responder.update_service(info)
    else:
        responder.register_service(info)


def _browse(responder: "Zeroconf", listener: "_Listener") -> None:
    from zeroconf import ServiceBrowser

    ServiceBrowser(responder, SERVICE_TYPE, listener=listener)  # type: ignore[arg-type]


class _Listener:
    """Called by zeroconf in a thread of its own; hands what it finds to trio."""

    def __init__(
        self,
        own_peer_id: str,
        token: trio.lowlevel.TrioToken,
        found: "trio.MemorySendChannel[tuple[str, list[str]]]",
    ) -> None:
        self._own_peer_id = own_peer_id
        self._token = token
        self._found = found

    def add_service(self, responder: "Zeroconf", service_type: str, name: str) -> None:
        """Resolve an instance that appeared."""
        info = responder.get_service_info(service_type, name, timeout=_RESOLVE_TIMEOUT_MS)
        decoded = decode_txt(info.text or b"") if info is not None else None
        if decoded is None or decoded[0] == self._own_peer_id:
            return
        try:
            self._token.run_sync_soon(self._hand_over, decoded)
        except trio.RunFinishedError:
            return

    def update_service(self, responder: "Zeroconf", service_type: str, name: str) -> None:
        """Resolve an instance that changed."""
        self.add_service(responder, service_type, name)

    def remove_service(self, *_: Any) -> None:
        """Nothing to do: addresses are hints, and the connection tells whether the peer is there."""

    def _hand_over(self, decoded: tuple[str, list[str]]) -> None:
        try:
            self._found.send_nowait(decoded)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            # A flood, or we are closing: the peer will be announced again.
            return
