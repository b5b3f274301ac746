"""Noise, the only security protocol that we offer or accept.

libp2p 0.8.1 offers `/plaintext/2.0.0`, `/secio/1.0.0` and `/tls/1.0.0` beside `/noise` by default, and a peer that
chooses plaintext may claim any identity. Hosts of ours register the classes below alone. The handshake is libp2p's
own; identities other than Ed25519 are refused after it.
"""

from typing import Any

from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import Transport

from sovereign_node.net.identity import is_ed25519
from sovereign_node.net.session import NoiseSession

NOISE_PROTOCOL_ID = "/noise"


class StockNoise(Transport):  # type: ignore[misc]
    """libp2p's handshake and session, for peers with an Ed25519 identity."""

    async def secure_inbound(self, conn: Any) -> Any:
        """Answer a handshake."""
        return self._finish(await super().secure_inbound(conn), conn)

    async def secure_outbound(self, conn: Any, peer_id: Any) -> Any:
        """Start a handshake with the peer that must be at the other end."""
        return self._finish(await super().secure_outbound(conn, peer_id), conn)

    def _finish(self, session: Any, conn: Any) -> Any:
        if not is_ed25519(session.get_remote_peer().to_bytes()):
            raise HandshakeFailure("the peer's identity is not an Ed25519 key")
        session.pipe = conn.stream
        return session


class SecureConnection:
    """An authenticated connection with our own record layer, as libp2p's upgrade passes it on.

    Args:
        handshake: libp2p's session, used up to here.
        pipe: the byte stream below it.
    """

    def __init__(self, handshake: Any, pipe: Any) -> None:
        noise = handshake.conn.noise_state.noise_protocol
        self.is_initiator = bool(handshake.is_initiator)
        self.pipe = pipe
        self.session = NoiseSession(pipe, noise.cipher_state_encrypt.k, noise.cipher_state_decrypt.k)
        self._remote_peer = handshake.get_remote_peer()

    def get_remote_peer(self) -> Any:
        """The peer that the handshake proved."""
        return self._remote_peer

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP and port of the other end."""
        address: tuple[str, int] | None = self.pipe.get_remote_address()
        return address

    async def close(self) -> None:
        """Close the pipe."""
        await self.session.close()


class FastNoise(StockNoise):
    """libp2p's handshake, then our record layer."""

    def _finish(self, session: Any, conn: Any) -> SecureConnection:
        checked = super()._finish(session, conn)
        return SecureConnection(checked, conn.stream)


def make_security(key_pair: Any, *, fast: bool) -> dict[str, Any]:
    """Build the security options of a host: Noise and nothing else."""
    transport = FastNoise if fast else StockNoise
    return {NOISE_PROTOCOL_ID: transport(key_pair, noise_privkey=create_x25519().private_key)}
