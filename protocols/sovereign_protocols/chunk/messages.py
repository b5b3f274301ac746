"""The messages of the chunk protocol: frozen dataclasses, each one CBOR array in the header of a frame.

The first item of the array is the message's number, the rest are its fields in the order of the dataclass.
Source: protocols/specs/chunk.md, "Messages".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from sovereign_crypto import cbor
from sovereign_crypto.chunks import padme
from sovereign_crypto.envelope import OVERHEAD_BYTES
from sovereign_crypto.errors import MalformedError
from sovereign_protocols.chunk import limits
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.framing import encode_frame
from sovereign_protocols.ids import ID_BYTES

Check = Callable[[object], bool]
_MAX_INT: Final = 2**63 - 1
_CODES: Final = frozenset(code.value for code in ErrorCode)


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens a session. Without a certificate only `RecoveryGet` and `Ping` are served.

    Args:
        version: of the protocol.
        clock_at: seconds UTC at the sender.
        window_bytes: chunk bytes that the client is ready to hold unread.
        certificate: device certificate, or None.
        log_length: entries of the client's identity log, 0 without a certificate.
        log_hash: hash of its last entry, or None.
    """

    version: int
    clock_at: int
    window_bytes: int
    certificate: bytes | None
    log_length: int
    log_hash: bytes | None


@dataclass(frozen=True, slots=True)
class HelloReply:
    """Accepts a session.

    Args:
        version: of the protocol.
        clock_at: seconds UTC at the server.
        window_bytes: payload bytes that the client may send without an answer.
        log_length: entries that the server knows of the client's identity log; if this is less than what the
            client said, the client sends the rest before anything else.
    """

    version: int
    clock_at: int
    window_bytes: int
    log_length: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the client's identity log, as payload; `remaining` counts those that follow."""

    remaining: int


@dataclass(frozen=True, slots=True)
class LogAccepted:
    """The server has verified and kept the identity log up to this length."""

    log_length: int


@dataclass(frozen=True, slots=True)
class LogGet:
    """Asks for the entries of the caller's own identity log from number `start` on."""

    request_id: int
    start: int


@dataclass(frozen=True, slots=True)
class LogReply:
    """One entry as payload; `remaining` counts those that follow. No payload: there is none."""

    request_id: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a `Done`, and keeps an idle stream open."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Have:
    """Asks which chunks are live."""

    request_id: int
    contract_id: bytes
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HaveReply:
    """One byte per id: 1 live, 0 not."""

    request_id: int
    present: bytes


@dataclass(frozen=True, slots=True)
class List:
    """Asks for ids of live chunks in ascending order behind `after` (None: from the first)."""

    request_id: int
    contract_id: bytes
    after: bytes | None


@dataclass(frozen=True, slots=True)
class ListReply:
    """The next ids; fewer than 1,000 mean that these are the last."""

    request_id: int
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """Stores the payload; answered by `Stored` once durable, or by `Failure`."""

    request_id: int
    contract_id: bytes
    chunk_id: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """These puts survive a power cut; their bytes return to the put window."""

    request_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Get:
    """Asks for chunks; answered by a `Chunk` or `Missing` for each in any order, then `Done`."""

    request_id: int
    contract_id: bytes
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk, as payload; takes its length from the get window."""

    request_id: int
    chunk_id: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """Chunks that are not there for this contract."""

    request_id: int
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client has lost interest in a `Get`; its `Done` comes earlier."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Credit:
    """The client has taken this many chunk bytes; they return to the get window."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The request has been carried out; `count` says on how many chunks, where it is about chunks."""

    request_id: int
    count: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Marks chunks for removal; the payload is a signed statement (see `deletion`)."""

    request_id: int
    contract_id: bytes


@dataclass(frozen=True, slots=True)
class Undelete:
    """Makes marked chunks live again."""

    request_id: int
    contract_id: bytes
    chunk_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HeadSet:
    """Replaces the caller's own head under `locator`, the payload being the new one.

    `previous_hash` is the SHA-256 of the head that is stored now, None if there is none.
    """

    request_id: int
    contract_id: bytes
    locator: bytes
    previous_hash: bytes | None


@dataclass(frozen=True, slots=True)
class HeadGet:
    """Asks for the heads of all devices under `locator`; answered by `Head` for each, then `Done`."""

    request_id: int
    contract_id: bytes
    locator: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A head, as payload, of the device with this public key."""

    request_id: int
    device_pk: bytes


