"""The DHT of one node: put, get, provide and find over a network."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from sovereign_crypto.errors import FormatError
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.net.addresses import split_peer_id
from sovereign_node.net.kad import table_file
from sovereign_node.net.kad.addresses import addresses_to_text, addresses_to_wire
from sovereign_node.net.kad.caller import DhtNetwork, PeerAddresses
from sovereign_node.net.kad.publications import Kind, Publication, Publications
from sovereign_node.net.kad.service import KadService
from sovereign_node.net.kad.settings import KademliaSettings
from sovereign_node.net.kad.upkeep import Upkeep
from sovereign_node.net.kad.walker import Walker
from sovereign_protocols.kad import PROTOCOL_ID
from sovereign_protocols.kad.core import KadServer
from sovereign_protocols.kad.errors import InvalidRecordError
from sovereign_protocols.kad.keys import peer_id_bytes, peer_id_text, provider_wire_key, record_wire_key
from sovereign_protocols.kad.lookup import Lookup
from sovereign_protocols.kad.messages import Contact, Message, MessageType, Record
from sovereign_protocols.kad.records import ProviderStore, RecordStore, Validator
from sovereign_protocols.kad.table import RoutingTable

if TYPE_CHECKING:
    from trio_typing import TaskStatus

MAX_FOUND = 64


class Kademlia:
    """One node of the DHT. ``run`` must be running while it is used.

    Args:
        network: connections and streams of this node.
        validator: judges the values that are stored and returned.
        server: whether to answer others and keep records for them.
        clock: wall time, seconds since 1970.
        settings: intervals, deadlines and caps.
        addresses: gives the addresses to tell others; by default those of the network.
        random_bytes: source of the places that a refresh visits.
    """

    def __init__(
        self,
        network: DhtNetwork,
        *,
        validator: Validator,
        server: bool = True,
        clock: Clock = wall_clock,
        settings: KademliaSettings | None = None,
        addresses: Callable[[], list[str]] | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.settings = settings or KademliaSettings()
        self._network = network
        self._is_server = server
        self._clock = clock
        self._own_addresses = addresses or network.addresses
        self._own = peer_id_bytes(network.peer_id)
        self._table = RoutingTable(self._own, limit_subnets=self.settings.limit_subnets)
        self._records = RecordStore(validator, self._own)
        self._providers = ProviderStore(self._own)
        self._walker = Walker(network, self._table, self.settings)
        self._publications = Publications()
        self._service = KadService(
            KadServer(self._own, self._table, self._records, self._providers),
            lambda: addresses_to_wire(self._own_addresses()),
            self.settings,
            clock,
            self._walker.note_inbound,
        )
        self._upkeep = Upkeep(self._walker, self._publications, self._repeat, self._purge, random_bytes)

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Answer others, keep the table alive and repeat publications until cancelled.

        Args:
            task_status: told when others are being answered.
        """
        if self._is_server:
            self._network.set_handler(PROTOCOL_ID, self._service.handle_stream)
        unwatch = self._network.watch_connections(self._walker.note_connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._walker.run_adoption)
                nursery.start_soon(self._upkeep.run)
                task_status.started()
        finally:
            unwatch()
            if self._is_server:
                self._network.remove_handler(PROTOCOL_ID)

    async def bootstrap(self, addresses: Sequence[str]) -> int:
        """Join through known nodes; they are tried again later for as long as the table is nearly empty.

        Args:
            addresses: multiaddrs that end in ``/p2p/PEER``; others are left out.

        Returns:
            How many contacts the table has now.
        """
        contacts: dict[bytes, tuple[bytes, ...]] = {}
        for address in addresses:
            named = split_peer_id(address)[1]
            if named is None:
                continue
            try:
                peer_id = peer_id_bytes(named)
            except FormatError:
                continue
            contacts[peer_id] = contacts.get(peer_id, ()) + addresses_to_wire([address])
        await self._upkeep.join([Contact(peer_id, found) for peer_id, found in contacts.items()])
        return len(self._table)

    async def put(self, key: bytes, value: bytes) -> int:
        """Store a value at the peers nearest to its key, once.

        Args:
            key: 32 bytes.
            value: what the validator accepts under this key.

        Returns:
            How many other peers store it.

        Raises:
            InvalidRecordError: the validator refuses it, or we know a better one ("older").
        """
        now = self._clock()
        if self._is_server:
            self._records.put(key, value, self._own, now)
        else:
            self._records.check(key, value, now)
        wire_key = record_wire_key(key)
        nearest = await self._walker.find_node(wire_key)
        message = Message(MessageType.PUT_VALUE, key=wire_key, record=Record(wire_key, value))
        answers = await self._walker.tell_all(nearest, message)
        return sum(
            answer is not None and answer.record is not None and answer.record.value == value for answer in answers
        )

    async def publish(self, key: bytes, make_value: Callable[[], bytes], *, interval_s: float | None = None) -> int:
        """Store a value now and a fresh one at every interval, and whenever many new peers appear.

        Args:
            key: 32 bytes.
            make_value: makes a valid value with a higher sequence number each time. One that is refused is
                logged and another asked for ten seconds later.
            interval_s: time between repetitions; by default six hours.

        Returns:
            How many other peers store the first one.
        """
        return await self._start(Kind.VALUE, key, make_value, interval_s)

    async def provide(self, key: bytes) -> int:
        """Announce now and at every interval that this node provides a key.

        Args:
            key: 32 bytes.

        Returns:
            How many other peers accepted the announcement.
        """
        return await self._start(Kind.PROVIDER, key, None, None)

    def stop_publishing(self, key: bytes) -> None:
        """Repeat a value no longer; copies at others expire.

        Args:
            key: 32 bytes.
        """
        self._publications.remove(Kind.VALUE, key)

    def stop_providing(self, key: bytes) -> None:
        """Repeat an announcement no longer; those at others expire within a day.

        Args:
            key: 32 bytes.
        """
        self._publications.remove(Kind.PROVIDER, key)
        self._providers.remove(key, self._own)

    def announce_soon(self) -> None:
        """Repeat everything now, for instance because our addresses changed."""
        self._publications.hasten(trio.current_time())
        self._upkeep.wake()

    async def get(self, key: bytes) -> bytes | None:
        """Ask the network for the best valid value under a key; our own copy counts as one vote.

        Args:
            key: 32 bytes.
        """
        wire_key = record_wire_key(key)
        now = self._clock()
        own = self._records.get(key, now)
        values = [own.value] if own is not None else []
        judged = set(values)

        def take(lookup: Lookup, _contact: Contact, answer: Message) -> None:
            record = answer.record
            if record is not None and record.key == wire_key and record.value not in judged:
                judged.add(record.value)
                try:
                    self._records.check(key, record.value, now)
                except InvalidRecordError:
                    return
                values.append(record.value)
            if values and lookup.settled(self.settings.read_width):
                lookup.stop()

        await self._walker.lookup(wire_key, Message(MessageType.GET_VALUE, key=wire_key), on_answer=take)
        return self._records.best(key, values)

    async def find_providers(self, key: bytes, limit: int = 20) -> list[PeerAddresses]:
        """Ask the network who provides a key.

        Args:
            key: 32 bytes.
            limit: how many at most, up to 64.

        Returns:
            Distinct peers with the addresses they announced; those that most nodes name first. This node
            itself is not among them.
        """
        wire_key = provider_wire_key(key)
        found: dict[bytes, list[Contact]] = {}

        def collect(contacts: Sequence[Contact]) -> None:
            for contact in contacts:
                if contact.peer_id in found or len(found) < MAX_FOUND:
                    found.setdefault(contact.peer_id, []).append(contact)

        def take(lookup: Lookup, _contact: Contact, answer: Message) -> None:
            collect(answer.provider_peers)
            if found and lookup.settled(self.settings.read_width):
                lookup.stop()

        collect([peer for peer in self._providers.get(key, self._clock()) if peer.peer_id != self._own])
        await self._walker.lookup(wire_key, Message(MessageType.GET_PROVIDERS, key=wire_key), on_answer=take)
        found.pop(self._own, None)
        by_votes = sorted(found.values(), key=len, reverse=True)
        return [_peer_addresses(contacts) for contacts in by_votes[: min(limit, MAX_FOUND)]]

    async def find_peer(self, peer_id: str) -> list[str]:
        """Ask the network where a peer may be reached.

        Args:
            peer_id: base58 text.

        Returns:
            Multiaddrs that end in ``/p2p/PEER``, best known first; empty if nobody knows.

        Raises:
            sovereign_crypto.errors.FormatError: not a peer id.
        """
        target = peer_id_bytes(peer_id)
        found: list[Contact] = []
        entry = self._table.get(target)
        if entry is not None and not entry.failures:
            found.append(entry.contact)

        def take(lookup: Lookup, contact: Contact, answer: Message) -> None:
            found.extend(peer for peer in answer.closer_peers if peer.peer_id == target and peer.addresses)
            if contact.peer_id == target and found:
                lookup.stop()

        question = Message(MessageType.FIND_NODE, key=target)
        await self._walker.lookup(target, question, on_answer=take)
        # What the peer said itself comes last in time and first in worth.
        return list(_peer_addresses([Contact(target), *reversed(found)]).addresses)

    def statistics(self) -> dict[str, int]:
        """Return counters and sizes, for metrics and ``status``."""
        return {
            "contacts": len(self._table),
            "suspects": len(self._walker.suspects),
            "records": len(self._records),
            "provider_keys": len(self._providers),
            "publications": len(self._publications),
            "lookups": self._walker.lookups,
            "calls": self._walker.caller.calls,
            "calls_failed": self._walker.caller.failures,
            "requests_answered": self._service.answered,
            "requests_refused": self._service.refused.total(),
        }

    def contacts(self) -> list[PeerAddresses]:
        """Return the peers in the routing table."""
        return [_peer_addresses([entry.contact]) for entry in self._table.entries()]

    def snapshot(self) -> dict[str, Any]:
        """Return the routing table as data for JSON, to be stored and given to ``restore``."""
        return table_file.snapshot(self.contacts())

    async def restore(self, data: object) -> int:
        """Ask the contacts of an earlier ``snapshot``; those that answer enter the table.

        Args:
            data: what ``snapshot`` returned; anything else is treated as empty.

        Returns:
            How many contacts the table has now.
        """
        contacts = [
            Contact(peer_id_bytes(peer.peer_id), addresses_to_wire(peer.addresses))
            for peer in table_file.parse(data)
        ]
        await self._upkeep.join(contacts)
        return len(self._table)

    async def _start(
        self, kind: Kind, key: bytes, make_value: Callable[[], bytes] | None, interval_s: float | None
    ) -> int:
        interval_s = self.settings.republish_s if interval_s is None else interval_s
        publication = Publication(kind, key, make_value, interval_s, trio.current_time() + interval_s)
        self._publications.add(publication)
        return await self._upkeep.publish(publication)

    async def _repeat(self, publication: Publication) -> int:
        if publication.make_value is not None:
            return await self.put(publication.key, publication.make_value())
        return await self._announce(publication.key)

    async def _announce(self, key: bytes) -> int:
        addresses = addresses_to_wire(self._own_addresses())
        own = Contact(self._own, addresses)
        if self._is_server and addresses:
            self._providers.add(key, own, self._clock())
        wire_key = provider_wire_key(key)
        nearest = await self._walker.find_node(wire_key)
        message = Message(MessageType.ADD_PROVIDER, key=wire_key, provider_peers=(own,))
        return len(await self._walker.tell_all(nearest, message))

    def _purge(self) -> None:
        self._records.purge(self._clock())
        self._providers.purge(self._clock())


def _peer_addresses(contacts: Sequence[Contact]) -> PeerAddresses:
    peer_id = peer_id_text(contacts[0].peer_id)
    texts = partial(addresses_to_text, peer_id)
    merged = dict.fromkeys(address for contact in contacts for address in texts(contact.addresses))
    return PeerAddresses(peer_id, tuple(merged))
