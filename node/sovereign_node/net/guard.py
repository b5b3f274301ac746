"""A stranger's stream, or a handler of ours that fails, must not stop the host.

Defects of libp2p 0.8.1 answered here: six bytes that are not UTF-8 on a new stream raise out of the negotiation
and through the nursery of the whole swarm, and so does any exception that leaves a stream handler. One peer can
so stop the process. The dispatcher below is the supervisor of every inbound stream: it negotiates by itself
(see `negotiate`), logs a failure once, and resets that stream only.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import structlog
import trio

from sovereign_node.net import negotiate
from sovereign_node.net.errors import NegotiationError
from sovereign_node.net.muxers import peer_stream_of
from sovereign_node.net.streams import PeerStream
from sovereign_node.net.yamux_adapter import MuxedStream
from sovereign_protocols.errors import ConnectionLostError, RemoteError, RemoteProtocolError

_log = structlog.get_logger(__name__)

# What a peer brings about at will: no traceback for it, or strangers fill the disk with our log.
_PEERS_DOING = (
    RemoteProtocolError,
    RemoteError,
    ConnectionLostError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)

Handler = Callable[[PeerStream], Awaitable[None]]


class _Supported:
    """The protocols of two tables: ours, and the host's own services (identify, ping)."""

    def __init__(self, ours: Mapping[str, Handler], services: Mapping[str, Any]) -> None:
        self._ours = ours
        self._services = services

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._services

    def __iter__(self) -> Iterator[str]:
        return iter({*map(str, filter(None, self._services)), *self._ours})


class StreamDispatcher:
    """Negotiate and serve every stream that peers open to us.

    Args:
        handlers: protocol id to handler; ours, looked up at each stream.
        services: libp2p's own handler table, for identify and ping.
        negotiation_timeout_s: how long a peer may take to say what it wants.
        max_streams_per_peer: inbound streams that one peer may hold open.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        services: Mapping[str, Any],
        *,
        negotiation_timeout_s: float,
        max_streams_per_peer: int,
    ) -> None:
        self._handlers = handlers
        self._services = services
        self._supported = _Supported(handlers, services)
        self._negotiation_timeout_s = negotiation_timeout_s
        self._max_streams_per_peer = max_streams_per_peer
        self._open: dict[str, int] = {}

    async def __call__(self, net_stream: Any) -> None:
        """Serve one inbound stream; never raises, except for cancellation."""
        peer_id = str(net_stream.muxed_conn.peer_id)
        stream = peer_stream_of(net_stream.muxed_stream, peer_id)
        if self._open.get(peer_id, 0) >= self._max_streams_per_peer:
            await stream.reset()
            return
        self._open[peer_id] = self._open.get(peer_id, 0) + 1
        try:
            await self._serve(stream, net_stream)
        finally:
            self._open[peer_id] -= 1
            if not self._open[peer_id]:
                del self._open[peer_id]

    async def _serve(self, stream: PeerStream, net_stream: Any) -> None:
        try:
            with trio.fail_after(self._negotiation_timeout_s):
                protocol_id = await negotiate.accept(stream, self._supported, self._supported)
        except (NegotiationError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.reset()
            return
        try:
            if protocol_id in self._handlers:
                if isinstance(net_stream.muxed_stream, MuxedStream):
                    net_stream.muxed_stream.take()
                await self._handlers[protocol_id](stream)
                await stream.aclose()
            else:
                net_stream.set_protocol(protocol_id)
                await self._services[protocol_id](net_stream)
        except _PEERS_DOING as error:
            _log.info("stream_ended_by_peer", peer_id=stream.peer_id, protocol_id=protocol_id, reason=repr(error))
            await stream.reset()
        except Exception:  # noqa: BLE001 - the supervisor of the stream: its failure must not reach the host
            _log.warning("stream_handler_failed", peer_id=stream.peer_id, protocol_id=protocol_id, exc_info=True)
            await stream.reset()
