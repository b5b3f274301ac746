"""Asking one peer: a stream for each question, one deadline over all of it, and a memory for silence."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from sovereign_crypto.errors import FormatError
from sovereign_node.net.errors import NetError
from sovereign_node.net.kad.addresses import addresses_to_text
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.kad import PROTOCOL_ID, shell
from sovereign_protocols.kad.keys import peer_id_text
from sovereign_protocols.kad.messages import Contact, Message

# A peer that failed is left alone for this long, twice as long after each further failure.
FIRST_SUSPICION_S = 20.0
LONGEST_SUSPICION_S = 900.0
MAX_SUSPECTS = 4096


class DhtNetwork(Protocol):
    """The part of ``sovereign_node.net.network.Network`` that the DHT needs."""

    @property
    def peer_id(self) -> str:
        """Base58 text of our peer id."""

    def addresses(self) -> list[str]:
        """Our addresses, ending in ``/p2p/PEER``."""

    def set_handler(self, protocol_id: str, handler: Callable[[PeerStream], Awaitable[None]]) -> None:
        """Serve a protocol."""

    def remove_handler(self, protocol_id: str) -> None:
        """Stop serving a protocol."""

    def is_connected(self, peer_id: str) -> bool:
        """Whether a connection to the peer is open."""

    def watch_connections(self, watcher: Callable[[str, bool], None]) -> Callable[[], None]:
        """Have the peers told that come and go; returns what ends it."""

    async def connect(self, peer_id: str, addresses: Sequence[str] = (), *, timeout_s: float = 5.0) -> None:
        """Make sure that there is a connection."""

    async def open_stream(self, peer_id: str, protocol_id: str, *, timeout_s: float = 5.0) -> PeerStream:
        """Open a stream."""


@dataclass(frozen=True, slots=True)
class PeerAddresses:
    """Where a peer may be reached.

    Attributes:
        peer_id: base58 text.
        addresses: multiaddrs that end in ``/p2p/PEER``; hints, since connecting proves who is there.
    """

    peer_id: str
    addresses: tuple[str, ...]


class CallFailedError(Exception):
    """A peer did not answer a question: unreachable, silent, refusing or babbling."""


@dataclass(slots=True)
class _Suspicion:
    failures: int
    until: float


class Suspects:
    """Peers that did not answer lately, so that no lookup waits for them again soon."""

    def __init__(self) -> None:
        self._peers: OrderedDict[bytes, _Suspicion] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer_id: object) -> bool:
        suspicion = self._peers.get(peer_id) if isinstance(peer_id, bytes) else None
        return suspicion is not None and trio.current_time() < suspicion.until

    def add(self, peer_id: bytes) -> None:
        """Note one more failure.

        Args:
            peer_id: 38 bytes.
        """
        previous = self._peers.pop(peer_id, None)
        failures = 1 if previous is None else previous.failures + 1
        pause_s = min(LONGEST_SUSPICION_S, FIRST_SUSPICION_S * 2 ** min(failures - 1, 10))
        self._peers[peer_id] = _Suspicion(failures, trio.current_time() + pause_s)
        if len(self._peers) > MAX_SUSPECTS:
            self._peers.popitem(last=False)

    def clear(self, peer_id: bytes) -> None:
        """Forget the failures of a peer that answered.

        Args:
            peer_id: 38 bytes.
        """
        self._peers.pop(peer_id, None)


class Caller:
    """Asks peers questions.

    Args:
        network: how to reach them.
        timeout_s: for dialling, asking and answering together, in seconds.
    """

    def __init__(self, network: DhtNetwork, *, timeout_s: float) -> None:
        self._network = network
        self._timeout_s = timeout_s
        self.calls = 0
        self.failures = 0

    async def call(self, contact: Contact, request: Message) -> Message | None:
        """Ask one peer one question.

        Args:
            contact: whom, and where it may be; the addresses serve only if no connection is open.
            request: what.

        Returns:
            The answer; None for ADD_PROVIDER, when it was accepted.

        Raises:
            CallFailedError: no answer within the deadline.
        """
        self.calls += 1
        try:
            with trio.fail_after(self._timeout_s):
                return await self._ask(contact, request)
        except (
            NetError,
            ProtocolError,
            FormatError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            trio.TooSlowError,
            # A dial that spent its whole time waiting for another one to the same peer on a busy machine
            # computes a negative timeout; that must not end the DHT.
            ValueError,
        ) as error:
            self.failures += 1
            raise CallFailedError(str(error) or type(error).__name__) from error

    async def _ask(self, contact: Contact, request: Message) -> Message | None:
        peer_id = peer_id_text(contact.peer_id)
        if not self._network.is_connected(peer_id):
            addresses = addresses_to_text(peer_id, contact.addresses)
            await self._network.connect(peer_id, addresses, timeout_s=self._timeout_s)
        stream = await self._network.open_stream(peer_id, PROTOCOL_ID, timeout_s=self._timeout_s)
        try:
            answer = await shell.ask(stream, request)
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        await stream.aclose()
        return answer
