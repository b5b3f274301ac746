"""Dial-back: asking a peer to connect to us anew, to learn whether others can.

The asked peer dials the address from which it sees us, nothing else, so that nobody can be made to knock at a third
party's door; each knock hands over a token that only we and the asked peer know.

Source: protocols/specs/reachability.md.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

from sovereign_crypto import cbor
from sovereign_crypto.errors import FormatError
from sovereign_crypto.schema import byte_string, check_schema, integer, list_of, text
from sovereign_protocols.circuit.errors import CircuitMessageError

PROTOCOL_ID: Final = "/sovereign/reach/1.0.0"
# Spoken inside Noise in the place of a muxer, so that a knock never becomes a connection.
KNOCK_PROTOCOL_ID: Final = "/sovereign/knock/1.0.0"
TOKEN_BYTES: Final = 16
MAX_PORTS: Final = 4
MAX_IP_CHARACTERS: Final = 45
MAX_MESSAGE_BYTES: Final = 512

_REQUEST: Final = {
    "ports": list_of(integer(1, 65535), MAX_PORTS),
    "tokens": list_of(byte_string(TOKEN_BYTES), MAX_PORTS),
}
_ANSWER: Final = {
    "ip": text(MAX_IP_CHARACTERS),
    "port": integer(0, 65535),
    "reached": list_of(lambda value: isinstance(value, bool), MAX_PORTS),
}


@dataclass(frozen=True, slots=True)
class ReachRequest:
    """Ports to try at the address from which the request comes.

    Attributes:
        ports: TCP ports, at most 4.
        tokens: one of 16 bytes for each port.
    """

    ports: tuple[int, ...]
    tokens: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReachAnswer:
    """What the asked peer saw.

    Attributes:
        ip: address from which it sees us.
        port: port from which it sees us.
        reached: for each port whether somebody took the token there; empty if nothing was tried.
    """

    ip: str
    port: int
    reached: tuple[bool, ...]


def encode_request(message: ReachRequest) -> bytes:
    """Encode a request."""
    return cbor.encode({"ports": list(message.ports), "tokens": list(message.tokens)})


def decode_request(data: bytes) -> ReachRequest:
    """Decode a request.

    Raises:
        CircuitMessageError: not one.
    """
    try:
        body = check_schema(cbor.decode(data, max_bytes=MAX_MESSAGE_BYTES), _REQUEST)
    except FormatError as error:
        raise CircuitMessageError(str(error)) from error
    ports, tokens = tuple(body["ports"]), tuple(body["tokens"])
    if len(ports) != len(tokens) or len(set(ports)) != len(ports):
        raise CircuitMessageError("every port needs one token")
    return ReachRequest(ports, tokens)


def encode_answer(message: ReachAnswer) -> bytes:
    """Encode an answer."""
    return cbor.encode({"ip": message.ip, "port": message.port, "reached": list(message.reached)})


def decode_answer(data: bytes) -> ReachAnswer:
    """Decode an answer.

    Raises:
        CircuitMessageError: not one.
    """
    try:
        body = check_schema(cbor.decode(data, max_bytes=MAX_MESSAGE_BYTES), _ANSWER)
        ip = str(ipaddress.ip_address(body["ip"]))
    except (FormatError, ValueError) as error:
        raise CircuitMessageError(str(error)) from error
    return ReachAnswer(ip, body["port"], tuple(body["reached"]))