@dataclass(frozen=True, slots=True)
class UsageGet:
    """Asks for the counters of a contract."""

    request_id: int
    contract_id: bytes


@dataclass(frozen=True, slots=True)
class UsageReply:
    """Counters of a contract; see `sovereign_node.chunkstore.Usage` for their meaning."""

    request_id: int
    quota_bytes: int
    chunks: int
    size_bytes: int
    marked_chunks: int
    marked_bytes: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class RecoverySet:
    """Stores the payload as the recovery record of `locator`, if `revision` grows."""

    request_id: int
    contract_id: bytes
    locator: bytes
    revision: int
    announce_key: bytes


@dataclass(frozen=True, slots=True)
class RecoveryGet:
    """Asks for the recovery records under `locator`; answered by `Recovery` for each, then `Done`."""

    request_id: int
    locator: bytes


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery record, as payload."""

    request_id: int
    revision: int
    announce_key: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A request failed (`request_id`), or the whole session ends (None)."""

    request_id: int | None
    code: ErrorCode
    data: Mapping[str, int | bytes]


Message = (
    Hello | HelloReply | LogEntry | LogAccepted | LogGet | LogReply | Ping | Have | HaveReply | List | ListReply
    | Put | Stored | Get | Chunk | Missing | Cancel | Credit | Done | Delete | Undelete | HeadSet | HeadGet | Head
    | UsageGet | UsageReply | RecoverySet | RecoveryGet | Recovery | Failure
)  # fmt: skip


def _number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_INT


