"""The socket below a connection to a NATS server, in clear or inside TLS.

Reading goes straight into the parser's buffer and writing hands the kernel a list of buffers, so that a payload
is not copied on its way out and once on its way in; TLS costs its own copies.
"""

import ssl
from typing import Protocol

import trio

from sovereign_protocols.relay.endpoint import Endpoint

Buffer = bytes | memoryview
# Linux takes 1024 buffers in one call; 96 are 32 messages of three.
_MAX_BUFFERS = 96


class Link(Protocol):
    """A connected byte stream; every failure is an `OSError` or a trio resource error.

    Attributes:
        torn: a cancelled `send` has left the stream in a state in which nothing more can be sent.
    """

    torn: bool

    async def receive_into(self, target: memoryview) -> int:
        """Fill the beginning of `target`; 0 is the end."""
        ...

    async def send(self, buffers: list[Buffer]) -> None:
        """Send all buffers in order, removing what was sent; a cancelled call may be repeated unless `torn`."""
        ...

    async def aclose(self) -> None:
        """Close at once."""
        ...


class PlainLink:
    """TCP without encryption.

    Args:
        stream: owned from now on.
    """

    torn = False

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._socket = stream.socket

    async def receive_into(self, target: memoryview) -> int:
        """Fill the beginning of `target`; 0 is the end."""
        return await self._socket.recv_into(target)

    async def send(self, buffers: list[Buffer]) -> None:
        """Send all buffers in order, removing what was sent."""
        while buffers:
            sent = await self._socket.sendmsg(buffers[:_MAX_BUFFERS])
            whole = 0
            while whole < len(buffers) and sent >= len(buffers[whole]):
                sent -= len(buffers[whole])
                whole += 1
            del buffers[:whole]
            if sent:
                buffers[0] = memoryview(buffers[0])[sent:]

    async def aclose(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self.stream)


class TlsLink:
    """TLS over a plain link whose server has asked for it.

    Args:
        plain: its stream is owned from now on.
        context: which certificates are trusted.
        server_name: what the certificate must name.
    """

    def __init__(self, plain: PlainLink, context: ssl.SSLContext, server_name: str) -> None:
        self.torn = False
        # NATS servers, like HTTP servers, close without TLS's own goodbye.
        self._stream = trio.SSLStream(plain.stream, context, server_hostname=server_name, https_compatible=True)

    async def handshake(self) -> None:
        """Prove the server's name.

        Raises:
            trio.BrokenResourceError: the certificate is not trusted, or the server is no TLS server.
        """
        await self._stream.do_handshake()

    async def receive_into(self, target: memoryview) -> int:
        """Fill the beginning of `target`; 0 is the end."""
        data = await self._stream.receive_some(len(target))
        target[: len(data)] = data
        return len(data)

    async def send(self, buffers: list[Buffer]) -> None:
        """Send all buffers in order, as one TLS write."""
        self.torn = True
        await self._stream.send_all(b"".join(buffers))
        self.torn = False
        buffers.clear()

    async def aclose(self) -> None:
        """Close at once."""
        await trio.aclose_forcefully(self._stream)


async def open_plain(endpoint: Endpoint) -> PlainLink:
    """Connect to the server.

    Raises:
        OSError: refused, unreachable, or the name does not resolve.
    """
    return PlainLink(await trio.open_tcp_stream(endpoint.host, endpoint.port))
