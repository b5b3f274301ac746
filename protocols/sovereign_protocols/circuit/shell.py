"""Messages of these protocols on a stream, read without taking a byte of what follows them."""

from typing import Protocol

import trio

from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.messages import MAX_MESSAGE_BYTES

# 4096 needs two bytes of a varint.
_MAX_LENGTH_BYTES = 2


class ByteStream(Protocol):
    """What carries the messages, and afterwards the bytes of a circuit."""

    async def send_all(self, data: bytes) -> None:
        """Send everything."""
        ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return 1..max_bytes bytes, or nothing at the end."""
        ...


async def receive_message(stream: ByteStream, max_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """Read one message, without its length.

    Args:
        stream: where; the caller sets the deadline.
        max_bytes: longest message accepted.

    Raises:
        CircuitMessageError: its length is above the limit.
        trio.BrokenResourceError: the stream ended or broke before its end.
    """
    length = 0
    for index in range(_MAX_LENGTH_BYTES):
        byte = (await _receive_exactly(stream, 1))[0]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        raise CircuitMessageError("length of a message is out of range")
    if length > max_bytes:
        raise CircuitMessageError("length of a message is out of range")
    return await _receive_exactly(stream, length)


async def _receive_exactly(stream: ByteStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise trio.BrokenResourceError("stream ended within a message")
        data += piece
    return bytes(data)
