"""The frozen vectors, made without the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sovereign_crypto.chunks import blob_id, chunk_id
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_protocols.vault.blobs import BlobDecoder
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.head import build_head, open_payload, parse_head
from sovereign_protocols.vault.index import decode_segment, encode_segment
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import parse_snapshot
from sovereign_protocols.vault.tree import decode_node, encode_entry, encode_node

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "protocols/vectors/vault.json").read_text())
KEYS = ProjectKeys(
    bytes.fromhex(VECTORS["keys"]["project"]),
    (bytes.fromhex(VECTORS["keys"]["epoch_key"]),),
    bytes.fromhex(VECTORS["keys"]["dedup_secret"]),
)
SEALER = ProjectSealer(KEYS)
DEVICE = SigningKey.from_seed(bytes.fromhex(VECTORS["device_seed"]))
PARSERS = {"container": Container, "segment": decode_segment, "tree": decode_node}


def data(part: str, name: str) -> bytes:
    return bytes.fromhex(VECTORS[part][name])


def test_container() -> None:
    plain = SEALER.open_chunk(data("container", "chunk_id"), data("container", "sealed"))
    assert plain == data("container", "plain")
    parsed = Container(plain)
    decoder, at = BlobDecoder(KEYS.dedup_key), 0
    for record, blob in zip(parsed.records, VECTORS["container"]["blobs"], strict=True):
        raw = decoder.decode(record, parsed.stored(at, record.stored_bytes), record.type)
        assert (record.type, bytes(raw).hex()) == (blob["type"], blob["raw"])
        at += record.stored_bytes


def test_segment() -> None:
    sealed = data("segment", "sealed")
    assert SEALER.open_segment(chunk_id(sealed), sealed) == data("segment", "plain")
    (chunk,) = decode_segment(data("segment", "plain"))
    assert chunk.chunk_id == data("container", "chunk_id")
    assert chunk.lines == bytes(Container(data("container", "plain")).directory)
    assert encode_segment([chunk]) == data("segment", "plain")


def test_tree() -> None:
    node = data("tree", "node")
    entries = decode_node(node)
    assert [entry.name.decode("ascii", "backslashreplace").replace("\n", "\\n") for entry in entries] == VECTORS[
        "tree"
    ]["names"]
    assert encode_node(map(encode_entry, entries)) == node
    assert blob_id(KEYS.dedup_key, node) == data("tree", "blob_id")


def test_snapshot() -> None:
    snapshot = parse_snapshot(data("snapshot", "raw"), KEYS.project_id)
    assert snapshot.snapshot_id == data("snapshot", "id")
    assert snapshot.content.root.ids == [data("tree", "blob_id")]
    assert snapshot.content.sign(DEVICE).raw == data("snapshot", "raw")


def test_head() -> None:
    head = parse_head(data("head", "raw"))
    assert (head.hash, head.sequence) == (data("head", "hash"), VECTORS["head"]["seq"])
    assert head.locator == KEYS.locator()
    payload = open_payload(SEALER, head)
    assert payload.sweep == VECTORS["head"]["sweep"]
    assert payload.snapshots == (data("snapshot", "raw"),)
    again = build_head(SEALER, DEVICE, head.instance, head.sequence, head.previous_hash, payload)
    assert len(again.raw) == len(head.raw)


@pytest.mark.parametrize("case", VECTORS["reject"], ids=lambda case: f"{case['format']}: {case['why']}")
def test_faulty_bytes_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(ContentError):
        PARSERS[case["format"]](bytes.fromhex(case["bytes"]))