def _id(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == ID_BYTES


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _bytes(limit: int) -> Check:
    return lambda value: isinstance(value, bytes) and len(value) <= limit


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= limits.MAX_IDS and all(map(check, value))


def _code(value: object) -> bool:
    return isinstance(value, str) and value in _CODES


def _data(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 8
        and all(isinstance(key, str) and len(key) <= 32 for key in value)
        and all(_number(item) or _bytes(64)(item) for item in value.values())
    )


_NO_PAYLOAD: Final = (0, 0)
_CHUNK: Final = (limits.MIN_CHUNK_BYTES, limits.MAX_CHUNK_BYTES)

# Number, class, a check per field, smallest and largest payload.
_SCHEMA: Final[tuple[tuple[int, type[Any], tuple[Check, ...], tuple[int, int]], ...]] = (
    (0, Hello, (_number, _number, _number, _optional(_bytes(limits.MAX_CERTIFICATE_BYTES)), _number,
                _optional(_id)), _NO_PAYLOAD),
    (1, LogEntry, (_number,), (1, limits.MAX_LOG_ENTRY_BYTES)),
    (2, LogGet, (_number, _number), _NO_PAYLOAD),
    (3, Ping, (_number,), _NO_PAYLOAD),
    (4, Have, (_number, _id, _list(_id)), _NO_PAYLOAD),
    (5, List, (_number, _id, _optional(_id)), _NO_PAYLOAD),
    (6, Put, (_number, _id, _id), _CHUNK),
    (7, Get, (_number, _id, _list(_id)), _NO_PAYLOAD),
    (8, Cancel, (_number,), _NO_PAYLOAD),
    (9, Credit, (_number,), _NO_PAYLOAD),
    (10, Delete, (_number, _id), (1, limits.MAX_STATEMENT_BYTES)),
    (11, Undelete, (_number, _id, _list(_id)), _NO_PAYLOAD),
    (12, HeadSet, (_number, _id, _id, _optional(_id)), (1, limits.MAX_HEAD_BYTES)),
    (13, HeadGet, (_number, _id, _id), _NO_PAYLOAD),
    (14, UsageGet, (_number, _id), _NO_PAYLOAD),
    (15, RecoverySet, (_number, _id, _id, _number, _bytes(limits.MAX_ANNOUNCE_KEY_BYTES)),
     (1, limits.MAX_RECOVERY_BYTES)),
    (16, RecoveryGet, (_number, _id), _NO_PAYLOAD),
    (32, HelloReply, (_number, _number, _number, _number), _NO_PAYLOAD),
    (33, LogAccepted, (_number,), _NO_PAYLOAD),
    (34, LogReply, (_number, _number), (0, limits.MAX_LOG_ENTRY_BYTES)),
    (35, HaveReply, (_number, _bytes(limits.MAX_IDS)), _NO_PAYLOAD),
    (36, ListReply, (_number, _list(_id)), _NO_PAYLOAD),
    (37, Stored, (_list(_number),), _NO_PAYLOAD),
    (38, Chunk, (_number, _id), _CHUNK),
    (39, Missing, (_number, _list(_id)), _NO_PAYLOAD),
    (40, Done, (_number, _number), _NO_PAYLOAD),
    (41, Head, (_number, _id), (1, limits.MAX_HEAD_BYTES)),
    (42, UsageReply, (_number,) * 8, _NO_PAYLOAD),
    (43, Recovery, (_number, _number, _bytes(limits.MAX_ANNOUNCE_KEY_BYTES)), (1, limits.MAX_RECOVERY_BYTES)),
    (44, Failure, (_optional(_number), _code, _data), _NO_PAYLOAD),
)  # fmt: skip

FIRST_SERVER_NUMBER: Final = 32
_BY_NUMBER: Final = {number: (kind, checks, payload) for number, kind, checks, payload in _SCHEMA}
_NUMBER: Final[dict[type[Any], tuple[int, tuple[str, ...]]]] = {
    kind: (number, tuple(field.name for field in fields(kind))) for number, kind, _, _ in _SCHEMA
}
CLIENT_MESSAGES: Final = frozenset(kind for number, kind, _, _ in _SCHEMA if number < FIRST_SERVER_NUMBER)
SERVER_MESSAGES: Final = frozenset(kind for number, kind, _, _ in _SCHEMA if number >= FIRST_SERVER_NUMBER)
MAX_PAYLOAD_BYTES: Final = max(payload[1] for _, _, _, payload in _SCHEMA)


def is_chunk_size(size_bytes: int) -> bool:
    """Tell whether a sealed chunk may have this size: Padmé sizes only, which hide the exact one."""
    if not limits.MIN_CHUNK_BYTES <= size_bytes <= limits.MAX_CHUNK_BYTES:
        return False
    plain_bytes = size_bytes - OVERHEAD_BYTES
    return padme(plain_bytes) == plain_bytes


def encode_message(message: Message, payload_bytes: int = 0) -> bytes:
    """Return the beginning of a frame: all of it but its `payload_bytes` bytes of payload."""
    number, names = _NUMBER[type(message)]
    values = [getattr(message, name) for name in names]
    if isinstance(message, Failure):
        values[1] = message.code.value
    return encode_frame(cbor.encode([number, *values]), payload_bytes)


def decode_message(header: bytes, payload_bytes: int) -> Message:
    """Return the message of a frame's header.

    Args:
        header: the CBOR array.
        payload_bytes: length of the payload that follows.

    Raises:
        RemoteProtocolError: not a message, or one that may not have such a payload.
    """
    try:
        items = cbor.decode(header, max_bytes=limits.MAX_HEADER_BYTES)
    except MalformedError as error:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "not canonical CBOR") from error
    if not isinstance(items, list) or not items or type(items[0]) is not int or items[0] not in _BY_NUMBER:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "no such message")
    kind, checks, (smallest, largest) = _BY_NUMBER[items[0]]
    values = items[1:]
    if len(values) != len(checks) or not all(check(value) for check, value in zip(checks, values, strict=True)):
        raise RemoteProtocolError(ErrorCode.MALFORMED, f"fields of {kind.__name__}")
    if payload_bytes > largest:
        raise RemoteProtocolError(ErrorCode.TOO_LARGE, f"payload of {kind.__name__}")
    if payload_bytes < smallest:
        raise RemoteProtocolError(ErrorCode.SIZE_CLASS, f"payload of {kind.__name__}")
    if kind is Put and not is_chunk_size(payload_bytes):
        raise RemoteProtocolError(ErrorCode.SIZE_CLASS, "a chunk is not padded")
    message: Message = kind(*(tuple(value) if isinstance(value, list) else value for value in values))
    return replace(message, code=ErrorCode(message.code)) if isinstance(message, Failure) else message
