"""Who is on line: keeps connections to own devices and to providers under contract, and writes device_registry."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.network import Network
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.store import State

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

# Presence must be true within a minute: a peer that is silent is noticed by ping within 35 s, one that is back is
# dialled again within 40 s, jitter included, at the latest; a dial takes up to 15 s.
FIRST_RETRY_S = 2.0
LAST_RETRY_S = 30.0
# Known addresses are dialled at every try; the DHT, which costs more, is asked often at first and seldom later.
OFTEN_ASKED = 6
SELDOM_ASKED = 10
SHORTEST_PAUSE_S = 0.2
TOUCH_INTERVAL_S = 30.0
MAX_EVENTS = 1024


@dataclass
class _Retry:
    due_at: float
    delay_s: float = FIRST_RETRY_S
    tries: int = 0

    @property
    def asks_dht(self) -> bool:
        """Whether to look for other addresses at this try."""
        return self.tries < OFTEN_ASKED or not self.tries % SELDOM_ASKED


class WantedPeers:
    """The peers to stay connected to: own devices, and providers under contract.

    Args:
        identity: whose devices are own ones.
        contracts: where this identity stores.
        keys: of this device, which is not dialled.
    """

    def __init__(self, identity: OwnIdentity, contracts: Contracts, keys: DeviceKeys) -> None:
        self._identity = identity
        self._contracts = contracts
        self._keys = keys

    def __call__(self) -> set[str]:
        """Return their peer ids."""
        own = {peer_id_from_public_key(device) for device in self._identity.log.active_devices}
        return (own | self._contracts.provider_peer_ids()) - {self._keys.peer_id}


class Presence:
    """Watches connections and dials the peers that matter.

    Args:
        network: this node's connections.
        finder: reaches peers.
        state: device_registry.
        clock: wall time.
        wanted: returns the peer ids to stay connected to.
        on_connected: told the peer id of each wanted or known peer that has come on line.
    """

    def __init__(
        self,
        network: Network,
        finder: PeerFinder,
        state: State,
        clock: Clock,
        wanted: Callable[[], set[str]],
        on_connected: Callable[[str], None],
    ) -> None:
        self._network = network
        self._finder = finder
        self._state = state
        self._clock = clock
        self._wanted = wanted
        self._on_connected = on_connected
        self._retries: dict[str, _Retry] = {}
        self._trying: dict[str, trio.CancelScope] = {}
        self._wake = trio.Event()

    def dial_soon(self) -> None:
        """Try every missing peer now, for instance after a contract was opened or the network came back."""
        now = trio.current_time()
        self._finder.forget_failures()
        for scope in self._trying.values():
            # It may dial what led somewhere in the network before.
            scope.cancel()
        for retry in self._retries.values():
            retry.due_at = now
            retry.delay_s = FIRST_RETRY_S
            retry.tries = 0
        self._wake.set()

    def next_try_in_s(self, peer_id: str) -> float | None:
        """Tell when a missing peer is dialled next, None if it is not missing."""
        retry = self._retries.get(peer_id)
        return None if retry is None else max(0.0, retry.due_at - trio.current_time())

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        send, receive = trio.open_memory_channel[tuple[str, bool]](MAX_EVENTS)

        def note(peer_id: str, connected: bool) -> None:
            try:
                send.send_nowait((peer_id, connected))
            except trio.WouldBlock:
                log.warning("presence_event_dropped", peer_id=peer_id)

        await trio.to_thread.run_sync(self._state.devices.set_all_offline)
        stop_watching = self._network.watch_connections(note)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, receive)
                nursery.start_soon(self._touch)
                nursery.start_soon(self._keep_connected)
                task_status.started()
        finally:
            stop_watching()
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await trio.to_thread.run_sync(self._state.devices.set_all_offline)

    async def _follow(self, events: trio.MemoryReceiveChannel[tuple[str, bool]]) -> None:
        async for peer_id, _connected in events:
            # What counts is the state now: events of a quick reconnect can arrive late.
            connected = self._network.is_connected(peer_id)
            await self._mark(peer_id, connected)
            if connected:
                self._retries.pop(peer_id, None)
                self._on_connected(peer_id)
            else:
                self._wake.set()

    async def _mark(self, peer_id: str, online: bool) -> None:
        device_id = public_key_from_peer_id(peer_id)
        await trio.to_thread.run_sync(
            lambda: self._state.devices.set_online(device_id, online=online, at=self._clock())
        )

    async def _touch(self) -> None:
        """Keep last_seen of connected devices young."""
        while True:
            for peer_id in {info.peer_id for info in self._network.connections()}:
                await self._mark(peer_id, True)
            await trio.sleep(TOUCH_INTERVAL_S)

    async def _keep_connected(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                now = trio.current_time()
                missing = {peer_id for peer_id in self._wanted() if not self._network.is_connected(peer_id)}
                for peer_id in set(self._retries) - missing:
                    del self._retries[peer_id]
                for peer_id in missing - self._trying.keys():
                    retry = self._retries.setdefault(peer_id, _Retry(now))
                    if retry.due_at <= now:
                        self._trying[peer_id] = trio.CancelScope()
                        nursery.start_soon(self._try, peer_id, retry)
                waiting = [retry.due_at for peer_id, retry in self._retries.items() if peer_id not in self._trying]
                with trio.move_on_at(max(min(waiting, default=now + LAST_RETRY_S), now + SHORTEST_PAUSE_S)):
                    await self._wake.wait()

    async def _try(self, peer_id: str, retry: _Retry) -> None:
        try:
            with self._trying[peer_id]:
                await self._finder.connect(peer_id, is_patient=True, asks_dht=retry.asks_dht)
        except NodeError:
            retry.tries += 1
            # Jitter, so that peers that lost the same relay or router do not come back in step.
            retry.due_at = trio.current_time() + retry.delay_s * random.uniform(0.75, 1.25)  # noqa: S311
            retry.delay_s = min(retry.delay_s * 2, LAST_RETRY_S)
        finally:
            del self._trying[peer_id]
            self._wake.set()
