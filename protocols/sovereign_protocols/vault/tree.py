"""Tree nodes: the entries of a folder.

A folder is a list of nodes, each with a run of entries in the order of their raw names; cut points depend on the
names, so one new file changes one node. A node is::

    0     "SVT1" | u8 version | u8 0 | u16 0 | u32 number of entries
    12    entries

and an entry, big-endian::

    u8 kind | u8 flags | u16 mode | i64 mtime, ns | u64 size | u8 content kind
    u16 name length | u32 content length | name | content

Content: nothing; the bytes themselves (small files, symlink targets); ids of data blobs; ids of lists of ids, one
or two levels deep; for a folder the ids of its nodes, or of one level of lists of them.

Source: protocols/specs/tree.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from sovereign_protocols.vault.blobs import BLOB_ID_BYTES
from sovereign_protocols.vault.errors import ContentError

MAGIC = b"SVT1"
VERSION = 1
MODE_MASK = 0o7777
MAX_ENTRIES = 65_536
MAX_NODE_BYTES = 1024 * 1024
MAX_NAME_BYTES = 255
MAX_INLINE_BYTES = 1024
MAX_LINK_BYTES = 4096
# Ids in one list blob, and in one entry; two levels of lists reach 2^33 blobs.
MAX_LIST_IDS = 4096
MAX_ENTRY_IDS = 1024
MAX_LIST_DEPTH = 2
# More ids than this go into lists, so that an entry (and a snapshot, which holds one) stays small.
MAX_DIRECT_IDS = 64
# Nodes end after a name whose CRC has eight zero bits once they have 32 KiB, and at 256 KiB in any case.
_CUT_MIN_BYTES = 32 * 1024
_CUT_MAX_BYTES = 256 * 1024
_CUT_MASK = 0xFF

_HEADER = struct.Struct(">4sBBHI")
_ENTRY = struct.Struct(">BBHqQBHI")


class Kind(IntEnum):
    """What an entry is."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class Content(IntEnum):
    """How an entry's content is given."""

    NONE = 0
    INLINE = 1
    BLOBS = 2
    LISTS = 3
    LISTS_OF_LISTS = 4
    NODES = 5
    LISTS_OF_NODES = 6


class Flag(IntEnum):
    """Bits of an entry's flags."""

    CHANGED = 1
    """The file changed while it was read, again and again; its content may never have existed like this."""
    DATABASE = 2
    """A SQLite database captured through the online backup API."""


