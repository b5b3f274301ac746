"""Multistream-select on a stream: agreeing on the protocol that both sides will speak.

The opener writes the multistream header and its protocol in one message, which costs one round trip instead of
the two that libp2p 0.8.1 takes, and the acceptor answers everything it has got in one write. The acceptor works
on bytes: libp2p's own decodes them as UTF-8 without catching the error, so that six bytes from any peer stop a
stock node (a regression test shows it).

Source: https://github.com/multiformats/multistream-select
"""

from collections.abc import Container, Iterable
from typing import Protocol

from sovereign_node.net.errors import NegotiationError, ProtocolNotSupportedError
from sovereign_node.net.streams import receive_exactly


class Negotiable(Protocol):
    """A byte stream with a peer at its other end; streams, pipes and sessions are."""

    peer_id: str
    protocol_id: str

    async def send_all(self, data: bytes) -> None:
        """Send everything."""
        ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return 1..max_bytes bytes, or nothing at the end."""
        ...


_HEADER = b"/multistream/1.0.0"
_NOT_AVAILABLE = b"na"
_LIST = b"ls"
# Protocol names are far shorter; libp2p implementations refuse above 1024 as well.
_MAX_MESSAGE_BYTES = 1024
# A peer that asks for one unknown protocol after another is not negotiating.
_MAX_PROPOSALS = 16


def encode_message(text: bytes) -> bytes:
    """Frame one multistream message: varint length of the text and a newline, text, newline."""
    length = len(text) + 1
    prefix = bytearray()
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + text + b"\n"


async def _receive_message(stream: Negotiable) -> bytes:
    """Read one message without taking a byte of what follows it."""
    length = shift = 0
    while True:
        byte = (await receive_exactly(stream, 1))[0]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 14:
            raise NegotiationError("length of a message is out of range")
    if not 1 <= length <= _MAX_MESSAGE_BYTES:
        raise NegotiationError("length of a message is out of range")
    text = await receive_exactly(stream, length)
    if text[-1:] != b"\n":
        raise NegotiationError("message does not end in a newline")
    return text[:-1]


async def propose(stream: Negotiable, protocol_id: str) -> None:
    """Ask the acceptor of a new stream to speak `protocol_id`.

    Raises:
        ProtocolNotSupportedError: it does not.
        NegotiationError: it answered with something else.
        trio.BrokenResourceError: the stream or its connection was lost.
    """
    wanted = protocol_id.encode("ascii")
    await stream.send_all(encode_message(_HEADER) + encode_message(wanted))
    if await _receive_message(stream) != _HEADER:
        raise NegotiationError("the peer does not speak multistream-select 1.0.0")
    answer = await _receive_message(stream)
    if answer == _NOT_AVAILABLE:
        raise ProtocolNotSupportedError(stream.peer_id, protocol_id)
    if answer != wanted:
        raise NegotiationError("the peer agreed to a protocol that was not proposed")
    stream.protocol_id = protocol_id


async def accept(stream: Negotiable, supported: Container[str], listed: Iterable[str]) -> str:
    """Answer the opener of a stream until it proposes a protocol of ours.

    Args:
        stream: a stream that the peer opened.
        supported: protocol ids that we speak.
        listed: what to answer when the peer asks for a list.

    Returns:
        The protocol id agreed on, also set on the stream.

    Raises:
        NegotiationError: the peer broke the rules, or proposed too many unknown protocols.
        trio.BrokenResourceError: the stream or its connection was lost.
    """
    if await _receive_message(stream) != _HEADER:
        raise NegotiationError("the peer does not speak multistream-select 1.0.0")
    await stream.send_all(encode_message(_HEADER))
    for _ in range(_MAX_PROPOSALS):
        proposal = await _receive_message(stream)
        if proposal == _LIST:
            names = b"".join(encode_message(name.encode("ascii")) for name in listed)
            await stream.send_all(encode_message(names))
            continue
        name = proposal.decode("ascii", "replace")
        if name in supported:
            await stream.send_all(encode_message(proposal))
            stream.protocol_id = name
            return name
        await stream.send_all(encode_message(_NOT_AVAILABLE))
    raise NegotiationError("the peer proposes one unknown protocol after another")
