"""The answering side of the DHT: one request in, one answer (or none, or a refusal) out."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from sovereign_protocols.kad.errors import InvalidRecordError, KadMessageError, RequestRefusedError
from sovereign_protocols.kad.keys import kad_id, parse_provider_key, parse_record_key
from sovereign_protocols.kad.messages import MAX_PEERS, Contact, Message, MessageType, Record
from sovereign_protocols.kad.records import ProviderStore, RecordStore
from sovereign_protocols.kad.table import RoutingTable

# An honest node announces a few keys in a burst and walks a few times a minute; js-libp2p asks one question
# per stream. Excess is refused with a reset, so the sender knows.
REQUESTS_PER_S = 50.0
REQUEST_BURST = 400.0
# Each accepted write costs up to five signature checks: see "limits" in the spec.
WRITES_PER_S = 5.0
WRITE_BURST = 100.0
MAX_TRACKED_SENDERS = 1024
_WRITES = (MessageType.PUT_VALUE, MessageType.ADD_PROVIDER)


@dataclass(slots=True)
class _Allowance:
    requests: float
    writes: float
    filled_at: float


class RateLimit:
    """Token buckets per sender; the senders silent for longest are forgotten first."""

    def __init__(self) -> None:
        self._senders: OrderedDict[bytes, _Allowance] = OrderedDict()

    def take(self, sender: bytes, *, is_write: bool, now: float) -> None:
        """Count one request.

        Args:
            sender: bytes of a peer id.
            is_write: whether it wants something stored.
            now: caller's clock, seconds.

        Raises:
            RequestRefusedError: more than the sender's share.
        """
        allowance = self._senders.pop(sender, None) or _Allowance(REQUEST_BURST, WRITE_BURST, now)
        elapsed = max(0.0, now - allowance.filled_at)
        allowance.requests = min(REQUEST_BURST, allowance.requests + elapsed * REQUESTS_PER_S)
        allowance.writes = min(WRITE_BURST, allowance.writes + elapsed * WRITES_PER_S)
        allowance.filled_at = now
        self._senders[sender] = allowance
        if len(self._senders) > MAX_TRACKED_SENDERS:
            self._senders.popitem(last=False)
        if allowance.requests < 1 or (is_write and allowance.writes < 1):
            raise RequestRefusedError("rate")
        allowance.requests -= 1
        allowance.writes -= is_write


class KadServer:
    """Answers requests from the routing table and the two stores."""

    def __init__(
        self, own_peer_id: bytes, table: RoutingTable, records: RecordStore, providers: ProviderStore
    ) -> None:
        self._own_peer_id = own_peer_id
        self._table = table
        self._records = records
        self._providers = providers
        self._rate = RateLimit()

    def handle(
        self, request: Message, sender: bytes, *, own_addresses: tuple[bytes, ...], now: int
    ) -> Message | None:
        """Answer one request.

        Args:
            request: what was asked.
            sender: bytes of the authenticated peer id that asks.
            own_addresses: our own addresses, binary.
            now: seconds since 1970, UTC.

        Returns:
            The answer; None for ADD_PROVIDER, which has none.

        Raises:
            RequestRefusedError: refused; reset the stream.
            KadMessageError: a request that makes no sense; reset the stream.
        """
        self._rate.take(sender, is_write=request.type in _WRITES, now=now)
        match request.type:
            case MessageType.FIND_NODE:
                return self._find_node(request, sender, own_addresses)
            case MessageType.GET_VALUE:
                return self._get_value(request, sender, now)
            case MessageType.PUT_VALUE:
                return self._put_value(request, sender, now)
            case MessageType.GET_PROVIDERS:
                return self._get_providers(request, sender, now)
            case MessageType.ADD_PROVIDER:
                self._add_provider(request, sender, now)
                return None
        return Message(MessageType.PING)

    def _closer(self, key: bytes, sender: bytes) -> tuple[Contact, ...]:
        return tuple(self._table.nearest(kad_id(key), MAX_PEERS, exclude=(sender,)))

    def _find_node(self, request: Message, sender: bytes, own_addresses: tuple[bytes, ...]) -> Message:
        if not request.key:
            raise KadMessageError("FIND_NODE without a key")
        closer = self._closer(request.key, sender)
        if request.key == self._own_peer_id:
            # Asked for ourselves we say where we listen: this is how a peer that we dialled through
            # one address, or that dialled us, learns the others.
            closer = (Contact(self._own_peer_id, own_addresses), *closer[: MAX_PEERS - 1])
        return Message(MessageType.FIND_NODE, closer_peers=closer)

    def _get_value(self, request: Message, sender: bytes, now: int) -> Message:
        key = _record_key(request.key)
        stored = self._records.get(key, now)
        record = None
        if stored is not None:
            received = datetime.fromtimestamp(stored.received_at, UTC)
            record = Record(request.key, stored.value, received.strftime("%Y-%m-%dT%H:%M:%S.000000000Z"))
        return Message(
            MessageType.GET_VALUE,
            key=request.key,
            record=record,
            closer_peers=self._closer(request.key, sender),
        )

    def _put_value(self, request: Message, sender: bytes, now: int) -> Message:
        record = request.record
        if record is None or record.key != request.key:
            raise KadMessageError("PUT_VALUE without a record of its key")
        try:
            self._records.put(_record_key(request.key), record.value, sender, now)
        except InvalidRecordError as error:
            raise RequestRefusedError(error.reason) from error
        return Message(MessageType.PUT_VALUE, key=request.key, record=record)

    def _get_providers(self, request: Message, sender: bytes, now: int) -> Message:
        found = self._providers.get(parse_provider_key(request.key), now)
        return Message(
            MessageType.GET_PROVIDERS,
            key=request.key,
            closer_peers=self._closer(request.key, sender),
            provider_peers=tuple(found[:MAX_PEERS]),
        )

    def _add_provider(self, request: Message, sender: bytes, now: int) -> None:
        key = parse_provider_key(request.key)
        # Nobody announces for another: the connection proves who the sender is.
        own = [contact for contact in request.provider_peers if contact.peer_id == sender]
        if not own or not own[0].addresses:
            raise RequestRefusedError("not_the_provider")
        self._providers.add(key, own[0], now)


def _record_key(wire_key: bytes) -> bytes:
    try:
        return parse_record_key(wire_key)
    except InvalidRecordError as error:
        raise RequestRefusedError(error.reason) from error
