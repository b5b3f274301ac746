"""The answering side of the DHT on a network: caps, deadlines, and who asked."""

from collections import Counter
from collections.abc import Callable

import trio

from sovereign_crypto.errors import FormatError
from sovereign_node.clock import Clock
from sovereign_node.net.kad.settings import KademliaSettings
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.kad import shell
from sovereign_protocols.kad.core import KadServer
from sovereign_protocols.kad.errors import RequestRefusedError
from sovereign_protocols.kad.keys import peer_id_bytes
from sovereign_protocols.kad.messages import Message


class KadService:
    """Serves inbound streams of the DHT protocol.

    Args:
        server: gives the answers.
        own_addresses: gives our addresses, binary.
        settings: caps and deadlines.
        clock: wall time.
        on_peer: called with the peer id (38 bytes) of everyone who asked something sensible.
    """

    def __init__(
        self,
        server: KadServer,
        own_addresses: Callable[[], tuple[bytes, ...]],
        settings: KademliaSettings,
        clock: Clock,
        on_peer: Callable[[bytes], None],
    ) -> None:
        self._server = server
        self._own_addresses = own_addresses
        self._settings = settings
        self._clock = clock
        self._on_peer = on_peer
        self._streams: Counter[bytes] = Counter()
        self.answered = 0
        self.refused: Counter[str] = Counter()

    async def handle_stream(self, stream: PeerStream) -> None:
        """Serve one stream; resets it when the peer breaks a rule.

        Args:
            stream: just accepted; its peer is authenticated.
        """
        try:
            sender = peer_id_bytes(stream.peer_id)
        except FormatError:
            self.refused["peer_id"] += 1
            await stream.reset()
            return
        per_peer, total = self._settings.streams_per_peer, self._settings.streams_total
        if self._streams[sender] >= per_peer or self._streams.total() >= total:
            self.refused["streams"] += 1
            await stream.reset()
            return
        self._streams[sender] += 1
        try:
            await self._serve(stream, sender)
        finally:
            self._streams[sender] -= 1
            if not self._streams[sender]:
                del self._streams[sender]

    async def _serve(self, stream: PeerStream, sender: bytes) -> None:
        def answer(request: Message) -> Message | None:
            reply = self._server.handle(
                request,
                sender,
                own_addresses=self._own_addresses(),
                now=self._clock(),
            )
            self.answered += 1
            self._on_peer(sender)
            return reply

        timeout_s = self._settings.idle_timeout_s
        try:
            await shell.serve(stream, answer, idle_timeout_s=timeout_s, write_timeout_s=timeout_s)
        except RequestRefusedError as error:
            self.refused[error.reason] += 1
            await stream.reset()
        except (ProtocolError, trio.TooSlowError):
            self.refused["malformed"] += 1
            await stream.reset()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.reset()
        else:
            await stream.aclose()
