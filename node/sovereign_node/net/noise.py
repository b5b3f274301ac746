"""Noise, the only security protocol that we offer or accept.

libp2p 0.8.1 offers `/plaintext/2.0.0`, `/secio/1.0.0` and `/tls/1.0.0` beside `/noise` by default, and a peer that
chooses plaintext may claim any identity. Hosts of ours register this class alone.
"""

from typing import Any

from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import Transport

from sovereign_node.net.identity import is_ed25519


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


def make_security(key_pair: Any) -> dict[str, Any]:
    """Build the security options of a host: Noise and nothing else."""
    return {"/noise": StockNoise(key_pair, noise_privkey=create_x25519().private_key)}
