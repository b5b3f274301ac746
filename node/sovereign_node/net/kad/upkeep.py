"""What a node of the DHT does when nobody asks: join, refresh, check, repeat, forget."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from sovereign_node.net.kad.publications import RETRY_S, Publication, Publications
from sovereign_node.net.kad.walker import Walker
from sovereign_protocols.kad.errors import InvalidRecordError
from sovereign_protocols.kad.messages import Contact

_log = structlog.get_logger(__name__)

# With fewer contacts than this a node is one restart of a neighbour away from being alone.
FEW_CONTACTS = 4
REJOIN_S = 10.0
# Peers that come and go in a hurry must not make us publish without end.
HASTEN_PAUSE_S = 60.0
MAX_CHECKS_PER_TICK = 8
MAX_REMEMBERED_ENTRANCES = 512
_JOIN_PARALLEL = 16
_NOISE_BYTES = 24


class Upkeep:
    """The background work of one node.

    Args:
        walker: asks the network.
        publications: what to repeat.
        repeat: repeats one of them; returns how many peers took it.
        purge: forgets what expired.
        random_bytes: source of the places that a refresh visits.
    """

    def __init__(
        self,
        walker: Walker,
        publications: Publications,
        repeat: Callable[[Publication], Awaitable[int]],
        purge: Callable[[], None],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._walker = walker
        self._settings = walker.settings
        self._publications = publications
        self._repeat = repeat
        self._purge = purge
        self._random_bytes = random_bytes
        self._entrances: dict[bytes, Contact] = {}
        self._rejoin_at = 0.0
        self._refresh_at = 0.0
        self._entrances_at_publication = 0
        self._hasten_at = 0.0
        self._woken = trio.Event()

    def wake(self) -> None:
        """Look for work now rather than at the next tick."""
        self._woken.set()

    async def join(self, contacts: Sequence[Contact]) -> None:
        """Ask the given peers, then walk to ourselves so that our neighbours get to know us.

        Args:
            contacts: entrances to the network; remembered for when the table is nearly empty again.
        """
        for contact in contacts[:MAX_REMEMBERED_ENTRANCES]:
            if contact.peer_id != self._walker.own_peer_id:
                self._entrances[contact.peer_id] = contact
        while len(self._entrances) > MAX_REMEMBERED_ENTRANCES:
            del self._entrances[next(iter(self._entrances))]
        await self._adopt_all(contacts)
        if len(self._walker.table):
            neighbours = await self._walker.find_node(self._walker.own_peer_id)
            await self._adopt_all([peer for peer in neighbours if self._walker.table.wants(peer.peer_id)])
        self.wake()

    async def _adopt_all(self, contacts: Sequence[Contact]) -> None:
        limiter = trio.CapacityLimiter(_JOIN_PARALLEL)

        async def adopt(contact: Contact) -> None:
            async with limiter:
                await self._walker.adopt(contact)

        # One deadline for all: whoever is slow is tried again while the table is nearly empty.
        with trio.move_on_after(self._settings.call_timeout_s):
            async with trio.open_nursery() as nursery:
                for contact in contacts:
                    nursery.start_soon(adopt, contact)

    async def publish(self, publication: Publication) -> int:
        """Publish now and plan the next repetition.

        Args:
            publication: stands in the list already.

        Returns:
            How many other peers took it.
        """
        try:
            reached = await self._repeat(publication)
        except InvalidRecordError as error:
            # A maker that gives an old or expired value is a bug of its service; the others go on.
            _log.warning("publication_refused", reason=error.reason, kind=publication.kind.value)
            reached = 0
        pause_s = publication.interval_s if reached else min(RETRY_S, publication.interval_s)
        publication.due_at = trio.current_time() + pause_s
        return reached

    async def run(self) -> None:
        """Work until cancelled."""
        # The first time soon after joining, and never all nodes at once.
        self._refresh_at = trio.current_time() + self._jittered(self._settings.refresh_s) / 4
        while True:
            await self._tick()
            with trio.move_on_after(self._pause_s()):
                await self._woken.wait()
            self._woken = trio.Event() if self._woken.is_set() else self._woken

    def _pause_s(self) -> float:
        next_due = self._publications.next_due()
        until_due = self._settings.tick_s if next_due is None else next_due - trio.current_time()
        return max(1.0, min(self._settings.tick_s, until_due))

    async def _tick(self) -> None:
        now = trio.current_time()
        if len(self._walker.table) < FEW_CONTACTS and self._entrances and now >= self._rejoin_at:
            self._rejoin_at = now + REJOIN_S
            await self._rejoin()
        await self._check_silent()
        if now >= self._refresh_at:
            self._refresh_at = now + self._jittered(self._settings.refresh_s)
            self._purge()
            await self._refresh()
        self._hasten_after_churn(now)
        for publication in self._publications.due(now):
            if self._publications.is_current(publication):
                await self.publish(publication)

    def _hasten_after_churn(self, now: float) -> None:
        """Publish again when half of the contacts are new or came back.

        The nearest peers of a key are others then, and those that restarted have forgotten what they kept.
        """
        entered = self._walker.entrances - self._entrances_at_publication
        if now >= self._hasten_at and entered >= max(1, len(self._walker.table) / 2):
            self._entrances_at_publication = self._walker.entrances
            self._hasten_at = now + HASTEN_PAUSE_S
            self._publications.hasten(now)

    def _jittered(self, interval_s: float) -> float:
        """Return between 75 % and 125 % of an interval."""
        return interval_s * (0.75 + self._random_bytes(1)[0] / 510)

    async def _rejoin(self) -> None:
        missing = [entry for entry in self._entrances.values() if entry.peer_id not in self._walker.table]
        if missing:
            await self.join(missing)

    async def _check_silent(self) -> None:
        contacts = self._walker.to_check(self._settings.check_s)
        async with trio.open_nursery() as nursery:
            for contact in contacts[:MAX_CHECKS_PER_TICK]:
                nursery.start_soon(self._walker.adopt, contact)

    async def _refresh(self) -> None:
        await self._walker.find_node(self._walker.own_peer_id)
        for key in self._walker.table.refresh_keys(self._random_bytes(_NOISE_BYTES)):
            await self._walker.find_node(key)
