"""The routing table: contacts that did answer, nearest regions known best.

A contact enters only through ``add``, which the caller calls for a peer that answered *us* on this
protocol. Peers merely named by others never enter and so can never push out a live one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from sovereign_protocols.kad.keys import KAD_ID_BITS, kad_id
from sovereign_protocols.kad.messages import Contact

BUCKET_SIZE = 20
# As many newcomers per bucket wait for a place as one bucket can lose at a time in practice.
MAX_REPLACEMENTS = 8
FAILURES_TO_PRUNE = 2
# The measure against one operator filling our view; py-libp2p uses 2, too few for a hosting company's /24.
SUBNET_LIMIT_PER_BUCKET = 3
SUBNET_LIMIT_PER_TABLE = 16
MAX_REFRESH_PREFIX = 10
REFRESH_TRIES = 8192
_IP4, _IP6 = 0x04, 0x29
_LOCAL_IP6_FIRST_BYTES = (0x00, 0xFC, 0xFD, 0xFE)


@dataclass(slots=True)
class Entry:
    """A contact in the table.

    Attributes:
        contact: id and addresses.
        kad_id: its place in the id space.
        seen_at: when it last answered, caller's clock.
        failures: calls in a row that it did not answer.
    """

    contact: Contact
    kad_id: int
    seen_at: float
    failures: int = 0


@dataclass(slots=True)
class _Bucket:
    """Entries by peer id in the order of their last answer, oldest first."""

    entries: dict[bytes, Entry] = field(default_factory=dict)
    replacements: dict[bytes, Entry] = field(default_factory=dict)


def subnet_of(addresses: Iterable[bytes]) -> bytes | None:
    """Name the network of a peer, for the diversity limit.

    Args:
        addresses: binary multiaddrs.

    Returns:
        The /24 (IPv4) or /48 (IPv6) of the first address that begins with a public IP; None if there is
        none (loopback, private, link-local, names, relays), for which no limit applies.
    """
    for address in addresses:
        if len(address) >= 5 and address[0] == _IP4 and not _is_local_ip4(address[1:5]):
            return address[:4]
        if len(address) >= 17 and address[0] == _IP6 and address[1] not in _LOCAL_IP6_FIRST_BYTES:
            return address[:7]
    return None


def _is_local_ip4(ip: bytes) -> bool:
    first, second = ip[0], ip[1]
    return (
        first in (0, 10, 127)
        or (first == 172 and 16 <= second < 32)
        or (first == 192 and second == 168)
        or (first == 169 and second == 254)
        or (first == 100 and 64 <= second < 128)
    )


class RoutingTable:
    """Buckets of at most ``bucket_size`` contacts, one per length of the prefix shared with us."""

    def __init__(self, own_peer_id: bytes, *, bucket_size: int = BUCKET_SIZE, limit_subnets: bool = True) -> None:
        self._own_peer_id = own_peer_id
        self._own_id = kad_id(own_peer_id)
        self._bucket_size = bucket_size
        self._limit_subnets = limit_subnets
        self._buckets: dict[int, _Bucket] = {}

    def __len__(self) -> int:
        return sum(len(bucket.entries) for bucket in self._buckets.values())

    def __contains__(self, peer_id: object) -> bool:
        return isinstance(peer_id, bytes) and self.get(peer_id) is not None

    def entries(self) -> Iterator[Entry]:
        """Go through all contacts in the table, nearest bucket last."""
        for prefix in sorted(self._buckets):
            yield from self._buckets[prefix].entries.values()

    def get(self, peer_id: bytes) -> Entry | None:
        """Return the entry of a peer, or None.

        Args:
            peer_id: 38 bytes.
        """
        bucket = self._buckets.get(self._prefix(kad_id(peer_id)))
        return None if bucket is None else bucket.entries.get(peer_id)

    def wants(self, peer_id: bytes) -> bool:
        """Tell whether it is worth asking a peer that is not in the table to join it.

        Args:
            peer_id: 38 bytes.
        """
        if peer_id == self._own_peer_id:
            return False
        bucket = self._buckets.get(self._prefix(kad_id(peer_id)))
        if bucket is None:
            return True
        if peer_id in bucket.entries or peer_id in bucket.replacements:
            return False
        return len(bucket.entries) < self._bucket_size or len(bucket.replacements) < MAX_REPLACEMENTS

    def add(self, contact: Contact, now: float) -> bool:
        """Note that a peer answered us.

        A known peer moves to the young end of its bucket. For a new one there must be room and a free
        place of its subnet; else it waits among the replacements, the newest of which takes the next
        place. Live contacts are never replaced: long-lived peers are the ones likely to stay.

        Args:
            contact: the peer and its addresses; empty addresses keep those known.
            now: caller's clock.

        Returns:
            Whether the peer is in the table now.
        """
        if contact.peer_id == self._own_peer_id:
            return False
        place = kad_id(contact.peer_id)
        bucket = self._buckets.setdefault(self._prefix(place), _Bucket())
        known = bucket.entries.pop(contact.peer_id, None)
        addresses = contact.addresses or (known.contact.addresses if known else ())
        entry = Entry(Contact(contact.peer_id, addresses), place, now)
        if known is not None or self._has_room(bucket, addresses):
            bucket.replacements.pop(contact.peer_id, None)
            bucket.entries[contact.peer_id] = entry
            return True
        bucket.replacements.pop(contact.peer_id, None)
        bucket.replacements[contact.peer_id] = entry
        while len(bucket.replacements) > MAX_REPLACEMENTS:
            del bucket.replacements[next(iter(bucket.replacements))]
        return False

    def fail(self, peer_id: bytes) -> bool:
        """Note that a peer did not answer a call.

        Args:
            peer_id: 38 bytes.

        Returns:
            Whether this was one failure too many and the peer left the table.
        """
        bucket = self._buckets.get(self._prefix(kad_id(peer_id)))
        if bucket is None:
            return False
        bucket.replacements.pop(peer_id, None)
        entry = bucket.entries.get(peer_id)
        if entry is None:
            return False
        entry.failures += 1
        if entry.failures < FAILURES_TO_PRUNE:
            return False
        self.remove(peer_id)
        return True

    def remove(self, peer_id: bytes) -> None:
        """Take a peer out and give its place to the newest replacement that may have it.

        Args:
            peer_id: 38 bytes.
        """
        bucket = self._buckets.get(self._prefix(kad_id(peer_id)))
        if bucket is None or bucket.entries.pop(peer_id, None) is None:
            return
        for candidate_id, candidate in reversed(bucket.replacements.items()):
            if self._has_room(bucket, candidate.contact.addresses):
                del bucket.replacements[candidate_id]
                bucket.entries[candidate_id] = candidate
                return

    def nearest(self, target: int, count: int, exclude: Collection[bytes] = ()) -> list[Contact]:
        """Return the contacts nearest to a place, those that failed last after all others.

        Args:
            target: a kad id.
            count: how many at most.
            exclude: peer ids to leave out.
        """
        entries = [entry for entry in self.entries() if entry.contact.peer_id not in exclude]
        entries.sort(key=lambda entry: (entry.failures > 0, entry.kad_id ^ target))
        return [entry.contact for entry in entries[:count]]

    def stale(self, now: float, age_s: float) -> list[Contact]:
        """Return the contacts that have not answered for a while, longest silence first.

        Args:
            now: caller's clock.
            age_s: how long is a while, in seconds.
        """
        silent = [entry for entry in self.entries() if now - entry.seen_at >= age_s or entry.failures]
        silent.sort(key=lambda entry: entry.seen_at)
        return [entry.contact for entry in silent]

    def refresh_keys(self, noise: bytes) -> list[bytes]:
        """Choose a key in each region worth walking to.

        A place cannot be turned back into a key, so keys are tried until one falls into each region.

        Args:
            noise: 24 random bytes, so that every refresh goes elsewhere in each region.

        Returns:
            At most one key of 32 bytes per prefix length up to that of our nearest contact, nearest
            region first. Regions nearer than about 2**-10 of the space are left to a walk to ourselves.
        """
        nearest = max((prefix for prefix, bucket in self._buckets.items() if bucket.entries), default=-1)
        wanted = set(range(min(nearest, MAX_REFRESH_PREFIX) + 1))
        found: dict[int, bytes] = {}
        for number in range(REFRESH_TRIES):
            key = noise + number.to_bytes(8, "big")
            prefix = self._prefix(kad_id(key))
            if prefix in wanted:
                wanted.remove(prefix)
                found[prefix] = key
            if not wanted:
                break
        return [found[prefix] for prefix in sorted(found, reverse=True)]

    def _prefix(self, place: int) -> int:
        return KAD_ID_BITS - (place ^ self._own_id).bit_length()

    def _has_room(self, bucket: _Bucket, addresses: tuple[bytes, ...]) -> bool:
        if len(bucket.entries) >= self._bucket_size:
            return False
        subnet = subnet_of(addresses) if self._limit_subnets else None
        if subnet is None:
            return True
        in_bucket = Counter(subnet_of(entry.contact.addresses) for entry in bucket.entries.values())
        if in_bucket[subnet] >= SUBNET_LIMIT_PER_BUCKET:
            return False
        in_table = sum(subnet_of(entry.contact.addresses) == subnet for entry in self.entries())
        return in_table < SUBNET_LIMIT_PER_TABLE
