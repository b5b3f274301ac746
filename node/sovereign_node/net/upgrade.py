"""From a bare pipe to an authenticated connection with streams.

It takes the place of libp2p 0.8.1's upgrader, which builds its own Yamux whenever `/yamux/1.0.0` is chosen,
whatever muxer was given, and reads its negotiations byte by byte from the socket. Each negotiation here is one
round trip.
"""

import hmac
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import MuxerUpgradeFailure, SecurityUpgradeFailure

from sovereign_node.net import negotiate
from sovereign_node.net.errors import NetError
from sovereign_node.net.noise import NOISE_PROTOCOL_ID, SecureConnection
from sovereign_node.net.session import NoiseSession, SessionError
from sovereign_node.net.streams import receive_exactly
from sovereign_node.net.yamux_connection import YamuxConnection
from sovereign_protocols.circuit.reach import KNOCK_PROTOCOL_ID, TOKEN_BYTES
from sovereign_protocols.yamux.budget import WindowBudget
from sovereign_protocols.yamux.events import Limits
from sovereign_protocols.yamux.frames import HEADER_BYTES
from sovereign_protocols.yamux.frames import PROTOCOL_ID as YAMUX_PROTOCOL_ID

# A peer that ended a connection with a protocol error may dislike frames above 64 KiB, which are legal and which
# some implementations refuse; its next connection gets none.
_CAUTIOUS_FRAME_BYTES = 64 * 1024 - HEADER_BYTES
_MAX_OBJECTORS = 1024


class _PipeFace:
    """A pipe in negotiation; reads exactly what is asked for, so that nothing is taken from the handshake."""

    def __init__(self, pipe: Any, peer_id: str) -> None:
        self._pipe = pipe
        self.peer_id = peer_id
        self.protocol_id = ""

    async def send_all(self, data: bytes) -> None:
        await self._pipe.write(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data: bytes = await self._pipe.read(max_bytes)
        return data


class _SessionFace:
    """A session in negotiation; keeps what came with the last answer for the muxer."""

    def __init__(self, session: NoiseSession, peer_id: str) -> None:
        self._session = session
        self.peer_id = peer_id
        self.protocol_id = ""
        self.early = bytearray()

    async def send_all(self, data: bytes) -> None:
        await self._session.transmit(self._session.seal([data]))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.early:
            self.early += await self._session.receive()
        taken = bytes(self.early[:max_bytes])
        del self.early[: len(taken)]
        return taken


class Upgrader:
    """What a swarm of ours upgrades its connections with.

    Args:
        noise: the host's Noise transport.
        limits: bounds of each connection's streams and windows.
        peer_window_bytes: receive memory of one connection.
        node_budget: receive memory of all of them.

    Attributes:
        on_knock: asked with peer id and token whether a dial-back was expected.
    """

    def __init__(self, noise: Any, limits: Limits, *, peer_window_bytes: int, node_budget: WindowBudget) -> None:
        self._noise = noise
        self._limits = limits
        self._peer_window_bytes = peer_window_bytes
        self._node_budget = node_budget
        self.on_knock: Callable[[str, bytes], bool] = lambda _peer_id, _token: False
        self._objectors: dict[str, None] = {}

    async def upgrade_security(self, raw_conn: Any, is_initiator: bool, peer_id: Any = None) -> Any:
        """Agree on Noise and shake hands.

        Raises:
            SecurityUpgradeFailure: the peer does not speak Noise, is someone else, or went away.
        """
        face = _PipeFace(raw_conn.stream, str(peer_id or ""))
        try:
            if is_initiator:
                await negotiate.propose(face, NOISE_PROTOCOL_ID)
                return await self._noise.secure_outbound(raw_conn, peer_id)
            await negotiate.accept(face, (NOISE_PROTOCOL_ID,), (NOISE_PROTOCOL_ID,))
            return await self._noise.secure_inbound(raw_conn)
        except (NetError, BaseLibp2pError, trio.BrokenResourceError) as error:
            raise SecurityUpgradeFailure(str(error) or type(error).__name__) from error

    async def upgrade_connection(self, conn: SecureConnection, peer_id: Any) -> YamuxConnection:
        """Agree on Yamux and wrap the connection.

        Raises:
            MuxerUpgradeFailure: the peer does not speak Yamux, or went away.
        """
        face = _SessionFace(conn.session, str(peer_id))
        try:
            if conn.is_initiator:
                await negotiate.propose(face, YAMUX_PROTOCOL_ID)
            else:
                offered = (YAMUX_PROTOCOL_ID, KNOCK_PROTOCOL_ID)
                if await negotiate.accept(face, offered, (YAMUX_PROTOCOL_ID,)) == KNOCK_PROTOCOL_ID:
                    await self._answer_knock(face, conn)
                    raise MuxerUpgradeFailure("a dial-back, not a connection")
        except (NetError, SessionError, trio.BrokenResourceError) as error:
            raise MuxerUpgradeFailure(str(error) or type(error).__name__) from error
        limits = self._limits
        if face.peer_id in self._objectors:
            limits = replace(limits, max_frame_bytes=_CAUTIOUS_FRAME_BYTES)
        connection = YamuxConnection(
            conn,
            peer_id,
            early=bytes(face.early),
            limits=limits,
            budget=WindowBudget(self._peer_window_bytes, self._node_budget),
        )
        connection.on_objection = partial(self._remember_objection, face.peer_id)
        return connection

    def _remember_objection(self, peer_id: str) -> None:
        self._objectors[peer_id] = None
        if len(self._objectors) > _MAX_OBJECTORS:
            del self._objectors[next(iter(self._objectors))]

    async def _answer_knock(self, face: _SessionFace, conn: SecureConnection) -> None:
        token = await receive_exactly(face, TOKEN_BYTES)
        # Through a third party it proves nothing.
        if conn.pipe.remote is not None and self.on_knock(face.peer_id, token):
            await face.send_all(token)

    async def knock(self, pipe: Any, peer_id: Any, token: bytes) -> bool:
        """Hand a token to the peer at the other end of a fresh pipe, which the caller closes.

        Returns:
            Whether the peer was there and had expected the token.
        """
        try:
            secured = await self.upgrade_security(RawConnection(pipe, True), True, peer_id)
            face = _SessionFace(secured.session, str(peer_id))
            await negotiate.propose(face, KNOCK_PROTOCOL_ID)
            await face.send_all(token)
            return hmac.compare_digest(await receive_exactly(face, TOKEN_BYTES), token)
        except (NetError, SessionError, SecurityUpgradeFailure, trio.BrokenResourceError):
            return False
