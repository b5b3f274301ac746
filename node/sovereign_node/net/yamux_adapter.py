"""The face that libp2p's own services (identify, ping, relay) expect of a muxed stream."""

from typing import TYPE_CHECKING, Any

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset

from sovereign_node.net.yamux_stream import YamuxStream

if TYPE_CHECKING:
    from sovereign_node.net.yamux_connection import YamuxConnection


class MuxedStream(IMuxedStream):  # type: ignore[misc]
    """A `YamuxStream` in libp2p's clothes."""

    def __init__(self, stream: YamuxStream, connection: "YamuxConnection") -> None:
        self.stream = stream
        self.muxed_conn = connection
        self._taken = False

    def take(self) -> YamuxStream:
        """Give the stream to a handler of ours: from now on libp2p's clean-up leaves it alone.

        The swarm resets every stream that it knows when a connection ends, which would throw away bytes that
        arrived before and were not read yet.
        """
        self._taken = True
        return self.stream

    async def read(self, n: int | None = None) -> bytes:
        """Return 1..n bytes, or raise at the end."""
        try:
            data = await self.stream.receive_some(None if n is None or n < 0 else n)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise MuxedStreamReset(str(error)) from error
        if not data:
            raise MuxedStreamEOF("the peer has finished")
        return data

    async def write(self, data: bytes) -> None:
        """Send everything."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise MuxedStreamError(str(error)) from error

    async def close_write(self) -> None:
        """End our direction."""
        try:
            await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise MuxedStreamError(str(error)) from error

    async def close(self) -> None:
        """End both directions."""
        await self.stream.aclose()

    async def reset(self) -> None:
        """Break both directions."""
        if not self._taken:
            await self.stream.reset()

    def set_deadline(self, ttl: int) -> None:
        """Not offered; callers use trio's deadlines."""
        raise NotImplementedError("use trio.fail_after")

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP and port of the other end of the connection."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> "MuxedStream":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()
