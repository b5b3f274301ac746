"""One end of a circuit as a byte pipe, below the encryption between the two peers."""

import trio

from sovereign_node.net.streams import PeerStream


class CircuitPipe(trio.abc.HalfCloseableStream):
    """A stream to a relay, from the moment on which it carries the bytes of the peer behind it.

    Args:
        stream: to or from the relay; owned from now on.

    Attributes:
        closed: set when this end was closed.
    """

    def __init__(self, stream: PeerStream) -> None:
        self._stream = stream
        self.closed = trio.Event()

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send everything."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until `send_all` may take something."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return 1..max_bytes bytes, or nothing at the end."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """End this direction."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """End both directions."""
        self.closed.set()
        await self._stream.aclose()
