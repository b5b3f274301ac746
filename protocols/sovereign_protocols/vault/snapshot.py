"""Snapshots: a signed statement that names the root of a tree, and catalogs of them.

Source: protocols/specs/snapshot.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    Statement,
    StatementType,
    parse_statement,
    sign_statement,
)
from sovereign_protocols.vault.blobs import BLOB_ID_BYTES
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.tree import Entry, Kind, decode_entry, encode_entry

VERSION = 1
MAX_SNAPSHOT_BYTES = 16 * 1024
ROOT_NAME = b"root"
MAX_PARENTS = 16
MAX_SEEN = 64
MAX_SOURCES = 64
MAX_CATALOG_SNAPSHOTS = 256
MAX_CATALOG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SeenHead:
    """A head that a writer knew when it wrote: evidence against a provider that shows different pasts.

    Args:
        device: 32 bytes, public key of the head's writer.
        instance: 8 bytes, writer instance.
        sequence: the head's number.
        head_hash: SHA-256 of the head.
    """

    device: bytes
    instance: bytes
    sequence: int
    head_hash: bytes

    def to_list(self) -> list[Any]:
        """Return the form that is encoded."""
        return [self.device, self.instance, self.sequence, self.head_hash]

    @classmethod
    def from_value(cls, value: object) -> SeenHead:
        """Check and build one.

        Raises:
            ContentError: not such a list.
        """
        match value:
            case [bytes(device), bytes(instance), int(sequence), bytes(head_hash)] if (
                len(device) == 32 and len(instance) == 8 and len(head_hash) == 32 and sequence > 0
            ):
                return cls(device, instance, sequence, head_hash)
        raise ContentError("not a seen head")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of a project at one time.

    Args:
        project_id: 32 bytes.
        root: entry of the root folder; its name is always ``root``.
        parents: hashes of the snapshots that this one follows.
        created_at: seconds UTC.
        files: number of files and symlinks.
        directories: number of folders.
        size_bytes: sum of the files' lengths.
        errors: entries that could not be read.
        sources: names of what was protected, for people.
        seen: other writers' heads that were known.
    """

    project_id: bytes
    root: Entry
    parents: tuple[bytes, ...]
    created_at: int
    files: int
    directories: int
    size_bytes: int
    errors: int
    sources: tuple[str, ...] = ()
    seen: tuple[SeenHead, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether something could not be read."""
        return self.errors > 0

    def sign(self, key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> Statement:
        """Sign as the device ``key``."""
        body = {
            "v": VERSION,
            "project": self.project_id,
            "root": encode_entry(self.root),
            "parents": list(self.parents),
            "time": self.created_at,
            "files": self.files,
            "dirs": self.directories,
            "bytes": self.size_bytes,
            "errors": self.errors,
            "sources": list(self.sources),
            "seen": [item.to_list() for item in self.seen],
        }
        return sign_statement(StatementType.SNAPSHOT, body, key, network_id, max_bytes=MAX_SNAPSHOT_BYTES)


@dataclass(frozen=True, slots=True)
class SignedSnapshot:
    """A snapshot whose signature holds.

    Args:
        snapshot_id: 32 bytes, SHA-256 of the statement.
        author: 32 bytes, public key of the device that signed.
        raw: the statement.
        content: what it states.
    """

    snapshot_id: bytes
    author: bytes
    raw: bytes
    content: Snapshot


_KEYS = {
    "v",
    "project",
    "root",
    "parents",
    "time",
    "files",
    "dirs",
    "bytes",
    "errors",
    "sources",
    "seen",
}
_COUNTS = ("time", "files", "dirs", "bytes", "errors")


def parse_snapshot(raw: bytes, project_id: bytes, network_id: bytes = NETWORK_ID_MAIN) -> SignedSnapshot:
    """Verify the signature, then the body. Whether the author may write is the caller's question.

    Raises:
        FormatError: not a snapshot of this project (:class:`ContentError` once the signature holds).
        SignatureError: the signature does not hold.
    """
    statement = parse_statement(
        raw, expected=StatementType.SNAPSHOT, network_id=network_id, max_bytes=MAX_SNAPSHOT_BYTES
    )
    return SignedSnapshot(statement.hash, statement.signer, statement.raw, _parse_body(statement.body, project_id))


def encode_catalog(raws: Iterable[bytes]) -> bytes:
    """Return a catalog: statements, each after its length."""
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in raws)


def decode_catalog(data: bytes | memoryview) -> list[bytes]:
    """Return the statements of a catalog, not yet verified.

    Raises:
        ContentError: lengths do not fit, or too many.
    """
    view = memoryview(data)
    raws: list[bytes] = []
    at = 0
    while at < len(view):
        size_bytes = int.from_bytes(view[at : at + 4], "big")
        at += 4
        if not size_bytes or size_bytes > MAX_SNAPSHOT_BYTES or at + size_bytes > len(view):
            raise ContentError("catalog ends inside a snapshot")
        raws.append(bytes(view[at : at + size_bytes]))
        at += size_bytes
    if not 0 < len(raws) <= MAX_CATALOG_SNAPSHOTS:
        raise ContentError("a catalog holds 1 to 256 snapshots")
    return raws


def _parse_body(body: dict[Any, Any], project_id: bytes) -> Snapshot:
    if body.keys() != _KEYS or body["v"] != VERSION or body["project"] != project_id:
        raise ContentError("not a snapshot of this project and version")
    if any(not _is_count(body[name]) for name in _COUNTS):
        raise ContentError("a count of the snapshot is not a number")
    parents, sources, seen = body["parents"], body["sources"], body["seen"]
    if not _is_list(parents, bytes, MAX_PARENTS) or any(len(item) != BLOB_ID_BYTES for item in parents):
        raise ContentError("parents of the snapshot are not ids")
    if not _is_list(sources, str, MAX_SOURCES) or not _is_list(seen, list, MAX_SEEN):
        raise ContentError("lists of the snapshot are wrong")
    return Snapshot(
        body["project"],
        _parse_root(body["root"]),
        tuple(parents),
        body["time"],
        body["files"],
        body["dirs"],
        body["bytes"],
        body["errors"],
        tuple(sources),
        tuple(SeenHead.from_value(item) for item in seen),
    )


def _parse_root(value: object) -> Entry:
    if not isinstance(value, bytes):
        raise ContentError("root of the snapshot is not an entry")
    root = decode_entry(value)
    if root.name != ROOT_NAME or root.kind is not Kind.DIRECTORY:
        raise ContentError("root of the snapshot is not a folder named root")
    return root


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object, kind: type, limit: int) -> bool:
    return isinstance(value, list) and len(value) <= limit and all(isinstance(item, kind) for item in value)
