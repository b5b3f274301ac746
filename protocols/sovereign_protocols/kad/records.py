"""Records that this node keeps for others, and announcements of providers.

Both stores are bounded three ways: in total, per sender, and in time. When a store is full, what is far
from us in the id space goes first: others are responsible for it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from sovereign_protocols.kad.errors import InvalidRecordError, RequestRefusedError
from sovereign_protocols.kad.keys import kad_id, provider_wire_key, record_wire_key
from sovereign_protocols.kad.messages import MAX_VALUE_BYTES, Contact

# 4096 records of at most 4 KiB bound the memory to 16 MiB.
MAX_RECORDS = 4096
MAX_RECORDS_PER_SENDER = 64
MAX_RECORD_AGE_S = 24 * 3600
MAX_PROVIDERS_PER_KEY = 20
MAX_PROVIDER_KEYS = 4096
MAX_KEYS_PER_PROVIDER = 256
PROVIDER_AGE_S = 24 * 3600


class Validator(Protocol):
    """Judges values: the DHT stores and returns only what its validator accepts."""

    def validate(self, key: bytes, value: bytes, now: int) -> None:
        """Raise ``InvalidRecordError`` unless the value may stand under the key now.

        Args:
            key: 32 bytes.
            value: at most 4096 bytes.
            now: seconds since 1970, UTC.
        """

    def select(self, key: bytes, values: list[bytes]) -> int:
        """Return the index of the best of several valid values.

        Args:
            key: 32 bytes.
            values: at least one; each passed ``validate``.
        """


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A value that we keep.

    Attributes:
        value: the signed statement.
        sender: bytes of the peer id that brought it.
        received_at: seconds since 1970, UTC.
    """

    value: bytes
    sender: bytes
    received_at: int


class RecordStore:
    """Valid values by 32-byte key, the best one for each."""

    def __init__(self, validator: Validator, own_peer_id: bytes) -> None:
        self._validator = validator
        self._own_id = kad_id(own_peer_id)
        self._own_peer_id = own_peer_id
        self._records: dict[bytes, StoredRecord] = {}
        self._per_sender: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._records)

    def check(self, key: bytes, value: bytes, now: int) -> None:
        """Raise unless a value may stand under a key now; the cheapest tests come first.

        Args:
            key: 32 bytes.
            value: the value offered.
            now: seconds since 1970, UTC.

        Raises:
            InvalidRecordError: too large, or refused by the validator.
        """
        if not 0 < len(value) <= MAX_VALUE_BYTES:
            raise InvalidRecordError("size")
        self._validator.validate(key, value, now)

    def best(self, key: bytes, values: list[bytes]) -> bytes | None:
        """Return the best of several valid values, None if there is none.

        Args:
            key: 32 bytes.
            values: each passed ``check``.
        """
        distinct = list(dict.fromkeys(values))
        return distinct[self._validator.select(key, distinct)] if distinct else None

    def put(self, key: bytes, value: bytes, sender: bytes, now: int) -> None:
        """Keep a value unless a better one is here.

        The same bytes again are welcome: they carry their own expiry, so a repetition prolongs nothing.

        Args:
            key: 32 bytes.
            value: the value offered.
            sender: bytes of the peer id that brought it.
            now: seconds since 1970, UTC.

        Raises:
            InvalidRecordError: not valid, or older than what we have ("older").
            RequestRefusedError: the sender's share or the store is full.
        """
        self.check(key, value, now)
        present = self._present(key, now)
        if present is not None and self.best(key, [present.value, value]) != value:
            raise InvalidRecordError("older")
        if present is None or present.sender != sender:
            self._make_room(key, sender, replaces=present is not None)
        self._remove(key)
        self._records[key] = StoredRecord(value, sender, now)
        self._per_sender[sender] += 1

    def get(self, key: bytes, now: int) -> StoredRecord | None:
        """Return the value under a key if it is still valid.

        Args:
            key: 32 bytes.
            now: seconds since 1970, UTC.
        """
        return self._present(key, now)

    def purge(self, now: int) -> int:
        """Forget what is no longer valid.

        Args:
            now: seconds since 1970, UTC.

        Returns:
            How many records went.
        """
        before = len(self._records)
        for key in list(self._records):
            self._present(key, now)
        return before - len(self._records)

    def _present(self, key: bytes, now: int) -> StoredRecord | None:
        record = self._records.get(key)
        if record is None:
            return None
        try:
            self._validator.validate(key, record.value, now)
        except InvalidRecordError:
            self._remove(key)
            return None
        if now - record.received_at >= MAX_RECORD_AGE_S:
            self._remove(key)
            return None
        return record

    def _remove(self, key: bytes) -> None:
        record = self._records.pop(key, None)
        if record is not None:
            self._per_sender[record.sender] -= 1
            self._per_sender += Counter()  # drops the senders that are down to zero

    def _make_room(self, key: bytes, sender: bytes, *, replaces: bool) -> None:
        if sender != self._own_peer_id and self._per_sender[sender] >= MAX_RECORDS_PER_SENDER:
            raise RequestRefusedError("sender_full")
        if replaces or len(self._records) < MAX_RECORDS:
            return
        farthest = max(self._records, key=self._distance)
        if self._distance(farthest) <= self._distance(key):
            raise RequestRefusedError("store_full")
        self._remove(farthest)

    def _distance(self, key: bytes) -> int:
        return kad_id(record_wire_key(key)) ^ self._own_id


