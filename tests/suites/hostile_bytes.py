"""Strangers who send anything at all, at every layer that a node lets them reach.

Each attack is one connection or stream: it sends bytes drawn from a seeded generator, reads what comes back for a
moment, and goes. An attack never fails; what the node does is judged by whoever runs it.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_node.net import negotiate
from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.dialer import open_tcp
from sovereign_node.net.errors import NetError
from sovereign_node.net.identity import to_libp2p_id
from sovereign_node.net.network import Network
from sovereign_node.net.session import SessionError
from sovereign_node.net.upgrade import _SessionFace
from sovereign_protocols.audit.messages import PROTOCOL_ID as AUDIT
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK
from sovereign_protocols.circuit.reach import KNOCK_PROTOCOL_ID
from sovereign_protocols.circuit.reach import PROTOCOL_ID as REACH
from sovereign_protocols.framing import PREFIX, encode_frame
from sovereign_protocols.kad import PROTOCOL_ID as KAD
from sovereign_protocols.market.messages import PROTOCOL_ID as MARKET
from sovereign_protocols.probe.messages import PROTOCOL_ID as PROBE
from sovereign_protocols.settle.messages import PROTOCOL_ID as SETTLE
from sovereign_protocols.yamux.errors import YamuxError
from sovereign_protocols.yamux.frames import PROTOCOL_ID as YAMUX

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors"
HEX = re.compile("(?:[0-9a-f]{2})+")
#: An end of what an attacked node may be waited for; it owes nobody an answer.
LISTEN_S = 0.3
STEP_S = 5.0
HUGE_VARINTS = (
    b"\xff" * 9 + b"\x01",  # 2^64 - 1
    b"\x80" * 9 + b"\x01",  # 2^63
    b"\xff" * 10 + b"\x01",  # eleven bytes
    b"\x80\x80\x80\x80\x10",  # 2^32
    b"\x80" * 64,
)
_EXPECTED = (
    OSError,
    NetError,
    SessionError,
    BaseLibp2pError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    YamuxError,
)
#: Protocols that a stranger may open; names that may not exist here are refused, which is an attack, too.
PROTOCOLS = (
    KAD,
    CHUNK,
    MARKET,
    SETTLE,
    AUDIT,
    PROBE,
    REACH,
    KNOCK_PROTOCOL_ID,
    "/ipfs/id/1.0.0",
    "/ipfs/ping/1.0.0",
    "/libp2p/circuit/relay/0.2.0/hop",
    "/libp2p/circuit/relay/0.2.0/stop",
    "/libp2p/dcutr",
)


class Attacker:
    """Attacks one node.

    Args:
        network: a host of the attacker's; it may be connected to the node.
        peer_id: of the node.
        address: of the node.
        seed: of everything that is drawn.
    """

    def __init__(self, network: Network, peer_id: str, address: str, seed: int) -> None:
        self._network = network
        self._peer_id = peer_id
        self._address = address
        self.random = random.Random(seed)
        self.counts: dict[str, int] = {}
        self._frames = known_frames()
        self.attacks: tuple[Callable[[], Awaitable[None]], ...] = (
            self.socket,
            self.security_negotiation,
            self.handshake,
            self.muxer_negotiation,
            self.muxer_frames,
            self.stream_negotiation,
            self.protocol,
        )

    async def run(self, seconds: float) -> None:
        """Attack over and over, each way in turn."""
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at:
            for attack in self.attacks:
                with trio.move_on_after(STEP_S):
                    try:
                        await attack()
                    except _EXPECTED:
                        # That the node hangs up is what it should do.
                        self._count("cut off")
                self._count(attack.__name__)

    def noise(self, limit: int = 4096) -> bytes:
        """Draw random bytes, sometimes behind a length that nobody should believe."""
        data = self.random.randbytes(self.random.randint(1, limit))
        return self.random.choice(HUGE_VARINTS) + data if self.random.random() < 0.3 else data

    def flipped(self, data: bytes) -> bytes:
        """Change some bits of something valid."""
        changed = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def mutated(self, frame: bytes) -> bytes:
        """Put something else into one field of a valid message; it is well-formed and makes no sense."""
        header_bytes, payload_bytes = PREFIX.unpack_from(frame)
        header = cbor.decode(frame[PREFIX.size :][:header_bytes])
        header[self.random.randrange(len(header))] = self.random.choice(
            [-1, 0, 2**62, b"", self.random.randbytes(33), bytes(32), "text", None, True, [], [[]], {"v": 1}]
        )
        return encode_frame(cbor.encode(header), payload_bytes) + frame[PREFIX.size + header_bytes :]

    # --- below the streams -----------------------------------------------------------------------------------

    async def socket(self) -> None:
        """Random bytes instead of anything."""
        async with await self._connect() as stream:
            await stream.send_all(self.noise(65536))
            await _listen(stream)

    async def security_negotiation(self) -> None:
        """The right beginning, then a name or length that is wrong."""
        async with await self._connect() as stream:
            await stream.send_all(negotiate.encode_message(b"/multistream/1.0.0") + self.noise())
            await _listen(stream)

    async def handshake(self) -> None:
        """Random bytes where Noise messages should be, with their length in front or without it."""
        async with await self._connect() as stream:
            await stream.send_all(_proposal("/noise"))
            message = self.noise(2000)
            await stream.send_all(struct.pack(">H", self.random.choice([len(message), 32, 0, 65535])) + message)
            await _listen(stream)

    async def muxer_negotiation(self) -> None:
        """An authenticated peer that does not agree on a muxer."""
        async with aclosing(self._session()) as sessions:
            async for session in sessions:
                await _transmit(session, self.noise(60_000))
                await _listen_session(session)

    async def muxer_frames(self) -> None:
        """Yamux frames of every kind, with flags, streams and lengths that make no sense."""
        async with aclosing(self._session()) as sessions:
            async for session in sessions:
                await negotiate.propose(_SessionFace(session, self._peer_id), YAMUX)
                await _transmit(session, b"".join(self._muxer_frame() for _ in range(self.random.randint(1, 50))))
                await _listen_session(session)

    def _muxer_frame(self) -> bytes:
        draw = self.random
        version = 0 if draw.random() < 0.95 else draw.randrange(256)
        kind = draw.choice([0, 0, 0, 1, 1, 2, 3, draw.randrange(256)])
        flags = draw.choice([0, 1, 2, 4, 8, draw.randrange(65536)])
        stream = draw.choice([0, 1, 2, 3, 2**31, 2**32 - 1, draw.randrange(1, 200)])
        payload = draw.randbytes(draw.randint(0, 400)) if kind == 0 else b""
        length = draw.choice([len(payload), len(payload), len(payload), 2**32 - 1, 2**24, draw.randrange(2**32)])
        return struct.pack(">BBHII", version, kind, flags, stream, length) + payload

    # --- on streams ------------------------------------------------------------------------------------------

    async def stream_negotiation(self) -> None:
        """A stream on which no protocol is agreed."""
        await self._network.connect(self._peer_id, [self._address])
        stream = await self._network._preferred(self._peer_id, "").open_stream()
        try:
            prefix = negotiate.encode_message(b"/multistream/1.0.0") if self.random.random() < 0.5 else b""
            await stream.send_all(prefix + self.noise())
            await _listen(stream)
        finally:
            await stream.reset()

    async def protocol(self) -> None:
        """A protocol that is agreed, and then anything: noise, frames that are almost valid, endless lengths."""
        await self._network.connect(self._peer_id, [self._address])
        stream = await self._network.open_stream(self._peer_id, self.random.choice(PROTOCOLS))
        try:
            for _ in range(self.random.randint(1, 4)):
                await stream.send_all(self._message())
            if self.random.random() < 0.5:
                await stream.send_eof()
            await _listen(stream)
        finally:
            await stream.reset()

    def _message(self) -> bytes:
        draw = self.random
        frame = draw.choice(self._frames)
        header = [draw.randrange(48), draw.randrange(2**32), {"v": 1}, draw.randbytes(32), None][
            : draw.randint(1, 5)
        ]
        return draw.choice(
            [
                self.noise(),
                frame,
                self.flipped(frame),
                self.mutated(frame),
                self.mutated(frame),
                frame[: draw.randrange(len(frame))],
                encode_frame(cbor.encode(header)),
                struct.pack(">II", draw.choice([0, 65536, 65537, 2**32 - 1]), draw.choice([0, 2**31, 2**32 - 1])),
                bytes([draw.randrange(1, 60), 8, draw.randrange(8)]) + draw.randbytes(40),
            ]
        )

    # --- ways in ---------------------------------------------------------------------------------------------

    async def _connect(self) -> trio.SocketStream:
        tcp = parse_tcp(self._address)
        return await trio.open_tcp_stream(tcp.host, tcp.port)

    async def _session(self) -> Any:
        """Yield one authenticated session without a muxer."""
        pipe = await open_tcp(self._address)
        try:
            upgrader = self._network._swarm.upgrader
            secured = await upgrader.upgrade_security(RawConnection(pipe, True), True, to_libp2p_id(self._peer_id))
            yield secured.session
        finally:
            with trio.CancelScope(shield=True):
                await pipe.close()

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def known_frames() -> list[bytes]:
    """Return every valid frame of the vectors of all protocols."""
    found: dict[bytes, None] = {}

    def look(value: Any) -> None:
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                look(item)
        elif isinstance(value, str) and len(value) > 2 * PREFIX.size and HEX.fullmatch(value):
            frame = bytes.fromhex(value)
            header_bytes, payload_bytes = PREFIX.unpack_from(frame)
            if header_bytes + payload_bytes == len(frame) - PREFIX.size:
                with suppress(CryptoError):
                    if isinstance(cbor.decode(frame[PREFIX.size :][:header_bytes]), list) and header_bytes > 1:
                        found[frame] = None

    for file in sorted(VECTORS.glob("*.json")):
        look(json.loads(file.read_text()))
    return list(found)


def _proposal(protocol_id: str) -> bytes:
    return negotiate.encode_message(b"/multistream/1.0.0") + negotiate.encode_message(protocol_id.encode())


async def _transmit(session: Any, data: bytes) -> None:
    await session.transmit(session.seal([data]))


async def _listen(stream: Any) -> None:
    with trio.move_on_after(LISTEN_S):
        while await stream.receive_some(65536):
            pass


async def _listen_session(session: Any) -> None:
    with trio.move_on_after(LISTEN_S):
        while await session.receive():
            pass
