"""Writing a head: index segments in a log-structured list, snapshots inline and in catalogs, compare-and-swap."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.files import replace_file
from sovereign_node.vault.heads import HeadsView, OpenHead
from sovereign_node.vault.index import LocalIndex
from sovereign_protocols.vault.head import INSTANCE_BYTES, MAX_ABSORBED, NO_PREVIOUS, HeadPayload, SegmentRef
from sovereign_protocols.vault.index import ChunkLines, group_bytes

# Segments of about one size that are kept side by side; one more, and they become one. Every line is written again
# at most once per factor of eight in size.
_FAN_IN = 8
_FULL_SEGMENT_BYTES = 2 * 1024 * 1024
INLINE_SNAPSHOTS = 16
CATALOG_FAN_IN = 8


@dataclass(frozen=True)
class Writer:
    """This device as a writer of heads.

    Args:
        instance: 8 bytes.
        sequence: of its newest head; 0 for none.
        head_hash: of its newest head.
        payload: what its heads list, those of earlier instances included; empty where another head has taken over.
    """

    instance: bytes
    sequence: int
    head_hash: bytes
    payload: HeadPayload


def load_writer(path: Path, device: bytes, view: HeadsView) -> Writer:
    """Find out which chain this device continues.

    A lost or foreign file means a new instance: a sequence number is never used twice, even if the device's disk
    was set back to an older state. If the targets show a newer head of this instance, that one is continued.

    Args:
        path: small file with the instance.
        device: 32 bytes, public key of this device.
        view: heads of all targets.
    """
    instance = _read_instance(path, device)
    if instance is None:
        instance = os.urandom(INSTANCE_BYTES)
        replace_file(path, cbor.encode({"v": 1, "device": device, "instance": instance}))
    newest: OpenHead | None = view.newest.get((device, instance))
    own = [item for item in view.effective if item.head.device == device]
    payload = take_over(HeadPayload(0), own, instance)
    if newest is None:
        return Writer(instance, 0, NO_PREVIOUS, payload)
    payload = replace(payload, sweep=max(payload.sweep, newest.payload.sweep))
    return Writer(instance, newest.head.sequence, newest.head.hash, payload)


def take_over(payload: HeadPayload, heads: list[OpenHead], instance: bytes) -> HeadPayload:
    """Add to a payload what other heads list, and name those of other chains as absorbed.

    Args:
        payload: what the next head would say.
        heads: heads to take over, oldest first.
        instance: of the chain that goes on; its own head needs no mention.
    """
    for item in heads:
        other = item.payload
        absorbed = dict.fromkeys((*payload.absorbed, *other.absorbed))
        if item.head.instance != instance:
            absorbed[item.seen] = None
        payload = HeadPayload(
            max(payload.created_at, other.created_at),
            tuple(dict.fromkeys((*payload.snapshots, *other.snapshots))),
            tuple(dict.fromkeys((*payload.catalogs, *other.catalogs))),
            tuple(dict.fromkeys((*payload.segments, *other.segments))),
            tuple(absorbed)[-MAX_ABSORBED:],
            max(payload.sweep, other.sweep),
        )
    return payload


def _read_instance(path: Path, device: bytes) -> bytes | None:
    try:
        body = cbor.decode(path.read_bytes())
    except (FileNotFoundError, CryptoError):
        return None
    match body:
        case {"v": 1, "device": bytes(owner), "instance": bytes(instance)} if owner == device:
            return instance if len(instance) == INSTANCE_BYTES else None
    return None


def plan_segments(
    existing: tuple[SegmentRef, ...], new: list[ChunkLines], index: LocalIndex
) -> tuple[list[SegmentRef], list[ChunkLines]]:
    """Decide which segments stay and which chunks the new segments must list.

    Returns:
        Segments that stay, and the chunks to write, old ones of merged segments included.
    """
    if not new:
        return list(existing), []
    new_bytes = sum(group_bytes(chunk) for chunk in new)
    staying = list(existing)
    merged: list[SegmentRef] = []
    while True:
        level = _level(new_bytes + sum(ref.sealed_bytes for ref in merged))
        same = [ref for ref in staying if _level(ref.sealed_bytes) <= level]
        if len(same) < _FAN_IN or level >= _level(_FULL_SEGMENT_BYTES):
            break
        merged += same
        staying = [ref for ref in staying if ref not in same]
    chunks = index.segment_chunks([ref.segment_id for ref in merged]) + new
    return staying, chunks


def _level(size_bytes: int) -> int:
    # Powers of eight, from the smallest segment of 4 KiB up.
    return max(0, (size_bytes // 4096).bit_length() - 1) // 3
