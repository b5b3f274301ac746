"""Dialling a peer only to hand over a token: the active half of a dial-back."""

import trio

from sovereign_node.net.dialer import open_tcp
from sovereign_node.net.identity import to_libp2p_id
from sovereign_node.net.upgrade import Upgrader


async def knock(upgrader: object, peer_id: str, address: str, token: bytes, *, timeout_s: float) -> bool:
    """Dial an address anew and hand over a token, without making a connection.

    Args:
        upgrader: of the swarm; libp2p's own cannot do it.
        peer_id: who must be there.
        address: TCP multiaddr.
        token: 16 bytes.
        timeout_s: for everything together.

    Returns:
        Whether the peer was there and had expected the token.
    """
    if not isinstance(upgrader, Upgrader):
        return False
    answered = False
    with trio.move_on_after(timeout_s):
        try:
            pipe = await open_tcp(address)
        except OSError:
            return False
        try:
            answered = await upgrader.knock(pipe, to_libp2p_id(peer_id), token)
        finally:
            await pipe.close()
    return answered
