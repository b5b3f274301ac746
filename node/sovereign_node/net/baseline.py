"""A plain libp2p host, as its documentation shows it: what ours is measured against.

Never run it where strangers can reach it; `guard`, `listener`, `noise` and `dialer` say why.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import Transport
from multiaddr import Multiaddr

from sovereign_node.net.identity import DeviceKey, key_pair_of
from sovereign_node.net.noise import NOISE_PROTOCOL_ID
from sovereign_node.net.streams import STOCK_WRITE_BYTES

_READ_BYTES = 1024 * 1024


class BaselineStream(trio.abc.AsyncResource):
    """Just enough of a trio stream over libp2p's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send in the pieces that the stock stack is fastest with."""
        for start in range(0, len(data), STOCK_WRITE_BYTES):
            await self._stream.write(bytes(data[start : start + STOCK_WRITE_BYTES]))

    async def receive_some(self, max_bytes: int = _READ_BYTES) -> bytes:
        """Return 1..max_bytes bytes, or nothing at the end."""
        try:
            data: bytes = await self._stream.read(max_bytes)
        except StreamEOF:
            return b""
        return data

    async def send_eof(self) -> None:
        """End our direction."""
        await self._stream.close_write()

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.close()


class BaselineHost:
    """A host with stock connections and streams."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.peer_id = str(host.get_id())

    def addresses(self) -> list[str]:
        """List where it listens."""
        return [str(address) for address in self._host.get_addrs()]

    def set_handler(self, protocol_id: str, handler: Callable[[BaselineStream], Awaitable[None]]) -> None:
        """Serve a protocol."""

        async def serve(stream: Any) -> None:
            await handler(BaselineStream(stream))

        self._host.set_stream_handler(protocol_id, serve)

    async def connect(self, peer_id: str, addresses: list[str]) -> None:
        """Dial the first address."""
        assert addresses[0].endswith(peer_id)
        await self._host.connect(info_from_p2p_addr(Multiaddr(addresses[0])))

    async def disconnect(self, peer_id: str) -> None:
        """Close the connections to a peer."""
        await self._host.disconnect(type(self._host.get_id()).from_string(peer_id))

    async def open_stream(self, peer_id: str, protocol_id: str) -> BaselineStream:
        """Open a stream."""
        target = type(self._host.get_id()).from_string(peer_id)
        return BaselineStream(await self._host.new_stream(target, [protocol_id]))


@asynccontextmanager
async def open_baseline(device_key: DeviceKey, *, listen: list[str]) -> AsyncIterator[BaselineHost]:
    """Run a stock host for the length of the block."""
    key_pair = key_pair_of(device_key)
    noise = Transport(key_pair, noise_privkey=create_x25519().private_key)
    host = new_host(key_pair=key_pair, sec_opt={NOISE_PROTOCOL_ID: noise})
    async with host.run([Multiaddr(address) for address in listen]):
        try:
            yield BaselineHost(host)
        finally:
            await host.close()
