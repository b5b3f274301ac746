"""Which values may stand under which key of the DHT: peer records and offers, each under its own."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType
from sovereign_protocols.discovery.keys import offer_key, peer_record_key
from sovereign_protocols.discovery.records import MAX_RECORD_BYTES, parse_peer_record
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.kad.errors import InvalidRecordError
from sovereign_protocols.market.offer import parse_offer

# A record is judged on every read and write; its signatures, which cannot change, only once.
_MAX_JUDGED = 1024
_TYPE_OFFSET = 5


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is to be remembered of a value whose signatures hold.

    ``rank`` orders the values of one key; the bytes at its end make the order total.
    """

    key: bytes
    rank: tuple[int, int, bytes]
    is_valid_at: Callable[[int], bool]


class SovereignValidator:
    """The validator of the ``/sov/`` namespace.

    Args:
        network_id: 32 bytes; statements of other networks mean nothing here.
    """

    def __init__(self, network_id: bytes = NETWORK_ID_MAIN) -> None:
        self._network_id = network_id
        self._judged: OrderedDict[bytes, _Judged] = OrderedDict()

    def validate(self, key: bytes, value: bytes, now: int) -> None:
        """Raise unless a value may stand under a key now.

        Args:
            key: 32 bytes.
            value: a signed peer record or offer.
            now: Unix seconds UTC.

        Raises:
            InvalidRecordError: "size", "type", "signature", "malformed", "key" or "expired".
        """
        judged = self._judge(value)
        if judged.key != key:
            raise InvalidRecordError("key")
        if not judged.is_valid_at(now):
            raise InvalidRecordError("expired")

    def select(self, key: bytes, values: list[bytes]) -> int:
        """Return the index of the best value: highest sequence number, then latest expiry.

        Args:
            key: 32 bytes.
            values: at least one; each passed ``validate``.
        """
        return max(range(len(values)), key=lambda index: self._judge(values[index]).rank)

    def _judge(self, value: bytes) -> _Judged:
        judged = self._judged.pop(value, None) or self._parse(value)
        self._judged[value] = judged
        if len(self._judged) > _MAX_JUDGED:
            self._judged.popitem(last=False)
        return judged

    def _parse(self, value: bytes) -> _Judged:
        if len(value) > MAX_RECORD_BYTES:
            raise InvalidRecordError("size")
        kind = value[_TYPE_OFFSET] if len(value) > _TYPE_OFFSET else None
        try:
            if kind == StatementType.PEER_RECORD:
                peer = parse_peer_record(value, self._network_id)
                rank = (peer.record.seq, peer.record.expires_at, value)
                return _Judged(peer_record_key(peer.record.device), rank, peer.is_valid_at)
            if kind == StatementType.OFFER:
                signed = parse_offer(value, self._network_id)
                rank = (signed.offer.seq, signed.offer.valid_until, value)
                return _Judged(offer_key(signed.offer.device), rank, signed.is_valid_at)
        except RemoteProtocolError as error:
            raise InvalidRecordError(error.code.value) from error
        raise InvalidRecordError("type")
