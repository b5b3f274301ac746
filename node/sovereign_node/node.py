"""The parts of a running node, as the operations see them. Built by :mod:`sovereign_node.assembly` alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sovereign_node.chunkstore import ChunkStore
from sovereign_node.clock import Clock
from sovereign_node.config import Config
from sovereign_node.datadir import DataDir
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.services.audits import Audits
from sovereign_node.services.clock_skew import ClockSkew
from sovereign_node.services.connectivity import Connectivity
from sovereign_node.services.contracts import Contracts
from sovereign_node.services.discovery import Discovery
from sovereign_node.services.money.service import Money
from sovereign_node.services.orphans import Orphans
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.presence import Presence
from sovereign_node.services.projects import Projects
from sovereign_node.services.recovery import Recovery
from sovereign_node.services.repair import Repair
from sovereign_node.services.traffic import Traffic
from sovereign_node.services.uptime import Uptime
from sovereign_node.services.waiting import WaitingBackups
from sovereign_node.store import State


@dataclass(frozen=True)
class Node:
    """Collaborators of the operations.

    Args:
        config: settings in force.
        data_dir: where everything lies.
        clock: wall time.
        keys: of this device.
        state: SQLite.
        identity: whose device this is.
        network: connections.
        kademlia: the DHT.
        finder: reaches peers by id.
        presence: keeps connections.
        discovery: what is published and found.
        contracts: contracts, as customer and as provider.
        money: meters, vouchers, statements.
        chunk_store: chunks of customers, and own chunks that wait for a provider.
        projects: protect, back up, restore.
        connectivity: reachability and relays.
        recovery: the identity record.
        uptime: observes providers and answers observers.
        audits: audits providers and answers auditors.
        orphans: collects what no head lists.
        repair: puts back what providers lost.
        traffic: limits on bytes per second.
        waiting: backups that wait for a provider.
        clock_skew: what providers say the time is.
        started_at: Unix seconds UTC.
        stop: ends the node.
    """

    config: Config
    data_dir: DataDir
    clock: Clock
    keys: DeviceKeys
    state: State
    identity: OwnIdentity
    network: Network
    kademlia: Kademlia
    finder: PeerFinder
    presence: Presence
    discovery: Discovery
    contracts: Contracts
    money: Money
    chunk_store: ChunkStore
    projects: Projects
    connectivity: Connectivity
    recovery: Recovery
    uptime: Uptime
    audits: Audits
    orphans: Orphans
    repair: Repair
    traffic: Traffic
    waiting: WaitingBackups
    clock_skew: ClockSkew
    started_at: int
    stop: Callable[[], None]
