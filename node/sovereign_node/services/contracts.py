"""Contracts of this node: opened as a customer, accepted as a provider or for own devices."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import structlog
import trio

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.chunkstore import ChunkStore, UnknownContractError
from sovereign_node.clock import Clock
from sovereign_node.config import Config, ProviderConfig
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.streams import PeerStream
from sovereign_node.services.chunk_identities import IdentityDirectory
from sovereign_node.services.contract_book import (
    StateContractBook,
    agreement_statements,
    begin_accrual,
    contract_row,
)
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_check import introduction_of, known_identity_check
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.refusal_words import refusal_in_words
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.market.desk import OfferShelf, ProviderDesk
from sovereign_protocols.market.draft import draft_terms
from sovereign_protocols.market.lifecycle import ContractEvent, ContractState, advance
from sovereign_protocols.market.messages import PROTOCOL, PROTOCOL_ID
from sovereign_protocols.market.offer import Offer, SignedOffer, sign_offer
from sovereign_protocols.market.policy import AcceptPolicy, ListPricePolicy, ProviderFacts
from sovereign_protocols.market.prices import MONTH_S, storage_price
from sovereign_protocols.market.shell import MarketClient
from sovereign_protocols.market.terms import (
    MAX_OBSERVERS,
    NO_HASH,
    Agreement,
    BonusPayer,
    ContractTerms,
    agree,
    parse_terms,
    sign_terms,
)
from sovereign_protocols.recovery.record import ContractEntry
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.requests.shell import open_client, serve_requests

log = structlog.get_logger(__name__)

DEFAULT_MONTHS = 12
OWN_CONTRACT_MONTHS = 60
DRAINING_KEY = "draining_since"
LIVE_STATES = ("active", "renewing", "limited", "grace", "ending")


@dataclass(frozen=True)
class WantedContract:
    """What a customer asks a provider for.

    Args:
        capacity_bytes: to keep free for this identity.
        months: of 720 hours; 12, or 60 with own devices, by default.
        budget_micro_vibe: most that one period may cost, 0 for no limit.
        bonus_payer: who pays for uptime.
        sponsor: the identity that pays it, if a sponsor does.
        is_free: the provider is a friend, so nothing is paid.
        observers: device keys of those that measure uptime; without any, own devices that are always on.
    """

    capacity_bytes: int
    months: int | None = None
    budget_micro_vibe: int = 0
    bonus_payer: BonusPayer = BonusPayer.NOBODY
    is_free: bool = False
    observers: tuple[bytes, ...] = ()
    sponsor: bytes = NO_HASH


class Contracts:
    """Opens, serves and lists contracts.

    Args:
        config: name, roles, prices.
        identity: whose device this is.
        keys: signs terms.
        state: keeps contracts.
        chunk_store: keeps quotas.
        finder: reaches providers.
        clock: wall time.
    """

    def __init__(
        self,
        config: Config,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        chunk_store: ChunkStore,
        finder: PeerFinder,
        clock: Clock,
    ) -> None:
        self._provider = config.provider
        self._name = config.name
        self._is_open = config.is_provider
        self._identity = identity
        self._keys = keys
        self._state = state
        self._chunk_store = chunk_store
        self._finder = finder
        self._clock = clock
        check = known_identity_check(identity, IdentityDirectory(chunk_store, identity.network_id))
        self._introduction = partial(introduction_of, identity, clock, check)
        self._offer_seq = 0
        self._shelf = OfferShelf(self._make_offer)
        self._desk = ProviderDesk(
            device_key=keys.signing,
            identity=identity.identity_id,
            capacity=lambda: self._provider.capacity_bytes,
            book=StateContractBook(state, chunk_store, identity.network_id),
            offers=self._shelf,
            policy=CurrentPolicy(self._policy),
            clock=clock,
            network_id=identity.network_id,
        )

    async def handle(self, stream: PeerStream) -> None:
        """Serve one market stream of a customer."""
        caller_device = public_key_from_peer_id(stream.peer_id)
        await serve_requests(stream, self._desk, PROTOCOL, self._introduction(), caller_device)

    def current_offer(self) -> SignedOffer:
        """Return the offer that is valid now."""
        return self._shelf.replace(self._clock())

    def _policy(self) -> ListPricePolicy:
        """Make the rule by the settings of this moment; a provider that drains takes nobody new."""
        provider = self._provider
        is_open = self._is_open and provider.accept == "everyone" and not self.is_draining
        friends = frozenset(bytes.fromhex(friend) for friend in provider.friends if provider.accept != "own")
        return ListPricePolicy(own_identity=self._identity.identity_id, friends=friends, is_open=is_open)

    @property
    def is_draining(self) -> bool:
        """Whether this provider is on its way out. Blocks."""
        return self._state.meta.get(DRAINING_KEY) is not None

    def set_draining(self, wanted: bool) -> None:
        """Begin or end the way out. Blocks."""
        if wanted:
            self._state.meta.set(DRAINING_KEY, str(self._clock()))
        else:
            self._state.meta.delete(DRAINING_KEY)

    def change_offer(self, provider: ProviderConfig) -> None:
        """Offer something else from now on; contracts in force keep their terms."""
        self._provider = provider

    async def fetch_offer(self, peer_id: str) -> SignedOffer:
        """Ask a provider or own device for its offer.

        Raises:
            NodeError: unreachable, or it refuses.
        """
        async with self.session(peer_id) as client:
            offer = await client.offer()
        return offer

    async def open(self, peer_id: str, wanted: WantedContract) -> Contract:
        """Open a contract with a provider or an own always-on device.

        Args:
            peer_id: of the provider's device.
            wanted: what to ask for.

        Raises:
            NodeError: unreachable, or the provider's reason in words.
        """
        observers = wanted.observers or await trio.to_thread.run_sync(self._observers)
        async with self.session(peer_id) as client:
            for lost in await self._keep_lost(client):
                if lost.capacity_bytes == wanted.capacity_bytes:
                    return lost
            terms = self._terms(await client.offer(), wanted, observers)
            signed = sign_terms(terms, self._keys.signing, self._identity.network_id)
            agreement = await client.propose(signed)
        return await trio.to_thread.run_sync(self._keep, agreement, ContractState.ACTIVE)

    async def _keep_lost(self, client: MarketClient) -> list[Contract]:
        """Keep what the provider signed for this device, but this device did not live to write down."""
        lost = [
            (agreement, ContractState(state))
            for state, agreement in await client.contracts()
            if agreement.terms.customer_device == self._keys.public
            and agreement.terms.revision == 0
            and state in LIVE_STATES
        ]

        def keep() -> list[Contract]:
            unknown = [item for item in lost if self._state.contracts.get(item[0].contract_id) is None]
            return [self._keep(agreement, state) for agreement, state in unknown]

        return await trio.to_thread.run_sync(keep)

    def _keep(self, agreement: Agreement, state: ContractState) -> Contract:
        """Write a contract down, as its customer. Blocks."""
        at = self._clock()
        row = contract_row(agreement, "customer", state, at=at)
        with self._state.transaction():
            self._state.contracts.save(row, agreement_statements(agreement, at=at))
            begin_accrual(self._state, agreement, is_provider=False, network_id=self._identity.network_id)
            self._state.audit.record("user", "contract_opened", row.contract_id.hex(), "ok", at=at)
        return row

    def provider_peer_ids(self) -> set[str]:
        """Return the peers that store for this identity, this device left out."""
        found = self._state.contracts.all(role="customer", states=LIVE_STATES)
        peers = {peer_id_from_public_key(item.provider_device) for item in found}
        return peers - {self._keys.peer_id}

    def live_as_customer(self) -> list[Contract]:
        """Return the contracts under which this identity stores."""
        return self._state.contracts.all(role="customer", states=LIVE_STATES)

    def stored_bytes(self, contract: Contract) -> int:
        """Return what is stored under a contract: counted here as a provider, last reported as a customer."""
        if contract.role == "customer":
            return contract.stored_bytes
        try:
            return self._chunk_store.usage(contract.contract_id).size_bytes
        except UnknownContractError:
            return 0

    def price_per_month(self, contract: Contract) -> int:
        """Return what a month of the bytes stored now costs, micro-VIBE. Blocks."""
        if contract.state not in LIVE_STATES:
            return 0
        return storage_price(self.stored_bytes(contract) * MONTH_S, contract.price_micro_vibe_per_gb_month)

    def replica_count(self) -> int:
        """Return how many customers' contracts hold data here."""
        found = self._state.contracts.all(role="provider", states=LIVE_STATES)
        return sum(self.stored_bytes(item) > 0 for item in found)

    def end_what_is_over(self) -> None:
        """Move contracts whose time has come to their end; reads stay possible. Blocks."""
        now = self._clock()
        for contract in self._state.contracts.all(states=("active", "renewing", "limited")):
            if contract.ends_at <= now:
                ended = advance(ContractState(contract.state), ContractEvent.END_REACHED)
                self._state.contracts.set_state(contract.contract_id, ended.value, now)

    @asynccontextmanager
    async def session(self, peer_id: str) -> AsyncIterator[MarketClient]:
        """Talk to a provider; what goes wrong becomes a sentence."""
        stream = await self._finder.open_stream(peer_id, PROTOCOL_ID)
        try:
            device = public_key_from_peer_id(peer_id)
            async with open_client(MarketClient, stream, self._introduction(), device) as client:
                yield client
        except ProtocolError as error:
            raise refusal_in_words(error, peer_id, self._clock()) from error

    def _observers(self) -> tuple[bytes, ...]:
        """Return own devices that are always on: they measure the provider's uptime for both sides. Blocks."""
        own = self._state.devices.all(identity=self._identity.identity_id)
        always_on = [
            item.device_id for item in own if {"server", "provider"} & set(item.roles) and item.revoked_at is None
        ]
        return tuple(sorted(always_on)[:MAX_OBSERVERS])

    def _terms(self, signed: SignedOffer, wanted: WantedContract, observers: tuple[bytes, ...]) -> ContractTerms:
        own = signed.offer.identity == self._identity.identity_id
        now = self._clock()
        terms = draft_terms(
            signed,
            Caller(self._identity.identity_id, self._keys.public),
            capacity_bytes=wanted.capacity_bytes,
            now=now,
            nonce=os.urandom(16),
            months=wanted.months or (OWN_CONTRACT_MONTHS if own else DEFAULT_MONTHS),
            bonus_payer=wanted.bonus_payer,
            sponsor=wanted.sponsor,
            budget=wanted.budget_micro_vibe,
            is_own=own or wanted.is_free,
        )
        if wanted.months:
            # A wish is refused rather than shortened.
            terms = replace(terms, end_at=now + wanted.months * MONTH_S)
        return terms if own else replace(terms, observers=observers)

    def _make_offer(self, now: int) -> SignedOffer:
        provider = self._provider
        # Grows over restarts without a write to disk, which the event loop, that publishes it, could not wait for.
        self._offer_seq = max(self._offer_seq + 1, now)
        committed = self._state.contracts.committed_bytes()
        free = 0 if self.is_draining else max(0, provider.capacity_bytes - committed)
        offer = Offer(
            identity=self._identity.identity_id,
            device=self._keys.public,
            name=self._name,
            seq=self._offer_seq,
            issued_at=now,
            capacity_bytes=provider.capacity_bytes,
            free_bytes=free,
            max_contract_bytes=provider.capacity_bytes,
            price_per_gb_month=provider.price_micro_vibe_per_gb_month if self._is_open else 0,
            price_per_gb_transfer=provider.price_micro_vibe_per_gb_transfer if self._is_open else 0,
            bonus_permille=provider.uptime_bonus_permille,
            credit_limit=provider.credit_limit_micro_vibe,
            grace_s=provider.grace_days * 86400,
            free_allowance_bytes=provider.free_allowance_bytes,
            region=provider.region,
        )
        return sign_offer(offer, self._keys.signing, self._identity.network_id)