_ALL_FLAGS = Flag.CHANGED | Flag.DATABASE
_KINDS = {int(item): item for item in Kind}
_CONTENTS = {int(item): item for item in Content}
_ALLOWED = {
    Kind.FILE: {Content.NONE, Content.INLINE, Content.BLOBS, Content.LISTS, Content.LISTS_OF_LISTS},
    Kind.DIRECTORY: {Content.NONE, Content.NODES, Content.LISTS_OF_NODES},
    Kind.SYMLINK: {Content.INLINE},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder.

    Args:
        name: raw bytes, one path component.
        kind: file, directory or symlink.
        mode: permission bits, at most 0o7777.
        mtime_ns: nanoseconds since 1970 UTC.
        size_bytes: length of a file; 0 for others.
        content_kind: how ``content`` is to be read.
        content: bytes or ids, 32 bytes each.
        flags: bits of :class:`Flag`.
    """

    name: bytes
    kind: Kind
    mode: int
    mtime_ns: int
    size_bytes: int
    content_kind: Content
    content: bytes
    flags: int = 0

    @property
    def ids(self) -> list[bytes]:
        """The ids in ``content``."""
        return split_ids(self.content)


def split_ids(content: bytes | memoryview) -> list[bytes]:
    """Cut concatenated 32-byte ids apart."""
    return [bytes(content[at : at + BLOB_ID_BYTES]) for at in range(0, len(content), BLOB_ID_BYTES)]


def is_safe_name(name: bytes) -> bool:
    """Whether ``name`` is one path component that can't leave its folder."""
    return bool(name) and len(name) <= MAX_NAME_BYTES and name not in (b".", b"..") and not _UNSAFE & set(name)


_UNSAFE = frozenset(b"/\0")


def encode_entry(entry: Entry) -> bytes:
    """Return the bytes of one entry.

    Raises:
        ContentError: a field breaks a rule of the format.
    """
    _check_entry(entry)
    return pack_entry(entry)


def pack_entry(entry: Entry) -> bytes:
    """Return the bytes of an entry whose fields are known to be right."""
    return pack_fields(
        entry.kind,
        entry.flags,
        entry.mode,
        entry.mtime_ns,
        entry.size_bytes,
        (entry.content_kind, entry.content),
        entry.name,
    )


def pack_fields(
    kind: int, flags: int, mode: int, mtime_ns: int, size_bytes: int, content: tuple[int, bytes], name: bytes
) -> bytes:
    """Do what :func:`pack_entry` does, without an entry: a backup makes one of these for each file."""
    content_kind, content_bytes = content
    head = _ENTRY.pack(kind, flags, mode, mtime_ns, size_bytes, content_kind, len(name), len(content_bytes))
    return head + name + content_bytes


def encode_node(entries: Iterable[bytes]) -> bytes:
    """Return a node of entries that :func:`encode_entry` made, in the order of their names."""
    parts = list(entries)
    return b"".join([_HEADER.pack(MAGIC, VERSION, 0, 0, len(parts)), *parts])


def cut_nodes(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Divide a folder into nodes.

    Args:
        entries: name and encoded entry, in the order of the names.

    Yields:
        Encoded nodes; none for an empty folder.
    """
    run: list[bytes] = []
    run_bytes = 0
    for name, encoded in entries:
        if run_bytes + len(encoded) > _CUT_MAX_BYTES and run:
            yield encode_node(run)
            run, run_bytes = [], 0
        run.append(encoded)
        run_bytes += len(encoded)
        if run_bytes >= _CUT_MIN_BYTES and not zlib.crc32(name) & _CUT_MASK:
            yield encode_node(run)
            run, run_bytes = [], 0
    if run:
        yield encode_node(run)


def iterate_encoded(data: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and encoded entry from a node that this device encoded itself; checks lengths only.

    Raises:
        ContentError: not a node.
    """
    view = memoryview(data)
    at = _HEADER.size
    for _ in range(_count(view)):
        start = at
        if at + _ENTRY.size > len(view):
            raise ContentError("node ends inside an entry")
        *_, name_bytes, content_bytes = _ENTRY.unpack_from(view, at)
        at += _ENTRY.size
        name = bytes(view[at : at + name_bytes])
        at += name_bytes + content_bytes
        if at > len(view):
            raise ContentError("node ends inside an entry")
        yield name, bytes(view[start:at])
    if at != len(view):
        raise ContentError("node holds bytes after its last entry")


def decode_entry(encoded: bytes) -> Entry:
    """Parse one entry and check every field.

    Raises:
        ContentError: a field breaks a rule of the format.
    """
    if len(encoded) < _ENTRY.size:
        raise ContentError("entry is too short")
    kind, flags, mode, mtime_ns, size_bytes, content_kind, name_bytes, content_bytes = _ENTRY.unpack_from(encoded)
    if kind not in _KINDS or content_kind not in _CONTENTS:
        raise ContentError("unknown kind of entry or content")
    if len(encoded) != _ENTRY.size + name_bytes + content_bytes:
        raise ContentError("entry length differs from its fields")
    name_end = _ENTRY.size + name_bytes
    entry = Entry(
        encoded[_ENTRY.size : name_end],
        _KINDS[kind],
        mode,
        mtime_ns,
        size_bytes,
        _CONTENTS[content_kind],
        encoded[name_end:],
        flags,
    )
    _check_entry(entry)
    return entry


def decode_node(data: bytes | memoryview) -> list[Entry]:
    """Parse a node that somebody else may have written.

    Raises:
        ContentError: too large, unsorted or doubled names, or an entry that breaks a rule.
    """
    if len(data) > MAX_NODE_BYTES:
        raise ContentError("node is too large")
    entries: list[Entry] = []
    last = b""
    for name, encoded in iterate_encoded(data):
        if name <= last:
            raise ContentError("names are not in order")
        last = name
        entries.append(decode_entry(encoded))
    return entries


def encode_list(ids: list[bytes]) -> bytes:
    """Return the list blob of at most 4096 ids."""
    if not 0 < len(ids) <= MAX_LIST_IDS:
        raise ContentError("a list holds 1 to 4096 ids")
    return b"".join(ids)


def decode_list(data: bytes | memoryview) -> list[bytes]:
    """Return the ids of a list blob.

    Raises:
        ContentError: empty, too long, or not a multiple of 32 bytes.
    """
    if not data or len(data) % BLOB_ID_BYTES or len(data) > MAX_LIST_IDS * BLOB_ID_BYTES:
        raise ContentError("a list holds 1 to 4096 ids")
    return split_ids(data)


def _count(view: memoryview) -> int:
    if len(view) < _HEADER.size:
        raise ContentError("node is too short")
    magic, version, zero, zero16, count = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or zero or zero16 or not 0 < count <= MAX_ENTRIES:
        raise ContentError("unknown node, or an entry count out of bounds")
    return int(count)


def _check_entry(entry: Entry) -> None:
    if not is_safe_name(entry.name):
        raise ContentError("a name that is not one path component")
    if entry.mode & ~MODE_MASK or entry.flags & ~_ALL_FLAGS:
        raise ContentError("mode or flags out of bounds")
    if entry.content_kind not in _ALLOWED[entry.kind]:
        raise ContentError(f"content of a {entry.kind.name.lower()} can't be {entry.content_kind.name.lower()}")
    if entry.kind is not Kind.FILE and (entry.size_bytes or entry.flags):
        raise ContentError("only files have a size and flags")
    _check_content(entry)


def _check_content(entry: Entry) -> None:
    size_bytes = len(entry.content)
    if entry.content_kind is Content.NONE:
        if size_bytes or entry.size_bytes:
            raise ContentError("content of an entry that has none")
    elif entry.content_kind is Content.INLINE:
        limit = MAX_LINK_BYTES if entry.kind is Kind.SYMLINK else MAX_INLINE_BYTES
        if not 0 < size_bytes <= limit or (entry.kind is Kind.FILE and size_bytes != entry.size_bytes):
            raise ContentError("inline content of a wrong length")
        if entry.kind is Kind.SYMLINK and b"\0" in entry.content:
            raise ContentError("a symlink target holds a zero byte")
    elif not size_bytes or size_bytes % BLOB_ID_BYTES or size_bytes > MAX_ENTRY_IDS * BLOB_ID_BYTES:
        raise ContentError("an entry holds 1 to 1024 ids")
