"""Stored formats: round trips, and every flipped bit or lost byte gives one of the documented errors."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.chunks import blob_id, padme
from sovereign_crypto.errors import AuthenticationError, CryptoError, FormatError, IdMismatchError, SignatureError
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import StatementType, sign_statement
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault import container as containers
from sovereign_protocols.vault import tree
from sovereign_protocols.vault.blobs import BlobDecoder, BlobEncoder, BlobRecord, BlobType, Codec
from sovereign_protocols.vault.container import Container, encode_container
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.head import (
    NO_PREVIOUS,
    CatalogRef,
    HeadPayload,
    SegmentRef,
    build_head,
    open_payload,
    parse_head,
    payload_bytes,
)
from sovereign_protocols.vault.index import ChunkLines, decode_segment, encode_segment, split_for_segments
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import (
    SeenHead,
    Snapshot,
    decode_catalog,
    encode_catalog,
    parse_snapshot,
)
from sovereign_protocols.vault.tree import Content, Entry, Flag, Kind

DEDUP = bytes(range(32))
KEYS = ProjectKeys(b"p" * 32, (b"0" * 32,), b"d" * 32)
SEALER = ProjectSealer(KEYS)
DEVICE = SigningKey.from_seed(b"s" * 32)


def blob(raw: bytes, kind: BlobType = BlobType.DATA, level: int = 1) -> tuple[BlobRecord, bytes]:
    codec, stored = BlobEncoder(level).encode(raw)
    return BlobRecord(blob_id(DEDUP, raw), kind, codec, len(stored), len(raw)), bytes(stored)


# Blobs


@given(st.binary(max_size=3000), st.integers(0, 3))
def test_blobs_come_back(raw: bytes, level: int) -> None:
    record, stored = blob(raw, level=level)
    assert bytes(BlobDecoder(DEDUP).decode(record, stored, BlobType.DATA)) == raw


def test_large_text_is_compressed_and_noise_is_not() -> None:
    assert blob(b"word " * 100_000)[0].codec is Codec.ZSTD
    noise = b"".join(blob_id(DEDUP, n.to_bytes(4, "big")) for n in range(4000))
    assert blob(noise)[0].codec is Codec.RAW
    assert blob(noise[:1000])[0].codec is Codec.RAW


@given(st.lists(st.binary(max_size=200).map(lambda seed: seed * 9), max_size=6), st.integers(0, 2))
def test_many_blobs_are_encoded_as_each_alone(raws: list[bytes], level: int) -> None:
    raws += [b"word " * 30_000, os.urandom(70_000), b"x" * 63]
    assert BlobEncoder(level).encode_many(raws) == [BlobEncoder(level).encode(raw) for raw in raws]


def test_a_blob_of_another_type_or_content_is_refused() -> None:
    record, stored = blob(b"x" * 1000)
    decoder = BlobDecoder(DEDUP)
    with pytest.raises(ContentError, match="type DATA, wanted TREE"):
        decoder.decode(record, stored, BlobType.TREE)
    other = BlobRecord(bytes(32), record.type, record.codec, record.stored_bytes, record.raw_bytes)
    with pytest.raises(ContentError, match="hash"):
        decoder.decode(other, stored, BlobType.DATA)
    with pytest.raises(ContentError, match="length"):
        decoder.decode(BlobRecord(record.blob_id, record.type, Codec.RAW, 5, 1000), b"12345", BlobType.DATA)


@pytest.mark.parametrize("change", ["bomb", "truncated", "trailing", "two frames", "unknown size", "garbage"])
def test_a_hostile_frame_is_refused_with_bounded_memory(change: str) -> None:
    raw = b"a" * 100_000
    frame = zstandard.ZstdCompressor().compress(raw)
    claimed = len(raw)
    match change:
        case "bomb":
            frame = zstandard.ZstdCompressor().compress(bytes(64 * 1024 * 1024))
        case "truncated":
            frame = frame[:-3]
        case "trailing":
            frame += b"more"
        case "two frames":
            frame += frame
        case "unknown size":
            frame = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
        case _:
            frame = b"\0" * 30
    record = BlobRecord(blob_id(DEDUP, raw), BlobType.DATA, Codec.ZSTD, len(frame), claimed)
    with pytest.raises(ContentError):
        BlobDecoder(DEDUP).decode(record, frame, BlobType.DATA)


# Containers


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=12))
def test_containers_come_back_and_have_padded_sizes(raws: list[bytes]) -> None:
    plain = encode_container([blob(raw) for raw in raws])
    assert len(plain) >= containers.MIN_PLAINTEXT_BYTES
    assert padme(len(plain)) == len(plain)
    parsed = Container(plain)
    decoder, at, found = BlobDecoder(DEDUP), 0, []
    for record in parsed.records:
        found.append(bytes(decoder.decode(record, parsed.stored(at, record.stored_bytes), BlobType.DATA)))
        at += record.stored_bytes
    assert found == raws


PLAIN = encode_container([blob(b"one" * 100), blob(b"two"), blob(b"tree", BlobType.TREE)])


def contents(plain: bytes) -> list[tuple[BlobType, bytes]]:
    parsed = Container(plain)
    found = []
    at = 0
    for record in parsed.records:
        raw = BlobDecoder(DEDUP).decode(record, parsed.stored(at, record.stored_bytes), record.type)
        found.append((record.type, bytes(raw)))
        at += record.stored_bytes
    return found


@given(st.integers(0, len(PLAIN) * 8 - 1))
def test_a_flipped_bit_in_a_container_is_found_or_changes_no_content(bit: int) -> None:
    changed = bytearray(PLAIN)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        found = contents(bytes(changed))
    except ContentError:
        return
    # Without a check are bits that give another known type, and bits of a zstd frame that mean nothing.
    assert [raw for _, raw in found] == [raw for _, raw in contents(PLAIN)]


@pytest.mark.parametrize("size", [0, 15, 4095, 4097, 5 * 1024 * 1024])
def test_containers_of_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ContentError):
        Container(bytes(size))


def test_stored_bytes_outside_the_payload_are_refused() -> None:
    with pytest.raises(ContentError, match="outside"):
        Container(PLAIN).stored(0, 5000)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ContentError):
        encode_container([])
    record = BlobRecord(bytes(32), BlobType.DATA, Codec.RAW, 5 << 20, 5 << 20)
    with pytest.raises(ContentError):
        encode_container([(record, bytes(5 << 20))])
    assert containers.fits(0, 0, containers.MAX_BLOB_BYTES)
    assert not containers.fits(0, 0, containers.MAX_BLOB_BYTES + 1)


@pytest.mark.parametrize(
    ("line", "payload"),
    [
        (b"\0" * 41, 0),
        (bytes(32) + b"\x09\0" + bytes(8), 0),
        (bytes(32) + b"\x01\x07" + bytes(8), 0),
        (bytes(32) + b"\x01\x01" + bytes(4) + b"\xff\xff\xff\xff", 0),
        (bytes(32) + b"\x01\0" + b"\0\0\0\1" + b"\0\0\0\2", 1),
        (bytes(32) + b"\x01\0" + b"\0\0\0\1" + b"\0\0\0\1", 2),
    ],
)
def test_hostile_directories_are_refused(line: bytes, payload: int) -> None:
    with pytest.raises(ContentError):
        containers.decode_directory(line, payload)


# Sealing


def test_a_chunk_opens_only_as_itself() -> None:
    chunk_id, sealed = SEALER.seal_chunk(PLAIN)
    assert SEALER.open_chunk(chunk_id, bytes(sealed)) == PLAIN
    with pytest.raises(IdMismatchError):
        SEALER.open_chunk(chunk_id, bytes(sealed[:-1]))
    with pytest.raises(FormatError):
        SEALER._open(*_segment_arguments(), bytes(sealed))
    with pytest.raises(AuthenticationError):
        ProjectSealer(ProjectKeys(b"q" * 32, KEYS.epoch_keys, KEYS.dedup_secret)).open_chunk(
            chunk_id, bytes(sealed)
        )


def _segment_arguments() -> tuple[object, ...]:
    from sovereign_crypto.envelope import Purpose

    return Purpose.INDEX, SEALER._index_keys, SEALER.project_id


def test_older_epochs_stay_readable() -> None:
    chunk_id, sealed = SEALER.seal_chunk(PLAIN)
    segment_id, segment = SEALER.seal_segment(PLAIN)
    rotated = ProjectSealer(KEYS.with_new_epoch().with_new_epoch())
    assert rotated.open_chunk(chunk_id, bytes(sealed)) == PLAIN
    assert rotated.open_segment(segment_id, segment) == PLAIN
    new_id, new = rotated.seal_chunk(PLAIN)
    with pytest.raises(AuthenticationError):
        SEALER.open_chunk(new_id, bytes(new))
    with pytest.raises(AuthenticationError):
        ProjectSealer(KEYS.with_new_epoch()).open_chunk(new_id, bytes(new))


# Index segments


def lines(*raws: bytes) -> ChunkLines:
    records = [blob(raw)[0] for raw in raws]
    return ChunkLines(blob_id(DEDUP, b"chunk" + raws[0]), 5000, containers.encode_directory(records))


SEGMENT = encode_segment([lines(b"a", b"b"), lines(b"c")])


def test_segments_come_back() -> None:
    chunks = decode_segment(SEGMENT)
    assert chunks == [lines(b"a", b"b"), lines(b"c")]
    assert [chunk.blobs for chunk in chunks] == [2, 1]
    assert chunks[0].records()[1].blob_id == blob_id(DEDUP, b"b")


@given(st.integers(0, 16 * 8 + (32 + 8) * 8))
def test_flipped_bits_in_a_segment_do_no_harm(bit: int) -> None:
    changed = bytearray(SEGMENT)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        for chunk in decode_segment(bytes(changed)):
            chunk.records()
    except ContentError:
        pass


@pytest.mark.parametrize("cut", [0, 15, 100, 4095])
def test_truncated_segments_are_refused(cut: int) -> None:
    with pytest.raises(ContentError):
        decode_segment(SEGMENT[:cut])


@pytest.mark.parametrize(
    ("at", "value"),
    [(11, 3), (11, 1), (55, 9), (55, 0), (12, 255), (-1, 1), (4, 2), (6, 1)],
    ids=["more chunks", "fewer chunks", "more lines", "no lines", "length", "padding", "version", "zero"],
)
def test_hostile_segments_are_refused(at: int, value: int) -> None:
    changed = bytearray(SEGMENT)
    changed[at] = value
    with pytest.raises(ContentError):
        decode_segment(bytes(changed))


def test_many_chunks_are_split_into_full_segments() -> None:
    chunk = ChunkLines(bytes(32), 5000, bytes(42 * 1000))
    batches = split_for_segments([chunk] * 250)
    assert [len(batch) for batch in batches] == [99, 99, 52]
    encode_segment(batches[0])
    with pytest.raises(ContentError):
        encode_segment([chunk] * 100)
    with pytest.raises(ContentError):
        encode_segment([])
    assert split_for_segments([]) == []


# Trees

names = st.binary(min_size=1, max_size=40).filter(tree.is_safe_name)
ids = st.integers(1, 5).map(lambda count: bytes(32) * count)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    name, mode = draw(names), draw(st.integers(0, 0o7777))
    mtime_ns = draw(st.integers(-(2**63), 2**63 - 1))
    if kind is Kind.SYMLINK:
        target = draw(st.binary(min_size=1, max_size=60).filter(lambda value: b"\0" not in value))
        return Entry(name, kind, mode, mtime_ns, 0, Content.INLINE, target)
    if kind is Kind.DIRECTORY:
        empty = draw(st.booleans())
        return Entry(
            name, kind, mode, mtime_ns, 0, Content.NONE if empty else Content.NODES, b"" if empty else draw(ids)
        )
    flags = draw(st.sampled_from([0, Flag.CHANGED, Flag.DATABASE]))
    inline = draw(st.binary(max_size=50))
    if inline:
        return Entry(name, kind, mode, mtime_ns, len(inline), Content.INLINE, inline, flags)
    return Entry(name, kind, mode, mtime_ns, draw(st.integers(0, 2**63)), Content.BLOBS, draw(ids), flags)


@given(st.lists(entries(), min_size=1, max_size=20, unique_by=lambda item: item.name))
def test_nodes_come_back(found: list[Entry]) -> None:
    ordered = sorted(found, key=lambda item: item.name)
    node = tree.encode_node(tree.encode_entry(item) for item in ordered)
    assert tree.decode_node(node) == ordered


@given(entries(), st.data())
def test_a_flipped_bit_gives_another_entry_or_an_error(entry: Entry, data: st.DataObject) -> None:
    node = bytearray(tree.encode_node([tree.encode_entry(entry)]))
    bit = data.draw(st.integers(0, len(node) * 8 - 1))
    node[bit // 8] ^= 1 << bit % 8
    try:
        assert tree.decode_node(bytes(node)) != [entry]
    except ContentError:
        return


@given(entries(), st.data())
def test_a_truncated_node_is_refused(entry: Entry, data: st.DataObject) -> None:
    node = tree.encode_node([tree.encode_entry(entry)])
    with pytest.raises(ContentError):
        tree.decode_node(node[: data.draw(st.integers(0, len(node) - 1))])
    with pytest.raises(ContentError):
        tree.decode_node(node + b"\0")


def entry(**changes: object) -> Entry:
    values: dict[str, object] = {
        "name": b"name", "kind": Kind.FILE, "mode": 0o644, "mtime_ns": 1, "size_bytes": 5,
        "content_kind": Content.BLOBS, "content": bytes(32), "flags": 0,
    }  # fmt: skip
    return Entry(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "hostile",
    [
        {"name": b""}, {"name": b"."}, {"name": b".."}, {"name": b"a/b"}, {"name": b"a\0b"}, {"name": b"n" * 256},
        {"mode": 0o10000}, {"flags": 8}, {"content": b""}, {"content": bytes(31)}, {"content": bytes(32 * 1025)},
        {"content_kind": Content.NODES}, {"content_kind": Content.NONE}, {"content_kind": Content.INLINE},
        {"kind": Kind.DIRECTORY}, {"kind": Kind.DIRECTORY, "content_kind": Content.NODES},
        {"kind": Kind.SYMLINK, "size_bytes": 0, "content_kind": Content.INLINE, "content": b"a\0b"},
        {"kind": Kind.SYMLINK, "size_bytes": 0, "content_kind": Content.INLINE, "content": b""},
        {"content_kind": Content.INLINE, "content": b"x" * 2000, "size_bytes": 2000},
    ],
)  # fmt: skip
def test_entries_that_break_a_rule_are_refused(hostile: dict[str, object]) -> None:
    with pytest.raises(ContentError):
        tree.encode_entry(entry(**hostile))
    with pytest.raises(ContentError):
        tree.decode_node(tree.encode_node([tree.pack_entry(entry(**hostile))]))


def test_unsorted_doubled_or_unknown_entries_are_refused() -> None:
    a, b = tree.encode_entry(entry(name=b"a")), tree.encode_entry(entry(name=b"b"))
    for wrong in ([b, a], [a, a]):
        with pytest.raises(ContentError, match="order"):
            tree.decode_node(tree.encode_node(wrong))
    with pytest.raises(ContentError, match="unknown"):
        tree.decode_entry(b"\x09" + a[1:])
    with pytest.raises(ContentError, match="short"):
        tree.decode_entry(a[:10])
    with pytest.raises(ContentError, match="length"):
        tree.decode_entry(a + b"x")
    with pytest.raises(ContentError, match="too large"):
        tree.decode_node(bytes(tree.MAX_NODE_BYTES + 1))


def test_one_new_name_changes_few_nodes() -> None:
    def nodes(numbers: range, extra: bytes = b"") -> set[bytes]:
        found = {b"file%06d" % number: tree.encode_entry(entry(name=b"file%06d" % number)) for number in numbers}
        if extra:
            found[extra] = tree.encode_entry(entry(name=extra))
        return set(tree.cut_nodes(sorted(found.items())))

    before, after = nodes(range(20_000)), nodes(range(20_000), b"file005000x")
    assert len(before) > 10
    assert len(after - before) <= 2
    assert set(tree.cut_nodes([])) == set()


def test_nodes_stay_small_whatever_the_names() -> None:
    large = [(b"%05d" % n, tree.pack_entry(entry(name=b"%05d" % n, content=bytes(32 * 1000)))) for n in range(40)]
    assert max(map(len, tree.cut_nodes(large))) <= 256 * 1024 + 12


def test_lists_hold_whole_ids() -> None:
    assert tree.decode_list(tree.encode_list([b"a" * 32, b"b" * 32])) == [b"a" * 32, b"b" * 32]
    for wrong in (b"", b"a" * 31, bytes(32 * 4097)):
        with pytest.raises(ContentError):
            tree.decode_list(wrong)
    with pytest.raises(ContentError):
        tree.encode_list([])


# Snapshots

ROOT = Entry(b"root", Kind.DIRECTORY, 0o755, 5, 0, Content.NODES, bytes(32))
SEEN = SeenHead(DEVICE.public, b"instance", 3, bytes(32))


def snapshot(**changes: object) -> Snapshot:
    values: dict[str, object] = {
        "project_id": KEYS.project_id, "root": ROOT, "parents": (bytes(32),), "created_at": 7, "files": 1,
        "directories": 1, "size_bytes": 9, "errors": 0, "sources": ("home",), "seen": (SEEN,),
    }  # fmt: skip
    return Snapshot(**(values | changes))  # type: ignore[arg-type]


def test_snapshots_come_back() -> None:
    signed = snapshot().sign(DEVICE)
    parsed = parse_snapshot(signed.raw, KEYS.project_id)
    assert parsed.content == snapshot()
    assert (parsed.author, parsed.snapshot_id) == (DEVICE.public, signed.hash)
    assert not parsed.content.partial


def test_snapshots_of_other_projects_networks_or_kinds_are_refused() -> None:
    raw = snapshot().sign(DEVICE).raw
    with pytest.raises(ContentError):
        parse_snapshot(raw, b"q" * 32)
    with pytest.raises(SignatureError):
        parse_snapshot(raw, KEYS.project_id, b"n" * 32)
    with pytest.raises(FormatError):
        parse_snapshot(sign_statement(StatementType.HEAD, {"v": 1}, DEVICE).raw, KEYS.project_id)


@given(st.integers(0, 8 * 500))
def test_a_flipped_bit_in_a_snapshot_is_found(bit: int) -> None:
    raw = bytearray(snapshot().sign(DEVICE).raw)
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises((FormatError, SignatureError)):
        parse_snapshot(bytes(raw), KEYS.project_id)


BODY = {
    "v": 1, "project": KEYS.project_id, "root": tree.encode_entry(ROOT), "parents": [], "time": 1, "files": 1,
    "dirs": 1, "bytes": 1, "errors": 0, "sources": [], "seen": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"files": -1}, {"files": True}, {"root": 5}, {"root": b"x"}, {"extra": 1},
        {"root": tree.encode_entry(entry())}, {"parents": [b"short"]}, {"parents": [bytes(32)] * 17},
        {"sources": [1]}, {"seen": [[1]]}, {"seen": 5},
        {"root": tree.encode_entry(Entry(b"other", Kind.DIRECTORY, 0, 0, 0, Content.NONE, b""))},
    ],
)  # fmt: skip
def test_signed_nonsense_is_refused(changes: dict[str, object]) -> None:
    parse_snapshot(sign_statement(StatementType.SNAPSHOT, BODY, DEVICE).raw, KEYS.project_id)
    raw = sign_statement(StatementType.SNAPSHOT, BODY | changes, DEVICE).raw
    with pytest.raises(ContentError):
        parse_snapshot(raw, KEYS.project_id)


def test_catalogs() -> None:
    raws = [snapshot(created_at=number).sign(DEVICE).raw for number in range(5)]
    data = encode_catalog(raws)
    assert decode_catalog(data) == raws
    for wrong in (b"", data[:-1], data + b"\0", b"\0\0\0\0", encode_catalog([b"x"] * 257)):
        with pytest.raises(ContentError):
            decode_catalog(wrong)


# Heads

PAYLOAD = HeadPayload(9, (b"raw",), (CatalogRef(bytes(32), 4),), (SegmentRef(bytes(32), 5000, 7),), (SEEN,), 2)


def head(payload: HeadPayload = PAYLOAD, sequence: int = 2, previous: bytes = b"h" * 32) -> object:
    return build_head(SEALER, DEVICE, b"instance", sequence, previous, payload)


def test_heads_come_back() -> None:
    built = build_head(SEALER, DEVICE, b"instance", 2, b"h" * 32, PAYLOAD)
    parsed = parse_head(built.raw)
    assert parsed == built
    assert parsed.slot == (DEVICE.public, b"instance")
    assert open_payload(SEALER, parsed) == PAYLOAD
    assert payload_bytes(PAYLOAD) < 1024
    assert len(built.raw) < 1400


def test_a_payload_belongs_to_one_head() -> None:
    first = build_head(SEALER, DEVICE, b"instance", 2, b"h" * 32, PAYLOAD)
    other = build_head(SEALER, DEVICE, b"instance", 3, b"h" * 32, PAYLOAD)
    body = {
        "v": 1, "locator": other.locator, "instance": other.instance, "seq": 3, "prev": b"h" * 32,
        "payload": first.sealed,
    }  # fmt: skip
    swapped = parse_head(sign_statement(StatementType.HEAD, body, DEVICE).raw)
    with pytest.raises(AuthenticationError):
        open_payload(SEALER, swapped)


@given(st.integers(0, 8 * 1000))
def test_a_flipped_bit_in_a_head_is_found(bit: int) -> None:
    raw = bytearray(build_head(SEALER, DEVICE, b"instance", 1, NO_PREVIOUS, PAYLOAD).raw)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((FormatError, SignatureError)):
        parse_head(bytes(raw))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"locator": b"short"}, {"instance": b"short"}, {"prev": b"short"}, {"seq": 0}, {"seq": True},
        {"seq": 1}, {"prev": NO_PREVIOUS}, {"payload": "text"}, {"extra": 1}, {"seq": -4},
    ],
)  # fmt: skip
def test_heads_with_wrong_fields_are_refused(changes: dict[str, object]) -> None:
    body = {"v": 1, "locator": bytes(32), "instance": bytes(8), "seq": 2, "prev": b"h" * 32, "payload": b"x"}
    parse_head(sign_statement(StatementType.HEAD, body, DEVICE).raw)
    with pytest.raises(ContentError):
        parse_head(sign_statement(StatementType.HEAD, body | changes, DEVICE).raw)


def test_too_much_for_one_head_is_refused() -> None:
    with pytest.raises(ContentError, match="too much"):
        head(HeadPayload(1, tuple(bytes(2000) for _ in range(40))))


def _payload_of(body: object, padding: bytes | None = None) -> HeadPayload:
    from sovereign_crypto import cbor
    from sovereign_protocols.vault.head import _context

    encoded = cbor.encode(body)
    used = len(encoded) + 4
    filler = bytes(padme(max(used, 1024)) - used) if padding is None else padding
    context = _context(DEVICE.public, b"instance", 2, b"h" * 32)
    sealed = SEALER.seal_head(context, len(encoded).to_bytes(4, "big") + encoded + filler)
    fields = {
        "v": 1,
        "locator": SEALER.locator,
        "instance": b"instance",
        "seq": 2,
        "prev": b"h" * 32,
        "payload": sealed,
    }
    return open_payload(SEALER, parse_head(sign_statement(StatementType.HEAD, fields, DEVICE).raw))


PAYLOAD_BODY = {"v": 1, "time": 1, "snapshots": [], "catalogs": [], "segments": [], "absorbed": [], "sweep": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2}, {"time": -1}, {"sweep": -1}, {"snapshots": [5]}, {"snapshots": [b""] * 65},
        {"catalogs": [[b"x", 1]]},
        {"catalogs": [[bytes(32), 0]]}, {"segments": [[bytes(32), 0, 1]]}, {"segments": [5]}, {"absorbed": [5]},
        {"absorbed": [SEEN.to_list()] * 65}, {"extra": 1},
    ],
)  # fmt: skip
def test_payloads_that_break_a_rule_are_refused(changes: dict[str, object]) -> None:
    assert _payload_of(PAYLOAD_BODY) == HeadPayload(1)
    with pytest.raises(ContentError):
        _payload_of(PAYLOAD_BODY | changes)


def test_padding_of_a_payload_must_be_zero_and_complete() -> None:
    for padding in (b"", b"\1" * 1000, bytes(5000)):
        with pytest.raises(ContentError):
            _payload_of(PAYLOAD_BODY, padding)


@pytest.mark.parametrize(
    "value", [[b"x"], [bytes(32), bytes(8), 0, bytes(32)], [bytes(32), bytes(7), 1, bytes(32)], "x"]
)
def test_seen_heads_are_checked(value: object) -> None:
    with pytest.raises(ContentError):
        SeenHead.from_value(value)


def test_errors_are_crypto_errors() -> None:
    assert issubclass(ContentError, CryptoError)
    assert ContentError("why").what == "why"


def test_a_payload_that_is_no_cbor_is_refused() -> None:
    from sovereign_protocols.vault.head import _context

    context = _context(DEVICE.public, b"instance", 2, b"h" * 32)
    sealed = SEALER.seal_head(context, b"\0\0\0\2\xff\xff" + bytes(1018))
    fields = {"v": 1, "locator": SEALER.locator, "instance": b"instance", "seq": 2, "prev": b"h" * 32}
    signed = sign_statement(StatementType.HEAD, fields | {"payload": sealed}, DEVICE)
    with pytest.raises(ContentError, match="malformed"):
        open_payload(SEALER, parse_head(signed.raw))


def test_a_container_of_another_kind_is_refused() -> None:
    changed = bytearray(PLAIN)
    changed[-16:-12] = b"SVX1"
    with pytest.raises(ContentError, match="unknown container"):
        Container(bytes(changed))


def test_a_container_that_claims_more_than_its_length_is_refused() -> None:
    changed = bytearray(PLAIN)
    changed[-1] = 255
    with pytest.raises(ContentError, match="length differs"):
        Container(bytes(changed))


def test_the_id_check_can_be_left_to_the_target() -> None:
    chunk_id, sealed = SEALER.seal_chunk(PLAIN)
    pieces = Payload([sealed[:100], sealed[100:]])
    assert SEALER.open_arrived(chunk_id, pieces, id_checked=False) == PLAIN
    assert SEALER.open_arrived(bytes(32), pieces, id_checked=True) == PLAIN
    buffer = bytearray(containers.MAX_PLAINTEXT_BYTES)
    assert SEALER.open_arrived(chunk_id, pieces, id_checked=True, buffer=buffer).obj is buffer
    with pytest.raises(IdMismatchError):
        SEALER.open_arrived(bytes(32), pieces, id_checked=False)
    for wrong in (b"", bytes(4183), bytes(containers.MAX_PLAINTEXT_BYTES + 89)):
        with pytest.raises(FormatError, match="size"):
            SEALER.open_arrived(chunk_id, Payload([wrong]), id_checked=True)
    SEALER.check_id(chunk_id, bytes(sealed))
    with pytest.raises(IdMismatchError):
        SEALER.check_id(bytes(32), bytes(sealed))
