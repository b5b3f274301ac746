"""The messages of the libp2p DHT: dataclasses, encoding, decoding, framing.

==============  =====  =========================================================
field           no.    content
==============  =====  =========================================================
type            1      varint, ``MessageType``
key             2      bytes, at most 128
record          3      bytes: a ``Record`` (key 1, value 2, timeReceived 5)
closerPeers     8      repeated ``Peer`` (id 1, addrs 2 repeated, connection 3)
providerPeers   9      repeated ``Peer``
clusterLevel    10     varint, ignored
==============  =====  =========================================================

Source: libp2p specs, kad-dht, "RPC messages"; protocols/specs/kad.md.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from sovereign_protocols.kad.errors import KadMessageError
from sovereign_protocols.kad.keys import is_peer_id
from sovereign_protocols.kad.wire import (
    bytes_field,
    decode_varint,
    encode_varint,
    iterate_fields,
    varint_field,
)

# js-libp2p and py-libp2p answer with 20 peers of a few addresses each: under 16 KiB in practice.
MAX_MESSAGE_BYTES = 65536
MAX_KEY_BYTES = 128
MAX_VALUE_BYTES = 4096
MAX_PEERS = 20
MAX_ADDRESSES = 16
MAX_ADDRESS_BYTES = 128
_MAX_TIME_BYTES = 64
# The length prefix of the largest message takes three bytes.
_MAX_PREFIX_BYTES = 3


class MessageType(IntEnum):
    """What a message asks, or which question it answers."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer and where it may be reached.

    Attributes:
        peer_id: 38 bytes, an Ed25519 peer id.
        addresses: multiaddrs in their binary form, at most 16 of at most 128 bytes; hints, never proofs.
    """

    peer_id: bytes
    addresses: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A value under its wire key.

    Attributes:
        key: the wire key (``/sov/...``).
        value: the signed statement.
        time_received: RFC 3339 text set by the node that stored it; informative.
    """

    key: bytes
    value: bytes
    time_received: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or answer."""

    type: MessageType
    key: bytes = b""
    record: Record | None = None
    closer_peers: tuple[Contact, ...] = field(default=())
    provider_peers: tuple[Contact, ...] = field(default=())


def encode_message(message: Message) -> bytes:
    """Encode a message without its length prefix.

    Args:
        message: what to say; the caller keeps to the limits of this module.

    Returns:
        The protobuf form, fields in ascending order.
    """
    parts = [varint_field(1, message.type)]
    if message.key:
        parts.append(bytes_field(2, message.key))
    if message.record is not None:
        parts.append(bytes_field(3, _encode_record(message.record)))
    parts += [bytes_field(8, _encode_contact(contact)) for contact in message.closer_peers]
    parts += [bytes_field(9, _encode_contact(contact)) for contact in message.provider_peers]
    return b"".join(parts)


def encode_frame(message: Message) -> bytes:
    """Encode a message with the varint of its length in front, as it goes on a stream.

    Args:
        message: what to say.
    """
    body = encode_message(message)
    return encode_varint(len(body)) + body


def _encode_record(record: Record) -> bytes:
    parts = [bytes_field(1, record.key), bytes_field(2, record.value)]
    if record.time_received:
        parts.append(bytes_field(5, record.time_received.encode("ascii")))
    return b"".join(parts)


def _encode_contact(contact: Contact) -> bytes:
    return bytes_field(1, contact.peer_id) + b"".join(bytes_field(2, address) for address in contact.addresses)


def decode_message(data: bytes) -> Message:
    """Decode one message without its length prefix.

    Peers beyond the twentieth, addresses beyond the sixteenth, addresses of more than 128 bytes and peers
    whose id is not an Ed25519 id are left out: other implementations may send them in good faith.

    Args:
        data: the protobuf form.

    Raises:
        KadMessageError: malformed, an unknown type, a repeated single field, or a part above its limit.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise KadMessageError("message too large")
    single, peers = _split(data, single=(1, 2, 3), repeated=(8, 9))
    kind = single.get(1, 0)
    if not isinstance(kind, int) or kind not in MessageType.__members__.values():
        raise KadMessageError("unknown message type")
    raw_record = single.get(3)
    return Message(
        type=MessageType(kind),
        key=_bounded(single.get(2, b""), MAX_KEY_BYTES),
        record=None if raw_record is None else _decode_record(_bounded(raw_record, MAX_MESSAGE_BYTES)),
        closer_peers=_decode_contacts(peers[8]),
        provider_peers=_decode_contacts(peers[9]),
    )


