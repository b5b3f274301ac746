"""Heads: the signed pointer of one writer to its newest snapshots and index segments.

Outside, for providers: locator, writer instance, sequence, hash of the previous head. Inside, sealed: snapshots,
catalogs of older ones, index segments, and which other heads this one replaces.

Source: protocols/specs/head.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sovereign_crypto import cbor
from sovereign_crypto.chunks import padme
from sovereign_crypto.errors import MalformedError
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    StatementType,
    parse_statement,
    sign_statement,
)
from sovereign_protocols.vault.blobs import BLOB_ID_BYTES
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import SeenHead

VERSION = 1
MAX_HEAD_BYTES = 64 * 1024
# 62 KiB is a Padmé size; with envelope and statement it stays below 64 KiB.
MAX_PAYLOAD_BYTES = 62 * 1024
INSTANCE_BYTES = 8
NO_PREVIOUS = bytes(32)
MAX_SEQUENCE = 2**63 - 1
MAX_INLINE_SNAPSHOTS = 64
MAX_CATALOGS = 512
MAX_SEGMENTS = 1400
MAX_ABSORBED = 64
_MIN_PAYLOAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Head:
    """What a provider sees of a head; it stores the statement only if the sequence grows (compare-and-swap).

    Args:
        locator: 32 bytes, pseudonym of the project.
        device: 32 bytes, public key of the writer (the statement's signer).
        instance: 8 bytes, drawn anew whenever a writer can't be sure of its last sequence.
        sequence: from 1, strictly growing per device and instance.
        previous_hash: SHA-256 of the head before, or zeros.
        sealed: the payload.
        raw: the statement.
        hash: 32 bytes, SHA-256 of ``raw``.
    """

    locator: bytes
    device: bytes
    instance: bytes
    sequence: int
    previous_hash: bytes
    sealed: bytes
    raw: bytes = field(repr=False)
    hash: bytes = field(repr=False)

    @property
    def slot(self) -> tuple[bytes, bytes]:
        """Device and instance: the chain that this head belongs to."""
        return self.device, self.instance


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A stored index segment.

    Args:
        segment_id: 32 bytes, its chunk id.
        sealed_bytes: its length.
        blobs: number of lines in it.
    """

    segment_id: bytes
    sealed_bytes: int
    blobs: int


@dataclass(frozen=True, slots=True)
class CatalogRef:
    """A stored catalog of older snapshots.

    Args:
        blob_id: 32 bytes, id of the catalog blob.
        snapshots: number of snapshots in it.
    """

    blob_id: bytes
    snapshots: int


@dataclass(frozen=True, slots=True)
class HeadPayload:
    """What only members see of a head.

    Args:
        created_at: seconds UTC.
        snapshots: newest snapshots, raw statements, oldest first.
        catalogs: older snapshots.
        segments: index segments whose chunks this writer vouches for.
        absorbed: other chains up to the head whose content this head has taken over.
        sweep: number of garbage collections by this writer; a change tells others to read the index anew.
    """

    created_at: int
    snapshots: tuple[bytes, ...] = ()
    catalogs: tuple[CatalogRef, ...] = ()
    segments: tuple[SegmentRef, ...] = ()
    absorbed: tuple[SeenHead, ...] = ()
    sweep: int = 0


def build_head(
    sealer: ProjectSealer,
    key: SigningKey,
    instance: bytes,
    sequence: int,
    previous_hash: bytes,
    payload: HeadPayload,
    network_id: bytes = NETWORK_ID_MAIN,
) -> Head:
    """Seal and sign a head.

    Raises:
        ContentError: the payload is larger than a head may be.
    """
    plaintext = _encode_payload(payload)
    context = _context(key.public, instance, sequence, previous_hash)
    sealed = sealer.seal_head(context, plaintext)
    body = {
        "v": VERSION,
        "locator": sealer.locator,
        "instance": instance,
        "seq": sequence,
        "prev": previous_hash,
        "payload": sealed,
    }
    statement = sign_statement(StatementType.HEAD, body, key, network_id, max_bytes=MAX_HEAD_BYTES)
    return Head(
        sealer.locator, key.public, instance, sequence, previous_hash, sealed, statement.raw, statement.hash
    )


def parse_head(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> Head:
    """Verify a head as a provider does: signature and outer fields.

    Raises:
        FormatError: not a head.
        SignatureError: the signature does not hold.
    """
    statement = parse_statement(raw, expected=StatementType.HEAD, network_id=network_id, max_bytes=MAX_HEAD_BYTES)
    body = statement.body
    match body:
        case {
            "v": 1,
            "locator": bytes(locator),
            "instance": bytes(instance),
            "seq": int(sequence),
            "prev": bytes(previous_hash),
            "payload": bytes(sealed),
        } if len(body) == 6 and body["v"] is not True and sequence is not True:
            pass
        case _:
            raise ContentError("not a head of this version")
    if (len(locator), len(instance), len(previous_hash)) != (32, INSTANCE_BYTES, 32):
        raise ContentError("a field of the head has a wrong length")
    if not 1 <= sequence <= MAX_SEQUENCE or (sequence == 1) != (previous_hash == NO_PREVIOUS):
        raise ContentError("sequence and previous hash of the head do not fit")
    return Head(locator, statement.signer, instance, sequence, previous_hash, sealed, statement.raw, statement.hash)


def open_payload(sealer: ProjectSealer, head: Head) -> HeadPayload:
    """Open the sealed part of a head.

    Raises:
        FormatError, AuthenticationError: sealed for another project, writer or sequence, or altered.
    """
    context = _context(head.device, head.instance, head.sequence, head.previous_hash)
    return _decode_payload(sealer.open_head(context, head.sealed))


def payload_bytes(payload: HeadPayload) -> int:
    """Length of a payload before padding; compare with ``MAX_PAYLOAD_BYTES``."""
    return len(_encode_body(payload)) + 4


def _context(device: bytes, instance: bytes, sequence: int, previous_hash: bytes) -> bytes:
    return device + instance + sequence.to_bytes(8, "big") + previous_hash


def _encode_body(payload: HeadPayload) -> bytes:
    return cbor.encode(
        {
            "v": VERSION,
            "time": payload.created_at,
            "snapshots": list(payload.snapshots),
            "catalogs": [[item.blob_id, item.snapshots] for item in payload.catalogs],
            "segments": [[item.segment_id, item.sealed_bytes, item.blobs] for item in payload.segments],
            "absorbed": [item.to_list() for item in payload.absorbed],
            "sweep": payload.sweep,
        }
    )


def _encode_payload(payload: HeadPayload) -> bytes:
    body = _encode_body(payload)
    used_bytes = len(body) + 4
    if used_bytes > MAX_PAYLOAD_BYTES:
        raise ContentError("too much for one head")
    return len(body).to_bytes(4, "big") + body + bytes(padme(max(used_bytes, _MIN_PAYLOAD_BYTES)) - used_bytes)


def _decode_payload(plaintext: bytes) -> HeadPayload:
    end = 4 + int.from_bytes(plaintext[:4], "big")
    padded = padme(max(end, _MIN_PAYLOAD_BYTES))
    if end > MAX_PAYLOAD_BYTES or len(plaintext) != padded or any(plaintext[end:]):
        raise ContentError("padding of the head is wrong")
    try:
        body = cbor.decode(plaintext[4:end])
    except MalformedError as error:
        raise ContentError("payload of the head is malformed") from error
    match body:
        case {
            "v": 1,
            "time": int(created_at),
            "snapshots": list(snapshots),
            "catalogs": list(catalogs),
            "segments": list(segments),
            "absorbed": list(absorbed),
            "sweep": int(sweep),
        } if len(body) == 7 and created_at >= 0 and sweep >= 0:
            pass
        case _:
            raise ContentError("not a payload of this version")
    if len(snapshots) > MAX_INLINE_SNAPSHOTS or len(catalogs) > MAX_CATALOGS or len(segments) > MAX_SEGMENTS:
        raise ContentError("a list of the head is too long")
    if len(absorbed) > MAX_ABSORBED or not all(isinstance(raw, bytes) for raw in snapshots):
        raise ContentError("a list of the head is wrong")
    return HeadPayload(
        created_at,
        tuple(snapshots),
        tuple(_catalog_ref(item) for item in catalogs),
        tuple(_segment_ref(item) for item in segments),
        tuple(SeenHead.from_value(item) for item in absorbed),
        sweep,
    )


def _segment_ref(value: Any) -> SegmentRef:
    match value:
        case [bytes(segment_id), int(sealed_bytes), int(blobs)] if len(segment_id) == BLOB_ID_BYTES:
            if sealed_bytes > 0 and blobs > 0:
                return SegmentRef(segment_id, sealed_bytes, blobs)
    raise ContentError("not a reference to an index segment")


def _catalog_ref(value: Any) -> CatalogRef:
    match value:
        case [bytes(blob_id), int(snapshots)] if len(blob_id) == BLOB_ID_BYTES and snapshots > 0:
            return CatalogRef(blob_id, snapshots)
    raise ContentError("not a reference to a catalog")
