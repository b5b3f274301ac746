"""Plain libp2p hosts and connections, to show what ours does without."""

import secrets
import struct
from contextlib import asynccontextmanager, suppress

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")


def frame(kind: int, flags: int, stream_id: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream_id, length) + payload


@asynccontextmanager
async def stock_host(listen=(LOOPBACK,), **options):
    host = new_host(key_pair=create_new_key_pair(secrets.token_bytes(32)), **options)
    async with host.run(list(listen)):
        try:
            yield host
        finally:
            await host.close()


def info_of(host):
    return info_from_p2p_addr(host.get_addrs()[0])


class ScriptedConnection:
    """A secured connection that delivers what the test gives it; writes may be made to hang."""

    is_initiator = False

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel(1000)
        self._rest = b""
        self.written = bytearray()
        self.writes_hang = False

    async def deliver(self, data: bytes) -> None:
        with suppress(trio.ClosedResourceError):
            await self._send.send(data)

    async def read(self, n=None) -> bytes:
        if not self._rest:
            self._rest = await self._receive.receive()
        taken, self._rest = self._rest[:n], self._rest[n:]
        return taken

    async def write(self, data: bytes) -> None:
        if self.writes_hang:
            await trio.sleep_forever()
        self.written += data
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        self._send.close()

    def get_remote_address(self):
        return None


@asynccontextmanager
async def running_yamux(kind=Yamux):
    """Run a libp2p muxer over a scripted connection."""
    connection = ScriptedConnection()
    muxer = kind(connection, "peer", is_initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        yield muxer, connection
        nursery.cancel_scope.cancel()
