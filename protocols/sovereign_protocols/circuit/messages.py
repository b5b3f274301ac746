"""Messages of circuit relay v2 (hop and stop) and of the upgrade to a direct connection (DCUtR).

All are protobuf messages, sent with their length as a varint before them.

Source: libp2p specs, relay/circuit-v2.md and relay/DCUtR.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.kad.errors import KadMessageError
from sovereign_protocols.kad.wire import bytes_field, encode_varint, iterate_fields, varint_field

HOP_PROTOCOL_ID: Final = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL_ID: Final = "/libp2p/circuit/relay/0.2.0/stop"
DCUTR_PROTOCOL_ID: Final = "/libp2p/dcutr"
# The largest legitimate message is a reservation with 16 addresses and a voucher.
MAX_MESSAGE_BYTES: Final = 4096
MAX_ADDRESSES: Final = 16
MAX_ADDRESS_BYTES: Final = 128
MAX_PEER_ID_BYTES: Final = 64
MAX_VOUCHER_BYTES: Final = 1024


class HopType(IntEnum):
    """What a hop message is."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    """What a stop message is."""

    CONNECT = 0
    STATUS = 1


class PunchType(IntEnum):
    """What a message of the hole punch is."""

    CONNECT = 100
    SYNC = 300


class Status(IntEnum):
    """How a request ended."""

    UNUSED = 0
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class Limit:
    """What a relay allows one circuit.

    Attributes:
        duration_s: seconds until it is cut; 0 for no limit.
        data_bytes: bytes in each direction until it is cut; 0 for no limit.
    """

    duration_s: int = 0
    data_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A relay's promise.

    Attributes:
        expires_at: Unix seconds UTC.
        addresses: binary multiaddrs of the relay, at most 16.
        voucher: signed by the relay; advisory, neither made nor checked by us.
    """

    expires_at: int
    addresses: tuple[bytes, ...] = ()
    voucher: bytes = b""


@dataclass(frozen=True, slots=True)
class HopMessage:
    """Between a peer and a relay.

    Attributes:
        type: what it is.
        peer: bytes of the id of the peer to connect to, empty for none.
        reservation: in the answer to RESERVE.
        limit: what the relay allows.
        status: in an answer.
    """

    type: HopType
    peer: bytes = b""
    reservation: Reservation | None = None
    limit: Limit | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class StopMessage:
    """Between a relay and the destination of a circuit.

    Attributes:
        type: what it is.
        peer: bytes of the id of the peer that wants the circuit, empty for none.
        limit: what the relay allows.
        status: in an answer.
    """

    type: StopType
    peer: bytes = b""
    limit: Limit | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class PunchMessage:
    """Between two peers that want a direct connection.

    Attributes:
        type: what it is.
        addresses: binary multiaddrs at which the sender may be reached or was seen, at most 16.
    """

    type: PunchType
    addresses: tuple[bytes, ...] = ()


Enumeration = TypeVar("Enumeration", bound=IntEnum)
_Value = int | bytes
_Fields = dict[int, list[_Value]]


def encode_frame(message: bytes) -> bytes:
    """Put the length before an encoded message."""
    return encode_varint(len(message)) + message


def encode_hop(message: HopMessage) -> bytes:
    """Encode a hop message, without its length."""
    out = varint_field(1, message.type)
    if message.peer:
        out += bytes_field(2, _encode_peer(message.peer))
    if message.reservation is not None:
        out += bytes_field(3, _encode_reservation(message.reservation))
    if message.limit is not None:
        out += bytes_field(4, _encode_limit(message.limit))
    if message.status is not None:
        out += varint_field(5, message.status)
    return out


def decode_hop(data: bytes) -> HopMessage:
    """Decode a hop message.

    Raises:
        CircuitMessageError: not one.
    """
    fields = _read(data)
    reservation = _bytes(fields, 3)
    limit = _bytes(fields, 4)
    return HopMessage(
        type=_enum(HopType, _int(fields, 1)),
        peer=_decode_peer(_bytes(fields, 2)),
        reservation=None if reservation is None else _decode_reservation(reservation),
        limit=None if limit is None else _decode_limit(limit),
        status=_status(_int(fields, 5)),
    )


def encode_stop(message: StopMessage) -> bytes:
    """Encode a stop message, without its length."""
    out = varint_field(1, message.type)
    if message.peer:
        out += bytes_field(2, _encode_peer(message.peer))
    if message.limit is not None:
        out += bytes_field(3, _encode_limit(message.limit))
    if message.status is not None:
        out += varint_field(4, message.status)
    return out


