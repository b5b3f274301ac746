"""What a node does by itself: ends contracts, keeps its tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.net.kad import Kademlia
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.discovery import TABLE_KEY, Discovery
from sovereign_node.store import State

if TYPE_CHECKING:
    from trio_typing import TaskStatus

TABLE_INTERVAL_S = 60
CONTRACT_INTERVAL_S = 60
DEVICES_INTERVAL_S = 30
# A record changes seldom, and to ask for it costs more than all that an idle node does besides.
DEVICES_REST_S = 900


class Housekeeping:
    """Periodic work.

    Args:
        state: routing table over restarts.
        kademlia: whose table is saved.
        contracts: to end in time.
        discovery: refreshes own devices.
    """

    def __init__(
        self,
        state: State,
        kademlia: Kademlia,
        contracts: Contracts,
        discovery: Discovery,
    ) -> None:
        self._state = state
        self._kademlia = kademlia
        self._contracts = contracts
        self._discovery = discovery
        # When a device is asked for next (by trio's clock), and the pause before that.
        self._turns: dict[bytes, tuple[float, float]] = {}

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_table)
            nursery.start_soon(self._keep_contracts)
            nursery.start_soon(self._keep_devices)
            task_status.started()

    def note_connected(self, peer_id: str) -> None:
        """Ask soon for the record of a peer that has come: it may have another name or other roles."""
        self._turns.pop(public_key_from_peer_id(peer_id), None)

    def _take_turn(self, device_id: bytes) -> bool:
        """Say whether to ask for a device's record now: at once, then more and more rarely."""
        now = trio.current_time()
        due_at, pause_s = self._turns.get(device_id, (now, DEVICES_INTERVAL_S / 2))
        if now < due_at:
            return False
        pause_s = min(2 * pause_s, DEVICES_REST_S)
        self._turns[device_id] = now + pause_s, pause_s
        return True

    async def _keep_table(self) -> None:
        try:
            while True:
                await trio.sleep(TABLE_INTERVAL_S)
                table = json.dumps(self._kademlia.snapshot())
                await trio.to_thread.run_sync(self._state.meta.set, TABLE_KEY, table)
        finally:
            self._state.meta.set(TABLE_KEY, json.dumps(self._kademlia.snapshot()))

    async def _keep_contracts(self) -> None:
        while True:
            await trio.to_thread.run_sync(self._contracts.end_what_is_over)
            await trio.sleep(CONTRACT_INTERVAL_S)

    async def _keep_devices(self) -> None:
        await self._discovery.joined.wait()
        while True:
            live = await trio.to_thread.run_sync(self._contracts.live_as_customer)
            await self._discovery.refresh_devices({item.provider_device for item in live}, self._take_turn)
            await trio.sleep(DEVICES_INTERVAL_S)
