"""What the parts of a node get from each other: each part is built when it is first asked for, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import trio

from sovereign_node.chunkstore import ChunkStore
from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.datadir import DataDir
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.nats import NatsTransport
from sovereign_node.net.network import Network
from sovereign_node.node import Node
from sovereign_node.services.announcements import Announcements
from sovereign_node.services.audit_credit import credit_failures
from sovereign_node.services.audits import Audits
from sovereign_node.services.authorizer import StateAuthorizer
from sovereign_node.services.clock_skew import ClockSkew
from sovereign_node.services.connectivity import Connectivity
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.discovery import Discovery, published_addresses
from sovereign_node.services.friends import Friends
from sovereign_node.services.housekeeping import Housekeeping
from sovereign_node.services.money.service import Money
from sovereign_node.services.orphans import Orphans
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.placements import Placements
from sovereign_node.services.presence import Presence, WantedPeers
from sovereign_node.services.project_targets import ProjectTargets
from sovereign_node.services.projects import Projects
from sovereign_node.services.provide import ChunkService
from sovereign_node.services.record_places import OwnPlace, provider_place, record_places
from sovereign_node.services.recovery import Recovery
from sovereign_node.services.repair import Repair
from sovereign_node.services.replicas import Replicas
from sovereign_node.services.sessions import ChunkSessions
from sovereign_node.services.traffic import Traffic
from sovereign_node.services.uptime import Uptime
from sovereign_node.services.waiting import WaitingBackups
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.discovery.validator import SovereignValidator


@dataclass(frozen=True)
class Foundation:
    """What the parts stand on: opened before them and closed after them.

    Args:
        data_dir: where everything lies.
        config: settings in force.
        clock: wall time.
        keys: of this device.
        state: SQLite.
        identity: whose device this is.
        chunk_store: chunks of customers, and own chunks that wait for a provider.
        network: connections.
        nats: the transport over NATS servers, if any is configured.
        stop: ends the node.
    """

    data_dir: DataDir
    config: Config
    clock: Clock
    keys: DeviceKeys
    state: State
    identity: OwnIdentity
    chunk_store: ChunkStore
    network: Network
    nats: NatsTransport | None
    stop: Callable[[], None]


class Assembly:
    """The parts of one node. Two parts that need each other get functions that ask when something happens.

    Args:
        base: what they stand on.
    """

    def __init__(self, base: Foundation) -> None:
        self._base = base
        self._config = base.config
        self._clock = base.clock
        self._keys = base.keys
        self._state = base.state
        self._identity = base.identity
        self._chunk_store = base.chunk_store
        self._network = base.network

    # Peers

    @cached_property
    def kademlia(self) -> Kademlia:
        """The DHT."""
        return Kademlia(
            self._network,
            validator=SovereignValidator(self._identity.network_id),
            server=self._config.is_always_on,
            clock=self._clock,
            addresses=lambda: published_addresses(self._config, self._network),
        )

    @cached_property
    def finder(self) -> PeerFinder:
        """Reaches peers by id."""
        return PeerFinder(
            self._network,
            self.kademlia,
            self._state,
            self._clock,
            shared_ways=lambda: self.connectivity.shared_ways(),
            find_record=lambda peer_id: self.discovery.find_addresses(peer_id),
        )

    @cached_property
    def discovery(self) -> Discovery:
        """What is published and found."""
        return Discovery(
            self._network,
            self.kademlia,
            self._config,
            self._identity,
            self._keys,
            self._state,
            self._clock,
            make_offer=self.contracts.current_offer if self._config.is_provider else None,
        )

    @cached_property
    def presence(self) -> Presence:
        """Keeps connections to those who matter."""
        wanted = WantedPeers(self._identity, self.contracts, self._keys)
        return Presence(
            self._network, self.finder, self._state, self._clock, wanted, on_connected=self._on_connected
        )

    def _on_connected(self, peer_id: str) -> None:
        self.housekeeping.note_connected(peer_id)
        self.waiting.note_connected(peer_id)
        self.repair.note_connected()
        if self._state.devices.get_by_peer_id(peer_id) is None:
            # It may be a new device of this identity: the identity record tells.
            self.recovery.publish_soon()

    @cached_property
    def connectivity(self) -> Connectivity:
        """Reachability and relays."""
        friends = Friends(self._identity, self.contracts, self._state, self._keys)
        return Connectivity(
            self._network,
            self._config,
            self.finder,
            self._base.nats,
            relay_candidates=friends.always_on,
            is_favoured=friends.is_friend,
            on_surroundings=self._on_surroundings,
            is_paused=self._is_paused,
            clock=self._clock,
        )

    def _on_surroundings(self) -> None:
        self.traffic.check_soon()
        self.presence.dial_soon()
        self.kademlia.announce_soon()
        self.waiting.retry_now()

    @cached_property
    def traffic(self) -> Traffic:
        """Limits on bytes per second."""
        return Traffic(
            self._network.set_rates, self._config.net, self._state, on_resumed=lambda: self.waiting.retry_now()
        )

    def _is_paused(self) -> bool:
        return self.traffic.is_paused

    # Contracts and money

    @cached_property
    def contracts(self) -> Contracts:
        """Contracts, as customer and as provider."""
        return Contracts(
            self._config, self._identity, self._keys, self._state, self._chunk_store, self.finder, self._clock
        )

    @cached_property
    def money(self) -> Money:
        """Meters, vouchers, statements."""
        return Money(
            identity=self._identity,
            keys=self._keys,
            state=self._state,
            chunk_store=self._chunk_store,
            finder=self.finder,
            contracts=self.contracts,
            clock=self._clock,
            uptime=lambda contract_id, from_at, until_at: self.uptime.book.count(contract_id, from_at, until_at),
        )

    @cached_property
    def uptime(self) -> Uptime:
        """Observes providers and answers observers."""
        return Uptime(
            self._identity,
            self._keys,
            self._state,
            self.finder,
            self._clock,
            is_online=lambda peer_id: any(info.peer_id != peer_id for info in self._network.connections()),
        )

    @cached_property
    def audits(self) -> Audits:
        """Audits providers and answers auditors."""
        return Audits(
            self._identity,
            self._keys,
            self._state,
            self._chunk_store,
            self.finder,
            self.targets,
            Placements(self._state, self.projects, self._clock),
            self.repair,
            self._clock,
            on_failed=credit_failures(self._state, self._chunk_store, self.money.notes),
        )

    # Projects and where they are stored

    @cached_property
    def clock_skew(self) -> ClockSkew:
        """What providers say the time is."""
        return ClockSkew(self._clock)

    @cached_property
    def sessions(self) -> ChunkSessions:
        """Conversations with providers about chunks."""
        return ChunkSessions(self.finder, self._identity, self._clock, self.clock_skew.note)

    @cached_property
    def targets(self) -> ProjectTargets:
        """Where the chunks of a project go."""
        return ProjectTargets(
            self._config,
            self._identity,
            self._keys,
            self._state,
            self._chunk_store,
            self.contracts,
            self.finder,
            self.sessions,
            self._clock,
            self.money.tallies,
        )

    @cached_property
    def projects(self) -> Projects:
        """Protect, back up, restore."""
        return Projects(
            self._config,
            self._base.data_dir,
            self._identity,
            self._keys,
            self._state,
            self.targets,
            self._clock,
            on_queued=lambda: self.waiting.note_queued(),
        )

    @cached_property
    def waiting(self) -> WaitingBackups:
        """Backups that wait for a provider."""
        return WaitingBackups(
            self._state,
            self.projects,
            self._clock,
            is_connected=self._network.is_connected,
            next_dial_s=lambda peer_id: self.presence.next_try_in_s(peer_id),
            is_paused=self._is_paused,
        )

    @cached_property
    def repair(self) -> Repair:
        """Puts back what providers lost."""
        replicas = Replicas(
            self._state, self.projects, self._clock, follow=self._follow, end_contract=self._end_contract
        )
        return Repair(self._state, self.projects, replicas, self._clock, is_paused=self._is_paused)

    async def _end_contract(self, contract: Contract) -> None:
        if await trio.to_thread.run_sync(self.money.pays, contract):
            await self.money.close(contract)
            self.recovery.publish_soon()

    async def _follow(self, contract: Contract) -> bool:
        return await self.recovery.follow(provider_place(contract, self.sessions))

    @cached_property
    def orphans(self) -> Orphans:
        """Collects what no head lists."""
        return Orphans(
            self._base.data_dir.cache / "orphans",
            self._state,
            self.contracts,
            self.targets,
            self.projects,
            follow=self._follow,
            clock=self._clock,
            is_paused=self._is_paused,
        )

    # The identity record and the provider's side

    @cached_property
    def announcements(self) -> Announcements:
        """Tells the DHT whose identity records are kept here."""
        return Announcements(self.kademlia, self._chunk_store)

    @cached_property
    def recovery(self) -> Recovery:
        """The identity record."""
        own_place = OwnPlace(self._chunk_store, self.announcements.add) if self._config.is_always_on else None
        return Recovery(
            self._identity,
            self._keys,
            self._state,
            self._clock,
            places=lambda: record_places(self.contracts, self.sessions, own_place),
            on_adopted=lambda: self.presence.dial_soon(),
        )

    @cached_property
    def housekeeping(self) -> Housekeeping:
        """Regular chores of the state."""
        return Housekeeping(self._state, self.kademlia, self.contracts, self.discovery)

    @cached_property
    def chunk_service(self) -> ChunkService:
        """Serves the chunks of customers."""
        return ChunkService(
            self._chunk_store,
            StateAuthorizer(self._state),
            clock=self._clock,
            on_recovery_set=self.announcements.add,
            network_id=self._identity.network_id,
            meter=self.money.meter,
        )

    @cached_property
    def node(self) -> Node:
        """What the operations see."""
        return Node(
            config=self._config,
            data_dir=self._base.data_dir,
            clock=self._clock,
            keys=self._keys,
            state=self._state,
            identity=self._identity,
            network=self._network,
            kademlia=self.kademlia,
            finder=self.finder,
            presence=self.presence,
            discovery=self.discovery,
            contracts=self.contracts,
            money=self.money,
            chunk_store=self._chunk_store,
            projects=self.projects,
            connectivity=self.connectivity,
            recovery=self.recovery,
            uptime=self.uptime,
            audits=self.audits,
            orphans=self.orphans,
            repair=self.repair,
            traffic=self.traffic,
            waiting=self.waiting,
            clock_skew=self.clock_skew,
            started_at=self._clock(),
            stop=self._base.stop,
        )
