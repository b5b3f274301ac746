"""Our streams out of libp2p's, for either stack."""

from typing import Any

from sovereign_node.net.streams import PeerStream, StockStream
from sovereign_node.net.yamux_adapter import MuxedStream


def peer_stream_of(muxed_stream: Any, peer_id: str) -> PeerStream:
    """Give a muxed stream of either stack the face of a peer stream."""
    if isinstance(muxed_stream, MuxedStream):
        return muxed_stream.stream
    return StockStream(muxed_stream, peer_id)
