"""Which stream muxer a host runs, and our streams out of libp2p's."""

from typing import Any

from sovereign_node.net.streams import PeerStream, StockStream


def peer_stream_of(muxed_stream: Any, peer_id: str) -> PeerStream:
    """Give a muxed stream of either stack the face of a peer stream."""
    return StockStream(muxed_stream, peer_id)
