"""The few parts of the protobuf encoding that DHT messages use, strict and bounded.

Only varints and length-delimited fields occur in a DHT message; fixed-width fields are skipped for the
sake of later versions, groups are refused.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

from sovereign_protocols.kad.errors import KadMessageError

MAX_VARINT_BYTES = 10
_VARINT = 0
_FIXED64 = 1
_DELIMITED = 2
_FIXED32 = 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def encode_varint(value: int) -> bytes:
    """Encode an unsigned integer.

    Args:
        value: 0 to 2**64 - 1.

    Returns:
        1 to 10 bytes, least significant group first.
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Decode an unsigned integer.

    Args:
        data: the bytes that hold it.
        offset: where it begins.

    Returns:
        The value and the offset behind it.

    Raises:
        KadMessageError: cut short, or longer than 64 bits.
    """
    value = 0
    for index in range(MAX_VARINT_BYTES):
        position = offset + index
        if position >= len(data):
            raise KadMessageError("varint cut short")
        byte = data[position]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + 1
    raise KadMessageError("varint longer than 64 bits")


def varint_field(number: int, value: int) -> bytes:
    """Encode a varint field.

    Args:
        number: the field number.
        value: 0 to 2**64 - 1.
    """
    return encode_varint(number << 3 | _VARINT) + encode_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode a length-delimited field.

    Args:
        number: the field number.
        value: its bytes.
    """
    return encode_varint(number << 3 | _DELIMITED) + encode_varint(len(value)) + value


def iterate_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Go through the fields of one message.

    Args:
        data: a whole message.

    Yields:
        Field number and value: ``int`` for a varint, ``bytes`` for a length-delimited field. Fields of
        fixed width are passed over: no version of a DHT message has one.

    Raises:
        KadMessageError: cut short, a field number of 0, or a group.
    """
    offset = 0
    while offset < len(data):
        tag, offset = decode_varint(data, offset)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise KadMessageError("field number 0")
        if kind == _VARINT:
            value, offset = decode_varint(data, offset)
            yield number, value
            continue
        if kind == _DELIMITED:
            size, offset = decode_varint(data, offset)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise KadMessageError("wire type not used by this protocol")
        if size > len(data) - offset:
            raise KadMessageError("field longer than its message")
        if kind == _DELIMITED:
            yield number, data[offset : offset + size]
        offset += size