class CurrentPolicy:
    """Judges by settings that may change while the node runs.

    Args:
        make: gives the rule of this moment.
    """

    def __init__(self, make: Callable[[], AcceptPolicy]) -> None:
        self._make = make

    def judge(self, terms: ContractTerms, offer: Offer | None, facts: ProviderFacts) -> None:
        """See AcceptPolicy."""
        self._make().judge(terms, offer, facts)


def contract_entries(state: State) -> list[ContractEntry]:
    """Return this identity's contracts as entries of the identity record."""
    entries = []
    for contract in state.contracts.all(role="customer", states=LIVE_STATES):
        signed = {item.signer: item.raw for item in state.contracts.statements(contract.contract_id)}
        peer_id = peer_id_from_public_key(contract.provider_device)
        entries.append(
            ContractEntry(
                signed[contract.customer_device],
                signed[contract.provider_device],
                peer_id,
                tuple(state.peers.addresses(peer_id)[:4]),
            )
        )
    return entries


def adopt_contract(entry: ContractEntry, identity: OwnIdentity, state: State, *, at: int) -> bool:
    """Take over a contract that another device of this identity opened; returns False if it is known."""
    try:
        agreement = agree(
            parse_terms(entry.customer_statement, identity.network_id),
            parse_terms(entry.provider_statement, identity.network_id),
        )
        provider = public_key_from_peer_id(entry.peer_id)
    except (ProtocolError, CryptoError) as error:
        log.warning("contract_refused", reason=str(error))
        return False
    terms = agreement.terms
    if terms.customer_identity != identity.identity_id or provider != terms.provider_device:
        log.warning("contract_refused", reason="it is not a contract of this identity")
        return False
    # On the provider itself the row has the provider's side already.
    if state.contracts.get(agreement.contract_id) is not None or provider == identity.device_id:
        return False
    row = contract_row(agreement, "customer", ContractState.ACTIVE, at=at)
    with state.transaction():
        state.contracts.save(row, agreement_statements(agreement, at=at))
        begin_accrual(state, agreement, is_provider=False, network_id=identity.network_id)
    state.peers.learn(entry.peer_id, list(entry.addresses), source="identity record", at=at)
    return True