def _split(
    data: bytes, single: tuple[int, ...], repeated: tuple[int, ...] = ()
) -> tuple[dict[int, int | bytes], dict[int, list[int | bytes]]]:
    """Sort the fields by number; those of later versions are passed over."""
    once: dict[int, int | bytes] = {}
    many: dict[int, list[int | bytes]] = {number: [] for number in repeated}
    for number, value in iterate_fields(data):
        if number in many:
            many[number].append(value)
        elif number in once:
            raise KadMessageError("single field repeated")
        elif number in single:
            once[number] = value
    return once, many


def _bounded(value: int | bytes, limit_bytes: int) -> bytes:
    if not isinstance(value, bytes):
        raise KadMessageError("number where bytes belong")
    if len(value) > limit_bytes:
        raise KadMessageError("field too large")
    return value


def _decode_record(data: bytes) -> Record:
    single, _ = _split(data, single=(1, 2, 5))
    try:
        time_received = _bounded(single.get(5, b""), _MAX_TIME_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise KadMessageError("time of a record is not ASCII") from error
    return Record(
        key=_bounded(single.get(1, b""), MAX_KEY_BYTES),
        value=_bounded(single.get(2, b""), MAX_MESSAGE_BYTES),
        time_received=time_received,
    )


def _decode_contacts(values: list[int | bytes]) -> tuple[Contact, ...]:
    contacts: dict[bytes, Contact] = {}
    for value in values:
        single, many = _split(_bounded(value, MAX_MESSAGE_BYTES), single=(1,), repeated=(2,))
        peer_id = _bounded(single.get(1, b""), MAX_MESSAGE_BYTES)
        addresses = [_bounded(address, MAX_MESSAGE_BYTES) for address in many[2]]
        if is_peer_id(peer_id) and peer_id not in contacts:
            contacts[peer_id] = Contact(peer_id, usable_addresses(addresses))
        if len(contacts) == MAX_PEERS:
            break
    return tuple(contacts.values())


def usable_addresses(addresses: list[bytes]) -> tuple[bytes, ...]:
    """Keep the addresses that fit our limits.

    Args:
        addresses: binary multiaddrs, any number, any size.

    Returns:
        The first 16 distinct ones of 1 to 128 bytes.
    """
    fitting = dict.fromkeys(address for address in addresses if 0 < len(address) <= MAX_ADDRESS_BYTES)
    return tuple(fitting)[:MAX_ADDRESSES]


class FrameDecoder:
    """Cut a byte stream into messages; holds at most one message of the permitted size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished message are held."""
        return bool(self._buffer)

    def receive_data(self, data: bytes) -> list[Message]:
        """Take bytes from the stream.

        Args:
            data: what arrived.

        Returns:
            The messages that are now complete.

        Raises:
            KadMessageError: a length above the limit (before any of the body is awaited), or a bad message.
        """
        self._buffer += data
        messages = []
        while (frame := self._next_frame()) is not None:
            messages.append(decode_message(frame))
        return messages

    def _next_frame(self) -> bytes | None:
        prefix = bytes(self._buffer[:_MAX_PREFIX_BYTES])
        if all(byte & 0x80 for byte in prefix):
            if len(prefix) == _MAX_PREFIX_BYTES:
                raise KadMessageError("message too large")
            return None
        size, start = decode_varint(prefix, 0)
        if size > MAX_MESSAGE_BYTES:
            raise KadMessageError("message too large")
        if len(self._buffer) < start + size:
            return None
        frame = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return frame
