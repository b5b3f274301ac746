"""Several callers that want the same peer: each address is tried once at a time, and all share the result.

A caller that learns of more addresses joins at once; it does not wait for those of others to fail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from sovereign_node.net.dialer import Dialer
from sovereign_node.net.errors import DialError


@dataclass(slots=True)
class _Effort:
    """What is being done to reach one peer."""

    callers: int = 0
    trying: set[str] = field(default_factory=set)
    failed: dict[str, tuple[float, str]] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)

    def change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Dials:
    """The dials of one network.

    Args:
        dialer: races addresses.
        is_connected: whether there is a connection to a peer.
    """

    def __init__(self, dialer: Dialer, is_connected: Callable[[str], bool]) -> None:
        self._dialer = dialer
        self._is_connected = is_connected
        self._efforts: dict[str, _Effort] = {}

    def note_connected(self, peer_id: str) -> None:
        """End the wait of everybody who wants this peer."""
        if peer_id in self._efforts:
            self._efforts[peer_id].change()

    async def reach(
        self, peer_id: str, addresses: Sequence[str], *, timeout_s: float, is_done: Callable[[], bool] | None = None
    ) -> None:
        """Dial until the peer is connected.

        Args:
            peer_id: whom.
            addresses: where; those that another caller is trying are left to it.
            timeout_s: for everything together.
            is_done: what counts as success; by default that there is any connection.

        Raises:
            DialError: no address led to the peer in time.
        """
        effort = self._efforts.setdefault(peer_id, _Effort())
        effort.callers += 1
        started = trio.current_time()
        done = is_done or (lambda: self._is_connected(peer_id))
        try:
            with trio.move_on_after(timeout_s):
                while not done():
                    waiting = [address for address in addresses if not _failed_since(effort, address, started)]
                    mine = [address for address in waiting if address not in effort.trying]
                    if mine:
                        await self._race(effort, peer_id, mine, done, started + timeout_s)
                    elif waiting:
                        await effort.changed.wait()
                    else:
                        break
            if not done():
                raise DialError(peer_id, _causes(effort, addresses, started))
        finally:
            effort.callers -= 1
            if not effort.callers:
                self._efforts.pop(peer_id, None)

    async def _race(
        self, effort: _Effort, peer_id: str, addresses: list[str], done: Callable[[], bool], deadline: float
    ) -> None:
        effort.trying.update(addresses)
        causes: dict[str, str] = {}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, effort, done, nursery.cancel_scope)
                try:
                    await self._dialer.dial(peer_id, addresses, timeout_s=deadline - trio.current_time())
                    if not done():
                        causes = dict.fromkeys(addresses, "the connection was closed at once")
                except DialError as error:
                    causes = error.causes
                nursery.cancel_scope.cancel()
        finally:
            now = trio.current_time()
            effort.trying.difference_update(addresses)
            # An attempt that was called off has not failed: whoever still wants the address tries it.
            effort.failed.update({address: (now, reason) for address, reason in causes.items()})
            effort.change()


async def _cancel_when(effort: _Effort, done: Callable[[], bool], scope: trio.CancelScope) -> None:
    while not done():
        await effort.changed.wait()
    scope.cancel()


def _failed_since(effort: _Effort, address: str, started: float) -> bool:
    return address in effort.failed and effort.failed[address][0] >= started


def _causes(effort: _Effort, addresses: Sequence[str], started: float) -> dict[str, str]:
    return {
        address: effort.failed[address][1] if _failed_since(effort, address, started) else "no answer in time"
        for address in addresses
    }
