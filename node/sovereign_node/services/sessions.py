"""Sessions of the chunk protocol with providers, and the error that each ends with in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.net.streams import PeerStream
from sovereign_node.services.lasting_session import LastingSession, open_lasting_session
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder, unreachable
from sovereign_protocols.chunk import PROTOCOL_ID
from sovereign_protocols.chunk.client import ChunkClient, Credentials, open_chunk_client
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, ProtocolError, RemoteError


class ChunkSessions:
    """Opens sessions as this device.

    Args:
        finder: reaches providers.
        identity: certificate and log to show.
        clock: wall time.
        on_clock: told peer id and clock, seconds UTC, of each provider that was talked to.
    """

    def __init__(
        self,
        finder: PeerFinder,
        identity: OwnIdentity,
        clock: Clock,
        on_clock: Callable[[str, int], None] = lambda _peer_id, _clock_at: None,
    ) -> None:
        self._on_clock = on_clock
        self._finder = finder
        self._identity = identity
        self._clock = clock

    @asynccontextmanager
    async def open(self, peer_id: str) -> AsyncIterator[ChunkClient]:
        """Serve the block with a session to a provider.

        Raises:
            NodeError: unreachable, or it refuses this device.
        """
        stream = await self._finder.open_stream(peer_id, PROTOCOL_ID)
        async with self._begin(stream) as client:
            yield client

    def open_lasting(self, peer_id: str) -> AbstractAsyncContextManager[LastingSession]:
        """Serve the block with a session that is opened again when its connection is lost, for long work.

        Raises:
            NodeError: unreachable, or it refuses this device.
        """
        return open_lasting_session(
            peer_id,
            lambda: self._open_patiently(peer_id),
            self._begin,
            lambda: self._finder.path_rank(peer_id),
        )

    async def _open_patiently(self, peer_id: str) -> PeerStream:
        """Take the full time to reach a provider also right after its connection was lost."""
        await self._finder.connect(peer_id, is_patient=True)
        return await self._finder.open_stream(peer_id, PROTOCOL_ID)

    def _begin(self, stream: PeerStream) -> AbstractAsyncContextManager[ChunkClient]:
        credentials = Credentials(self._identity.certificate.raw, self._identity.log.entries)
        return open_session(stream, credentials, self._clock, self._on_clock)


@asynccontextmanager
async def open_session(
    stream: PeerStream,
    credentials: Credentials | None,
    clock: Clock,
    on_clock: Callable[[str, int], None] = lambda _peer_id, _clock_at: None,
) -> AsyncIterator[ChunkClient]:
    """Serve the block with a session; without credentials only the identity record can be read.

    Args:
        stream: of the chunk protocol, fresh.
        credentials: of this device, or None.
        clock: wall time.
        on_clock: told the provider's peer id and clock, also when that is why it refuses.

    Raises:
        NodeError: the connection was lost, or the provider refuses.
    """
    try:
        async with open_chunk_client(stream, credentials, clock_at=clock()) as client:
            on_clock(stream.peer_id, client.server_clock_at)
            yield client
    except ProtocolError as error:
        if isinstance(error, RemoteError) and error.code == ErrorCode.CLOCK_SKEW:
            on_clock(stream.peer_id, int(error.data.get("clock_at", clock())))
        raise session_error(error, stream.peer_id, clock()) from error


def session_error(error: ProtocolError, peer_id: str, now: int) -> NodeError:
    """Put the end of a session into words."""
    if isinstance(error, ConnectionLostError):
        return unreachable(peer_id)
    if isinstance(error, RemoteError) and error.code == ErrorCode.CLOCK_SKEW:
        difference = now - int(error.data.get("clock_at", now))
        direction = "ahead of" if difference > 0 else "behind"
        return NodeError(
            "clock_skew",
            f"the clock of this device is {abs(difference)} s {direction} {peer_id}",
            "set the clock of this device, if it is the wrong one",
        )
    if isinstance(error, RemoteError) and error.code == ErrorCode.IDENTITY:
        return NodeError(
            "device_refused",
            f"{peer_id} does not accept this device's certificate",
            "the device may have been revoked; see `sovereign devices` on another device",
        )
    return NodeError("provider_refused", f"{peer_id} ended the conversation: {error}", "see `sovereign doctor`")