def decode_stop(data: bytes) -> StopMessage:
    """Decode a stop message.

    Raises:
        CircuitMessageError: not one.
    """
    fields = _read(data)
    limit = _bytes(fields, 3)
    return StopMessage(
        type=_enum(StopType, _int(fields, 1)),
        peer=_decode_peer(_bytes(fields, 2)),
        limit=None if limit is None else _decode_limit(limit),
        status=_status(_int(fields, 4)),
    )


def encode_punch(message: PunchMessage) -> bytes:
    """Encode a message of the hole punch, without its length."""
    return varint_field(1, message.type) + b"".join(
        bytes_field(2, address) for address in message.addresses[:MAX_ADDRESSES]
    )


def decode_punch(data: bytes) -> PunchMessage:
    """Decode a message of the hole punch.

    Raises:
        CircuitMessageError: not one.
    """
    fields = _read(data)
    return PunchMessage(_enum(PunchType, _int(fields, 1)), _addresses(fields, 2))


def _encode_peer(peer: bytes) -> bytes:
    return bytes_field(1, peer)


def _decode_peer(data: bytes | None) -> bytes:
    peer = b"" if data is None else _bytes(_read(data), 1) or b""
    if len(peer) > MAX_PEER_ID_BYTES:
        raise CircuitMessageError("peer id is too long")
    return peer


def _encode_reservation(reservation: Reservation) -> bytes:
    out = varint_field(1, reservation.expires_at)
    out += b"".join(bytes_field(2, address) for address in reservation.addresses[:MAX_ADDRESSES])
    return out + (bytes_field(3, reservation.voucher) if reservation.voucher else b"")


def _decode_reservation(data: bytes) -> Reservation:
    fields = _read(data)
    expires_at = _int(fields, 1)
    voucher = _bytes(fields, 3) or b""
    if expires_at is None or len(voucher) > MAX_VOUCHER_BYTES:
        raise CircuitMessageError("reservation without an end, or with too long a voucher")
    return Reservation(expires_at, _addresses(fields, 2), voucher)


def _encode_limit(limit: Limit) -> bytes:
    # A limit of 0 stops every byte at some implementations: what is not limited is left out.
    out = varint_field(1, limit.duration_s) if limit.duration_s else b""
    return out + (varint_field(2, limit.data_bytes) if limit.data_bytes else b"")


def _decode_limit(data: bytes) -> Limit:
    fields = _read(data)
    return Limit(_int(fields, 1) or 0, _int(fields, 2) or 0)


def _read(data: bytes) -> _Fields:
    fields: _Fields = {}
    try:
        for number, value in iterate_fields(data):
            fields.setdefault(number, []).append(value)
    except KadMessageError as error:
        raise CircuitMessageError(error.detail) from error
    return fields


def _last(fields: _Fields, number: int, kind: Callable[[_Value], bool]) -> _Value | None:
    """Return the last value of a field, as protobuf reads one that is there more than once."""
    values = fields.get(number)
    if not values:
        return None
    if not all(map(kind, values)):
        raise CircuitMessageError("field of another type")
    return values[-1]


def _int(fields: _Fields, number: int) -> int | None:
    value = _last(fields, number, lambda item: isinstance(item, int))
    return None if value is None else int(value)


def _bytes(fields: _Fields, number: int) -> bytes | None:
    value = _last(fields, number, lambda item: isinstance(item, bytes))
    return value if isinstance(value, bytes) else None


def _addresses(fields: _Fields, number: int) -> tuple[bytes, ...]:
    """Return the addresses that may be used; a peer's odd ones do not make its message wrong."""
    return usable_addresses(value for value in fields.get(number, ()) if isinstance(value, bytes))


def usable_addresses(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the first 16 addresses of at most 128 bytes, without repetitions."""
    unique = dict.fromkeys(item for item in addresses if 0 < len(item) <= MAX_ADDRESS_BYTES)
    return tuple(unique)[:MAX_ADDRESSES]


def _enum(kind: type[Enumeration], value: int | None) -> Enumeration:
    try:
        # Some implementations leave out a 0.
        return kind(value or 0)
    except ValueError as error:
        raise CircuitMessageError(f"no such {kind.__name__}") from error


def _status(value: int | None) -> Status | None:
    if value is None:
        return None
    try:
        return Status(value)
    except ValueError:
        # A later version may have more of them; whatever it means, it is not OK.
        return Status.UNUSED
