"""Uptime by itself: probes providers once in a window, collects what other observers saw, announces maintenance."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.clock import Clock
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.streams import PeerStream
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_check import introduction_of
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.uptime_book import UptimeBook
from sovereign_node.store import State
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.acts import Act, ActKind, SignedAct, sign_act
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.probe.bodies import MAX_WINDOWS
from sovereign_protocols.probe.desk import ProbeDesk
from sovereign_protocols.probe.messages import PROTOCOL, PROTOCOL_ID
from sovereign_protocols.probe.shell import ProbeClient
from sovereign_protocols.probe.windows import WINDOW_S, window_of
from sovereign_protocols.requests.shell import open_client, serve_requests

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

#: Probes of a window are spread over its first part, so that a second try still falls into it.
SPREAD_S = 420
RETRY_AFTER_S = 60
COLLECT_EVERY_WINDOWS = 6
#: Rows of windows are kept for two years: longer than any dispute about a statement.
KEEP_WINDOWS = 2 * 365 * 86_400 // WINDOW_S
#: Observers that are asked at the same time.
MAX_SESSIONS = 8
_NONCE_BYTES = 16

Sleep = Callable[[float], Awaitable[object]]


class Uptime:
    """Observes providers and answers observers.

    Args:
        identity: certificate to show.
        keys: signs receipts.
        state: contracts and what was observed.
        finder: reaches peers.
        clock: wall time.
        is_online: whether this device has a connection to any peer but the given one; if not, silence says nothing
            about the other side.
        sleep: waits for a number of seconds of ``clock``.
        jitter: gives a number from 0 to 1; decides when in a window a provider is asked.
    """

    def __init__(
        self,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        finder: PeerFinder,
        clock: Clock,
        *,
        is_online: Callable[[str], bool],
        sleep: Sleep = trio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._identity = identity
        self._keys = keys
        self._state = state
        self._finder = finder
        self._clock = clock
        self._is_online = is_online
        self._introduction = partial(introduction_of, identity, clock)
        self._sleep = sleep
        self._jitter = jitter
        self.book = UptimeBook(state, identity.identity_id, keys.public, clock, identity.network_id)
        self._desk = ProbeDesk(device_key=keys.signing, book=self.book, clock=clock, network_id=identity.network_id)
        self._appointed: set[bytes] = set()

    async def handle(self, stream: PeerStream) -> None:
        """Serve one probe stream."""
        caller_device = public_key_from_peer_id(stream.peer_id)
        await serve_requests(stream, self._desk, PROTOCOL, self._introduction(), caller_device)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        task_status.started()
        while True:
            window = window_of(self._clock())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.observe_window, window)
                # The next window begins on time even if a peer is slow: its tasks end with this one.
                await self._sleep(max(0, (window + 1) * WINDOW_S - self._clock()))
                nursery.cancel_scope.cancel()
            if window % COLLECT_EVERY_WINDOWS == 0:
                await self.collect()

    async def observe_window(self, window: int) -> None:
        """Probe every provider that this device observes once, at a time of its own; return when all are done."""
        providers = await trio.to_thread.run_sync(lambda: self.book.providers(also_unnamed=True))
        async with trio.open_nursery() as nursery:
            for provider in providers:
                nursery.start_soon(self._observe, provider, window)

    async def _observe(self, provider: bytes, window: int) -> None:
        await self._sleep(max(0, window * WINDOW_S + self._jitter() * SPREAD_S - self._clock()))
        if await self.probe(provider, window):
            return
        await self._sleep(RETRY_AFTER_S)
        await self.probe(provider, window)

    async def probe(self, provider: bytes, window: int | None = None) -> bool:
        """Probe a provider and note what came of it.

        Args:
            provider: device key, 32 bytes.
            window: in which the answer counts; an answer after it counts for nothing. The present one for None.

        Returns:
            Whether an authenticated answer came.
        """
        peer_id = peer_id_from_public_key(provider)
        sent_at = self._clock()
        window = window_of(sent_at) if window is None else window
        try:
            async with self._session(peer_id) as client:
                outcome = await client.probe(os.urandom(_NONCE_BYTES), self._keys.signing, sent_at)
        except (NodeError, ProtocolError) as error:
            log.info("probe_failed", peer_id=peer_id, reason=str(error))
            if self._is_online(peer_id) and window_of(self._clock()) == window:
                await trio.to_thread.run_sync(lambda: self.book.observe(provider, window, is_good=False))
            return False
        raw, notices = outcome.receipt.raw, outcome.notices

        def keep() -> None:
            with self._state.transaction():
                self.book.observe(provider, window_of(sent_at), is_good=True, receipt=raw)
                self.book.adopt_notices(notices)

        await trio.to_thread.run_sync(keep)
        return True

    async def collect(self) -> None:
        """Appoint observers, fetch their reports, write the metrics; peers that are away are asked next time."""
        by_observer = await trio.to_thread.run_sync(self._by_observer)
        limiter = trio.CapacityLimiter(MAX_SESSIONS)
        async with trio.open_nursery() as nursery:
            for observer, agreements in by_observer.items():
                nursery.start_soon(self._collect_from, observer, agreements, limiter)
        await trio.to_thread.run_sync(self.book.write_metrics)
        oldest = window_of(self._clock()) - KEEP_WINDOWS
        await trio.to_thread.run_sync(self._state.uptime.thin, oldest)

    def _by_observer(self) -> dict[bytes, list[Agreement]]:
        found: dict[bytes, list[Agreement]] = {}
        for contract in [*self.book.live("customer"), *self.book.live("provider")]:
            agreement = self.book.agreement(contract)
            for observer in agreement.terms.observers:
                if observer not in (self._keys.public, contract.provider_device):
                    found.setdefault(observer, []).append(agreement)
        return found

    async def _collect_from(
        self, observer: bytes, agreements: list[Agreement], limiter: trio.CapacityLimiter
    ) -> None:
        peer_id = peer_id_from_public_key(observer)
        try:
            async with limiter, self._session(peer_id) as client:
                for agreement in agreements:
                    try:
                        await self._collect_one(client, observer, agreement)
                    except RefusedError as error:
                        log.info("observer_refused", peer_id=peer_id, reason=error.reason.value)
        except (NodeError, ProtocolError) as error:
            log.info("observer_not_asked", peer_id=peer_id, reason=str(error))

    async def _collect_one(self, client: ProbeClient, observer: bytes, agreement: Agreement) -> None:
        if agreement.terms_hash not in self._appointed:
            await client.appoint(agreement)
            self._appointed.add(agreement.terms_hash)
        terms = agreement.terms
        await self._fetch_reports(client, terms.provider_device, observer, window_of(terms.start_at))

    async def _fetch_reports(self, client: ProbeClient, provider: bytes, observer: bytes, start: int) -> None:
        # Not the newest row: a provider has receipts of good windows before it has the report of the bad ones.
        key = f"uptime_reported:{provider.hex()}:{observer.hex()}"
        reported = await trio.to_thread.run_sync(self._state.meta.get, key)
        first = max(start, int(reported or 0))
        end = window_of(self._clock())
        while first < end:
            report, notices = await client.windows(provider, first, min(MAX_WINDOWS, end - first))
            seen = report.body.observations()

            first += report.body.count

            def keep(seen: dict[int, bool] = seen, notices: list[SignedAct] = notices, first: int = first) -> None:
                with self._state.transaction():
                    self._state.uptime.observe_many(provider, observer, seen)
                    self.book.adopt_notices(notices)
                    self._state.meta.set(key, str(first))

            await trio.to_thread.run_sync(keep)

    def announce(self, from_at: int, until_at: int) -> list[SignedAct]:
        """Announce maintenance to the customers of this provider. Blocks.

        Args:
            from_at: first second, Unix seconds UTC; later than now.
            until_at: first second after.

        Returns:
            One signed notice for each live contract; observers fetch them with their next probe.

        Raises:
            NodeError: it begins in the past, or ends before it begins.
        """
        now = self._clock()
        if not now < from_at < until_at:
            raise NodeError(
                "bad_request",
                "maintenance is announced before it begins, and ends after that",
                "use --in 2h --for 30min",
                ExitCode.USAGE,
            )
        notices = []
        with self._state.transaction():
            for contract in self.book.live("provider"):
                terms_hash = self.book.agreement(contract).terms_hash
                act = Act(ActKind.MAINTENANCE, contract.contract_id, terms_hash, now, from_at, until_at)
                notices.append(sign_act(act, self._keys.signing, self._identity.network_id))
                self.book.add_own_notice(notices[-1])
            self._state.audit.record("user", "maintenance_announced", str(from_at), "ok", at=now)
        return notices

    @asynccontextmanager
    async def _session(self, peer_id: str) -> AsyncIterator[ProbeClient]:
        stream = await self._finder.open_stream(peer_id, PROTOCOL_ID)
        device = public_key_from_peer_id(peer_id)
        async with open_client(ProbeClient, stream, self._introduction(), device) as client:
            yield client
