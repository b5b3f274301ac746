"""The seam for other ways to carry bytes between two peers: relays, message brokers, tests."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

# Called with a pipe's stream and the multiaddr text of its other end; returns when the stream was taken over.
AcceptPipe = Callable[[trio.abc.Stream, str], Awaitable[None]]


class PipeTransport(Protocol):
    """Byte pipes other than TCP. Every pipe gets the same Noise and Yamux upgrade and identity proof.

    A pipe is any `trio.abc.Stream`; it must buffer (an address that contains `/tcp/` is dialled as plain TCP, so
    custom addresses must not contain it).

    Attributes:
        path: what connections over it report as their path ("relay", "nats", ...).
    """

    path: str

    def can_dial(self, address: str) -> bool:
        """Say whether the address (without a final `/p2p/PEER`) is one of this transport's."""
        ...

    async def dial(self, address: str, peer_id: str) -> trio.abc.Stream:
        """Open a pipe.

        Args:
            address: as in `can_dial`.
            peer_id: who should be at the other end, for transports that ask a third party for it by name; the
                upgrade proves it.

        Raises:
            OSError: the other end cannot be reached.
        """
        ...

    def addresses(self) -> list[str]:
        """List the addresses, without peer id, at which this node accepts pipes now."""
        ...

    async def serve(self, accept: AcceptPipe) -> None:
        """Accept pipes until cancelled; runs in the network's nursery."""
        ...