@dataclass(frozen=True, slots=True)
class _Announcement:
    contact: Contact
    announced_at: int


class ProviderStore:
    """Who provides which key: the newest announcements, at most twenty for each key."""

    def __init__(self, own_peer_id: bytes) -> None:
        self._own_id = kad_id(own_peer_id)
        self._keys: dict[bytes, dict[bytes, _Announcement]] = {}
        self._per_provider: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, contact: Contact, now: int) -> None:
        """Keep an announcement; the oldest of a full key makes room.

        Args:
            key: 32 bytes.
            contact: the provider itself, as authenticated, and its addresses.
            now: seconds since 1970, UTC.

        Raises:
            RequestRefusedError: the provider's share or the store is full.
        """
        announced = self._keys.get(key, {})
        if contact.peer_id not in announced and self._per_provider[contact.peer_id] >= MAX_KEYS_PER_PROVIDER:
            raise RequestRefusedError("provider_full")
        if not announced:
            self._make_room(key)
        announced = self._keys.setdefault(key, {})
        if announced.pop(contact.peer_id, None) is None:
            self._per_provider[contact.peer_id] += 1
        announced[contact.peer_id] = _Announcement(contact, now)
        while len(announced) > MAX_PROVIDERS_PER_KEY:
            self._drop(key, next(iter(announced)))

    def get(self, key: bytes, now: int) -> list[Contact]:
        """Return who provides a key, newest announcement first.

        Args:
            key: 32 bytes.
            now: seconds since 1970, UTC.
        """
        for peer_id, announcement in list(self._keys.get(key, {}).items()):
            if now - announcement.announced_at >= PROVIDER_AGE_S:
                self._drop(key, peer_id)
        return [announcement.contact for announcement in reversed(self._keys.get(key, {}).values())]

    def remove(self, key: bytes, peer_id: bytes) -> None:
        """Forget one announcement, if it is here.

        Args:
            key: 32 bytes.
            peer_id: 38 bytes.
        """
        if peer_id in self._keys.get(key, {}):
            self._drop(key, peer_id)

    def purge(self, now: int) -> None:
        """Forget announcements that were not repeated for a day.

        Args:
            now: seconds since 1970, UTC.
        """
        for key in list(self._keys):
            self.get(key, now)

    def _drop(self, key: bytes, peer_id: bytes) -> None:
        del self._keys[key][peer_id]
        if not self._keys[key]:
            del self._keys[key]
        self._per_provider[peer_id] -= 1
        if not self._per_provider[peer_id]:
            del self._per_provider[peer_id]

    def _make_room(self, key: bytes) -> None:
        if len(self._keys) < MAX_PROVIDER_KEYS:
            return
        farthest = max(self._keys, key=self._distance)
        if self._distance(farthest) <= self._distance(key):
            raise RequestRefusedError("store_full")
        for peer_id in list(self._keys[farthest]):
            self._drop(farthest, peer_id)

    def _distance(self, key: bytes) -> int:
        return kad_id(provider_wire_key(key)) ^ self._own_id
