"""Lookups over the routing table, and what every call teaches about the peers."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from sovereign_crypto.errors import FormatError
from sovereign_node.net.kad.caller import Caller, CallFailedError, DhtNetwork, Suspects
from sovereign_node.net.kad.settings import KademliaSettings
from sovereign_node.net.kad.walk import walk
from sovereign_protocols.kad.keys import kad_id, peer_id_bytes
from sovereign_protocols.kad.lookup import Lookup
from sovereign_protocols.kad.messages import Contact, Message, MessageType
from sovereign_protocols.kad.table import RoutingTable

# Peers that wait to be asked for their addresses; more than this arrive only in a flood.
_MAX_NEWCOMERS = 64
_ADOPTION_WORKERS = 4


class Walker:
    """Asks the network; keeps table and suspects up to date on the way.

    Args:
        network: connections and streams.
        table: contacts that answered.
        settings: deadlines and widths.
    """

    def __init__(self, network: DhtNetwork, table: RoutingTable, settings: KademliaSettings) -> None:
        self.table = table
        self.suspects = Suspects()
        self.caller = Caller(network, timeout_s=settings.call_timeout_s)
        self.settings = settings
        self.own_peer_id = peer_id_bytes(network.peer_id)
        self.lookups = 0
        self.entrances = 0
        self._lost: dict[bytes, Contact] = {}
        self._newcomers: dict[bytes, Contact] = {}
        self._arrived = trio.Event()

    async def lookup(
        self,
        key: bytes,
        question: Message,
        *,
        on_answer: Callable[[Lookup, Contact, Message], None] | None = None,
        seeds: Iterable[Contact] = (),
    ) -> list[Contact]:
        """Walk towards a key and ask everyone on the way.

        Args:
            key: the key as it is on the wire.
            question: what to ask.
            on_answer: sees each answer and may stop the lookup.
            seeds: contacts to begin with besides those of the table.

        Returns:
            The peers that answered, nearest first, at most ``replicas``.
        """
        self.lookups += 1
        target = kad_id(key)
        lookup = Lookup(target, [*self._seeds(target), *seeds], self.settings.lookup, own_peer_id=self.own_peer_id)

        def answered(contact: Contact, answer: Message) -> None:
            self._note_answer(contact)
            if on_answer is not None:
                on_answer(lookup, contact, answer)

        await walk(
            lookup,
            question,
            self.caller,
            self.suspects,
            on_answer=answered,
            on_failure=self._note_failure,
            slow_s=self.settings.lookup.patience_s,
        )
        return lookup.answered(self.settings.replicas)

    async def find_node(self, key: bytes) -> list[Contact]:
        """Find the live peers nearest to a key.

        Args:
            key: the key as it is on the wire.
        """
        return await self.lookup(key, Message(MessageType.FIND_NODE, key=key))

    async def tell_all(self, contacts: Iterable[Contact], message: Message) -> list[Message | None]:
        """Send one message to several peers at once.

        Args:
            contacts: whom.
            message: what.

        Returns:
            The answers of those who accepted it.
        """
        answers: list[Message | None] = []

        async def tell(contact: Contact) -> None:
            try:
                answers.append(await self.caller.call(contact, message))
            except CallFailedError:
                # A refusal of a write says nothing about the peer's health, so it is not noted.
                return

        async with trio.open_nursery() as nursery:
            for contact in contacts:
                nursery.start_soon(tell, contact)
        return answers

    async def adopt(self, contact: Contact) -> bool:
        """Ask a peer for its own addresses; if it answers, it may enter the table.

        The peer itself is the only source of addresses that we believe: a connected peer answers
        whatever wrong addresses a third one gave for it.

        Args:
            contact: the peer; its addresses serve for dialling only.

        Returns:
            Whether it answered.
        """
        self._newcomers.pop(contact.peer_id, None)
        was_away = self._lost.pop(contact.peer_id, None) is not None or contact.peer_id not in self.table
        question = Message(MessageType.FIND_NODE, key=contact.peer_id)
        try:
            answer = await self.caller.call(contact, question)
        except CallFailedError:
            self._note_failure(contact)
            return False
        closer = answer.closer_peers if answer is not None else ()
        own = [peer.addresses for peer in closer if peer.peer_id == contact.peer_id and peer.addresses]
        self.suspects.clear(contact.peer_id)
        entry = replace(contact, addresses=own[0] if own else contact.addresses)
        if self.table.add(entry, trio.current_time()) and was_away:
            self.entrances += 1
        return True

    def note_newcomer(self, contact: Contact) -> None:
        """Remember a peer that may become a contact; ``run_adoption`` will ask it.

        Args:
            contact: the peer and where it might be.
        """
        if contact.peer_id in self.suspects or not self.table.wants(contact.peer_id):
            return
        if len(self._newcomers) >= _MAX_NEWCOMERS:
            return
        self._newcomers.setdefault(contact.peer_id, contact)
        self._arrived.set()

    def note_connection(self, peer_id: str, connected: bool) -> None:
        """Note that the last connection to a peer closed: it may be gone, or have lost its memory.

        Args:
            peer_id: base58 text.
            connected: whether it is connected now.
        """
        if connected:
            return
        try:
            entry = self.table.get(peer_id_bytes(peer_id))
        except FormatError:
            return
        if entry is not None:
            self._lost[entry.contact.peer_id] = entry.contact

    def to_check(self, silent_s: float) -> list[Contact]:
        """Return the contacts to ask whether they are there: those that we lost, then the silent ones.

        Args:
            silent_s: how long silence must be, in seconds.
        """
        silent = self.table.stale(trio.current_time(), silent_s)
        return list({peer.peer_id: peer for peer in [*self._lost.values(), *silent]}.values())

    def note_inbound(self, peer_id: bytes) -> None:
        """Note that a peer asked us something: it lives, and may be a server.

        Args:
            peer_id: 38 bytes, authenticated.
        """
        entry = self.table.get(peer_id)
        if entry is not None:
            self.suspects.clear(peer_id)
            self.table.add(Contact(peer_id), trio.current_time())
        else:
            self.note_newcomer(Contact(peer_id))

    async def run_adoption(self) -> None:
        """Ask newcomers, a few at a time, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_ADOPTION_WORKERS):
                nursery.start_soon(self._adopt_forever)

    async def _adopt_forever(self) -> None:
        while True:
            while not self._newcomers:
                self._arrived = trio.Event() if self._arrived.is_set() else self._arrived
                await self._arrived.wait()
            await self.adopt(next(iter(self._newcomers.values())))

    def _seeds(self, target: int) -> list[Contact]:
        count = self.settings.replicas
        seeds = [peer for peer in self.table.nearest(target, 2 * count) if peer.peer_id not in self.suspects]
        # If everyone is under suspicion, it was probably our own link that failed.
        return seeds[:count] or self.table.nearest(target, count)

    def _note_answer(self, contact: Contact) -> None:
        self.suspects.clear(contact.peer_id)
        if contact.peer_id in self.table:
            self.table.add(Contact(contact.peer_id), trio.current_time())
        else:
            self.note_newcomer(contact)

    def _note_failure(self, contact: Contact) -> None:
        self.suspects.add(contact.peer_id)
        self.table.fail(contact.peer_id)
