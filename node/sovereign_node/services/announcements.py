"""Announce in the DHT that this node holds identity records, so that a recovery kit finds them."""

from __future__ import annotations

import structlog
import trio

from sovereign_node.chunkstore import ChunkStore
from sovereign_node.net.kad import Kademlia

log = structlog.get_logger(__name__)

KEY_BYTES = 32
MAX_WAITING = 1024


class Announcements:
    """Provides the announce keys of all stored identity records.

    Args:
        kademlia: repeats each announcement from then on.
        store: knows the keys from before the last start.
    """

    def __init__(self, kademlia: Kademlia, store: ChunkStore) -> None:
        self._kademlia = kademlia
        self._store = store
        self._known: set[bytes] = set()
        self._send, self._receive = trio.open_memory_channel[bytes](MAX_WAITING)

    def add(self, key: bytes) -> None:
        """Announce a key soon; more than 1,024 waiting ones are left to the next start."""
        if len(key) != KEY_BYTES or key in self._known:
            return
        try:
            self._send.send_nowait(key)
        except trio.WouldBlock:
            log.warning("announcement_dropped")

    async def run(self) -> None:
        """Announce what is stored, then what comes, until cancelled."""
        for key in await trio.to_thread.run_sync(self._store.announce_keys):
            await self._announce(key)
        async for key in self._receive:
            await self._announce(key)

    async def _announce(self, key: bytes) -> None:
        if key not in self._known:
            self._known.add(key)
            await self._kademlia.provide(key)
