"""Money that runs by itself: both sides of every contract, on the node's own clock."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.chunkstore import ChunkStore, ChunkStoreError
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.streams import PeerStream
from sovereign_node.services.chunk_identities import IdentityDirectory
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.money.book import MoneyBook, UptimeSource, no_uptime
from sovereign_node.services.money.bounds import OtherDevices
from sovereign_node.services.money.customer_books import CustomerBooks
from sovereign_node.services.money.desk import MoneyDesk
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.services.money.overdue import Overdue
from sovereign_node.services.money.provider_meter import ProviderMeter
from sovereign_node.services.money.renewal import Renewal, RenewalWish
from sovereign_node.services.money.sponsored import SponsoredContracts
from sovereign_node.services.money.sponsors import Sponsors
from sovereign_node.services.money.tally import Tallies
from sovereign_node.services.money.turns import Turns, final_key
from sovereign_node.services.money.wallet import Wallet
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_check import introduction_of, known_identity_check
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.store import State
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_protocols.requests.shell import serve_requests
from sovereign_protocols.settle.messages import PROTOCOL

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

INTERVAL_S = 60.0
#: Conversations with providers at the same time; their commits are shared.
MAX_TURNS = 16
#: How long changes settle before they are written into the tables that users read; an upload is many changes.
SETTLE_S = 1.0
#: How long nothing moves before this device signs for what it moved.
QUIET_S = 10.0
METRICS_KEPT_S = 7 * 86_400
METRICS_STEP_S = 86_400
_AS_BEFORE = RenewalWish()


class Money:
    """Meters, charges, pays and reminds.

    Args:
        identity: own.
        keys: of this device.
        state: everything that is kept.
        chunk_store: of a provider; its counters are metered.
        finder: reaches providers.
        contracts: opened and accepted by this node.
        clock: wall time.
        uptime: what observers counted.
        interval_s: real seconds between two looks at the clock.
    """

    def __init__(
        self,
        *,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        chunk_store: ChunkStore,
        finder: PeerFinder,
        contracts: Contracts,
        clock: Clock,
        uptime: UptimeSource = no_uptime,
        interval_s: float = INTERVAL_S,
    ) -> None:
        network_id, key = identity.network_id, keys.signing
        self._identity = identity
        self._keys = keys
        self._state = state
        self._clock = clock
        self._interval_s = interval_s
        self._wake = trio.Event()
        self._stored = trio.Event()
        self._paying: dict[bytes, trio.Lock] = {}
        self._payments: dict[bytes, tuple[int, bool]] = {}
        check = known_identity_check(identity, IdentityDirectory(chunk_store, network_id))
        self._introduction = partial(introduction_of, identity, clock, check)
        self.provider_book = MoneyBook(state, is_provider=True, network_id=network_id, uptime=uptime)
        self.customer_book = MoneyBook(state, is_provider=False, network_id=network_id, uptime=uptime)
        self.meter = ProviderMeter(state, chunk_store, self.provider_book, key, clock, network_id)
        self.overdue = Overdue(state, chunk_store, self.provider_book, key, clock, network_id)
        self.tallies = Tallies(state, pay_now=self.pay_now, moved=self._note_moved)
        self.books = CustomerBooks(
            state,
            self.customer_book,
            key,
            clock,
            tally=self.tallies.current,
            others=self._other_devices,
            network_id=network_id,
        )
        self.notes = NoteKeeper(
            state,
            identity.identity_id,
            key,
            clock,
            {"provider": self.provider_book, "customer": self.customer_book},
            on_counted=self.meter.look_again,
            network_id=network_id,
        )
        sponsored = SponsoredContracts(state, key, clock, network_id)
        self.wallet = Wallet(
            state, {"provider": self.provider_book, "customer": self.customer_book}, self.notes, sponsored, clock
        )
        self.turns = Turns(state, self._introduction, finder, self.books, self.notes, clock)
        self.sponsors = Sponsors(state, identity.identity_id, key, clock, self.turns, network_id)
        self.renewal = Renewal(state, identity, keys, contracts, clock)
        self._contracts = contracts
        self._desk = MoneyDesk(
            device_key=key,
            state=state,
            book=self.provider_book,
            meter=self.meter,
            notes=self.notes,
            clock=clock,
            network_id=network_id,
        )

    async def handle(self, stream: PeerStream) -> None:
        """Serve one settlement stream."""
        caller_device = public_key_from_peer_id(stream.peer_id)
        await serve_requests(stream, self._desk, PROTOCOL, self._introduction(), caller_device)

    def book_of(self, contract: Contract) -> MoneyBook:
        """Give the book of this node's side of a contract."""
        return self.provider_book if contract.role == "provider" else self.customer_book

    # --- running ---------------------------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run both sides until cancelled; then the tallies are written exactly."""
        await trio.to_thread.run_sync(self._begin)
        self.meter.tell_changes(trio.lowlevel.current_trio_token(), self._note_stored)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._provide)
                nursery.start_soon(self._follow_changes)
                nursery.start_soon(self._pay)
                nursery.start_soon(self._sign_for_others)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):
                await self.tallies.save_all()

    def _begin(self) -> None:
        """After a restore nothing is signed on old lanes; see CustomerBooks.recover."""
        if self._state.was_restored:
            self.books.lose_lanes([item.contract_id for item in self._paid_by_this_device()])
            self._state.accept_restore()

    async def _provide(self) -> None:
        while True:
            try:
                await trio.to_thread.run_sync(self.provide_once)
            except ChunkStoreError as error:
                log.warning("metering_failed", error=str(error))
            await trio.sleep(self._interval_s)

    async def _follow_changes(self) -> None:
        """Write what customers have stored or deleted into the tables as soon as they pause."""
        while True:
            await self._stored.wait()
            await trio.sleep(SETTLE_S)
            self._stored = trio.Event()
            try:
                await trio.to_thread.run_sync(self.meter.flush_changed)
            except ChunkStoreError as error:
                log.warning("metering_failed", error=str(error))

    def _note_stored(self) -> None:
        self._stored.set()

    def provide_once(self) -> None:
        """Bring the provider's side of all contracts up to now. Blocks."""
        self.meter.run_once()
        self.overdue.run_once()
        self._state.metrics.thin(self._clock() - METRICS_KEPT_S, METRICS_STEP_S)

    async def _pay(self) -> None:
        while True:
            await self.pay_once()
            self._wake = trio.Event()
            with trio.move_on_after(self._interval_s):
                await self._wake.wait()

    async def pay_once(self) -> None:
        """Take a turn under every contract in which something is due for the customer."""
        limiter = trio.CapacityLimiter(MAX_TURNS)
        due = await trio.to_thread.run_sync(self._due)
        async with trio.open_nursery() as nursery:
            for contract in due:
                nursery.start_soon(self._take_turn, contract, limiter)
        await self.sponsors.run_once()
        for contract in await trio.to_thread.run_sync(self.renewal.due):
            await self._renew(contract)

    def _due(self) -> list[Contract]:
        now = self._clock()
        return [
            contract
            for contract in self._paid_by_this_device()
            if self.books.has_lost_lane(contract.contract_id)
            or contract.state == "closed"
            or self.books.is_turn_due(contract.contract_id, now)
        ]

    async def _take_turn(self, contract: Contract, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            try:
                await self.settle_up(contract)
            except NodeError as error:
                log.info("turn_failed", contract_id=contract.contract_id.hex(), reason=error.message)

    async def settle_up(self, contract: Contract, *, is_asked: bool = False) -> bool:
        """Bring both sides of a contract together and pay; see Turns.take.

        Raises:
            NodeError: the provider cannot be reached, or refuses.
        """
        if await trio.to_thread.run_sync(self.books.has_lost_lane, contract.contract_id):
            async with self._contracts.session(peer_id_from_public_key(contract.provider_device)) as client:
                newest = await client.latest_state(contract.contract_id)
            await self.turns.recover(contract, newest.vouchers)
        return await self.turns.take(contract, is_asked=is_asked)

    async def pay_now(self, contract_id: bytes) -> bool:
        """Pay whatever is owed under a contract because the provider asks for it."""
        before = self._payments.get(contract_id, (0, False))[0]
        async with self._paying.setdefault(contract_id, trio.Lock()):
            number, succeeded = self._payments.get(contract_id, (0, False))
            if number != before:
                # Many uploads wait for the same payment; one was made while this one waited.
                return succeeded
            succeeded = await self._pay_contract(contract_id)
            self._payments[contract_id] = (number + 1, succeeded)
            return succeeded

    async def _pay_contract(self, contract_id: bytes) -> bool:
        contract = await trio.to_thread.run_sync(self._state.contracts.get, contract_id)
        if contract is None or not self.pays(contract):
            return False
        try:
            return await self.settle_up(contract, is_asked=True)
        except NodeError as error:
            log.info("payment_failed", contract_id=contract_id.hex(), reason=error.message)
            return False

    async def _renew(self, contract: Contract) -> None:
        try:
            await self.renew(contract)
        except NodeError as error:
            log.info("renewal_failed", contract_id=contract.contract_id.hex(), reason=error.message)

    async def renew(self, contract: Contract, wish: RenewalWish = _AS_BEFORE) -> Contract:
        """Extend a contract; both sides agree about what is used before and after, because prices may change.

        Args:
            contract: in which this identity is the customer.
            wish: what becomes different.

        Raises:
            NodeError: unreachable, refused, or dearer than the budget allows.
        """
        await self.settle_up(contract)
        renewed = await self.renewal.renew(contract, wish)
        await self.settle_up(renewed)
        return renewed

    async def close(self, contract: Contract) -> None:
        """End a contract: pay what is owed, sign the close, and agree on the last statement.

        Raises:
            NodeError: unreachable, or refused.
        """
        await self.settle_up(contract, is_asked=True)
        await self.renewal.close(contract)
        closed = await trio.to_thread.run_sync(self._state.contracts.get, contract.contract_id)
        assert closed is not None
        await self._take_turn(closed, trio.CapacityLimiter(1))

    # --- contracts that another own device pays --------------------------------------------------------------

    async def _sign_for_others(self) -> None:
        """Sign what this device moved, for the own device that pays; soon after the traffic has stopped."""
        for contract in await trio.to_thread.run_sync(self._contracts.live_as_customer):
            await self.tallies.load(contract.contract_id)
        while True:
            await self.sign_transfers()
            await trio.sleep(min(QUIET_S, self._interval_s))

    async def sign_transfers(self) -> None:
        """Hand in what this device moved under contracts that another own device pays."""
        for contract_id, tally in self.tallies.quiet().items():
            contract = await trio.to_thread.run_sync(self._state.contracts.get, contract_id)
            if contract is None or contract.role != "customer" or self.pays(contract):
                continue
            try:
                await self.turns.hand_in_transfer(contract, tally)
            except NodeError as error:
                log.info("transfer_not_signed", contract_id=contract_id.hex(), reason=error.message)
            else:
                self.tallies.note_signed(contract_id, tally)

    # --- who pays --------------------------------------------------------------------------------------------

    def _paid_by_this_device(self) -> list[Contract]:
        found = self._state.contracts.all(role="customer", states=LIVE_STATES)
        closed = self._state.contracts.all(role="customer", states=("closed",))
        found += [item for item in closed if not self._state.meta.get(final_key(item.contract_id))]
        return [item for item in found if self.pays(item)]

    def pays(self, contract: Contract) -> bool:
        """Tell whether this device signs the vouchers of a contract: the one that opened it, or its heir."""
        log_ = self._identity.log
        if log_.is_active(contract.customer_device):
            return contract.customer_device == self._keys.public
        return min(log_.active_devices, default=b"") == self._keys.public

    def _other_devices(self) -> OtherDevices:
        """Give the devices of this identity that may store, or have stored, under the same contracts."""
        log_, own = self._identity.log, {self._keys.public}
        return OtherDevices(frozenset(log_.active_devices) - own, frozenset(log_.revoked_devices) - own)

    def _note_moved(self) -> None:
        self._wake.set()
