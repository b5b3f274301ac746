"""Walking the sources: an unchanged file costs a stat, an unchanged folder one comparison."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from sovereign_node.vault.assemble import Assembler, Folder, FolderRecord
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.report import Counters, ItemError
from sovereign_protocols.vault.snapshot import ROOT_NAME
from sovereign_protocols.vault.tree import MODE_MASK, Content, Entry, Kind, encode_entry

SQLITE_HEADER = b"SQLite format 3\x00"
_SIDE_FILES = (b"-wal", b"-shm", b"-journal")
_STAMP = struct.Struct(">IqqQQ")
# A file written in the clock tick in which it was looked at may change again without a new time. Kernels tick at
# 10 ms or faster; a time without a fraction hints at a file system that counts in seconds, or two of them.
_TICK_NS = 20_000_000
_COARSE_NS = 2_000_000_000
_NO_STAMP = bytes(_STAMP.size)


@dataclass(slots=True)
class FileWork:
    """A file whose content must be read.

    Args:
        folder: where its entry goes.
        name: raw name.
        path: where to open it.
        info: what ``lstat`` said.
        database: a database by its side files; others are recognised by their first bytes.
    """

    folder: Folder
    name: bytes
    path: bytes
    info: os.stat_result
    database: bool


class Scanner:
    """Lists folders depth first, and yields the files that have to be read.

    Args:
        sources: what is protected.
        config: patterns to leave out.
        index: remembers folders.
        assembler: gets all that is known without reading.
        counters: sums of the run.
        valid_run: newest run whose remembered folders may be used; 0 for none.
        now_ns: time of the start, nanoseconds UTC.
        turn: held while a folder is listed; shared with whoever else works entry by entry.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        config: VaultConfig,
        index: LocalIndex,
        assembler: Assembler,
        counters: Counters,
        valid_run: int,
        now_ns: int,
        turn: threading.Lock,
    ) -> None:
        self._turn = turn
        self._sources = sources
        self._index = index
        self._assembler = assembler
        self._counters = counters
        self._valid_run = valid_run
        self._now_ns = now_ns
        self._exclude = [re.compile(os.fsencode(fnmatch.translate(item))) for item in config.exclude]
        self._exclude_paths = {os.path.split(os.fsencode(path.absolute())) for path in config.exclude_paths}
        self._exclude_below = {folder for folder, _ in self._exclude_paths}
        self._capture = config.capture_databases

    def files(self) -> Iterator[FileWork]:
        """Walk everything; folders are handed to the assembler on the way."""
        if len(self._sources) == 1 and not self._sources[0].name and self._sources[0].path.is_dir():
            path = os.fsencode(self._sources[0].path.absolute())
            info = os.stat(path)
            root = self._folder(None, ROOT_NAME, info, b"")
            yield from self._walk([(root, path, b"")])
            return
        root = Folder(None, ROOT_NAME, 0o700, 0, _key(b""), {}, {})
        work: list[FileWork] = []
        folders: list[tuple[Folder, bytes, bytes]] = []
        root.outstanding = 1
        for source in self._sources:
            self._add_source(root, source, work, folders)
        yield from work
        yield from self._walk(folders)
        self._assembler.listed(root, held=1)

    def _add_source(
        self, root: Folder, source: Source, work: list[FileWork], folders: list[tuple[Folder, bytes, bytes]]
    ) -> None:
        path = os.fsencode(source.path.absolute())
        name = os.fsencode(source.name or source.path.absolute().name)
        try:
            info = os.stat(path)
        except OSError as error:
            self._fail(path, error)
            return
        if stat.S_ISDIR(info.st_mode):
            root.outstanding += 1
            folders.append((self._folder(root, name, info, name), path, name))
        else:
            root.outstanding += 1
            work.append(FileWork(root, name, path, info, False))

    def _folder(self, parent: Folder | None, name: bytes, info: os.stat_result, relative: bytes) -> Folder:
        return Folder(parent, name, info.st_mode & MODE_MASK, info.st_mtime_ns, _key(relative), {}, {})

    def _walk(self, start: list[tuple[Folder, bytes, bytes]]) -> Iterator[FileWork]:
        stack = start[::-1]
        while stack:
            folder, path, relative = stack.pop()
            with self._turn:
                work, below = self._list(folder, path, relative)
            yield from work
            stack.extend(reversed(below))

    def _list(
        self, folder: Folder, path: bytes, relative: bytes
    ) -> tuple[list[FileWork], list[tuple[Folder, bytes, bytes]]]:
        try:
            with os.scandir(path) as scan:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in scan}
        except OSError as error:
            found = self._list_slowly(path, error)
        if self._exclude or path in self._exclude_below:
            found = {name: info for name, info in found.items() if not self._excluded(name, path, relative)}
        databases = self._merge_side_files(found, path)
        stamps = {name: self._stamp(info, databases.get(name)) for name, info in found.items()}
        names = sorted(stamps)
        folder.stamps = stamps
        if all(stamp != _NO_STAMP for stamp in stamps.values()):
            folder.signature = blake3(
                b"".join([part for name in names for part in (name, b"/", stamps[name])])
            ).digest()
        record = self._record(folder)
        folder.same_listing = record is not None and record.signature == folder.signature != bytes(32)
        work = [] if folder.same_listing else self._sort_files(folder, names, found, path, databases)
        prefix = relative + b"/" if relative else b""
        below = [
            (self._folder(folder, name, found[name], prefix + name), path + b"/" + name, prefix + name)
            for name in names
            if stat.S_ISDIR(found[name].st_mode)
        ]
        folder.outstanding += len(work) + len(below)
        if folder.same_listing and record is not None:
            folder.files, folder.size_bytes = record.files, record.size_bytes
            folder.stamps = {}
        with self._counters.lock:
            self._counters.bytes_total += folder.size_bytes
        self._assembler.listed(folder)
        return work, below

    def _list_slowly(self, path: bytes, error: OSError) -> dict[bytes, os.stat_result]:
        """List again, entry by entry, so that one bad entry does not hide the others."""
        found: dict[bytes, os.stat_result] = {}
        try:
            names = os.listdir(path)
        except OSError:
            self._fail(path, error)
            return found
        for name in names:
            try:
                found[name] = os.lstat(path + b"/" + name)
            except FileNotFoundError:
                continue
            except OSError as entry_error:
                self._fail(path + b"/" + name, entry_error)
        return found

    def _record(self, folder: Folder) -> FolderRecord | None:
        data = self._index.folder(folder.key) if self._valid_run else None
        if data is not None:
            record = FolderRecord(data)
            if record.run <= self._valid_run:
                folder.record = record
        return folder.record

    def _sort_files(
        self,
        folder: Folder,
        names: list[bytes],
        found: dict[bytes, os.stat_result],
        path: bytes,
        databases: dict[bytes, list[os.stat_result]],
    ) -> list[FileWork]:
        """Enter what is known of a folder, and return the files that have to be read."""
        known = (
            {name: (stamp, encoded) for name, stamp, encoded in folder.record.entries()} if folder.record else {}
        )
        work: list[FileWork] = []
        for name in names:
            info = found[name]
            if stat.S_ISDIR(info.st_mode):
                continue
            before = known.get(name)
            if before is not None and before[0] == folder.stamps[name] != _NO_STAMP:
                folder.entries[name] = before[1]
                folder.files += 1
                folder.size_bytes += info.st_size if stat.S_ISREG(info.st_mode) else 0
            elif stat.S_ISREG(info.st_mode):
                work.append(FileWork(folder, name, path + b"/" + name, info, name in databases))
            elif stat.S_ISLNK(info.st_mode):
                self._enter_link(folder, name, path + b"/" + name, info)
            # Sockets, pipes and devices have no content that could be kept.
        return work

    def _enter_link(self, folder: Folder, name: bytes, path: bytes, info: os.stat_result) -> None:
        try:
            target = os.readlink(path)
        except OSError as error:
            self._fail(path, error)
            folder.signature = bytes(32)
            return
        mode = info.st_mode & MODE_MASK
        entry = Entry(name, Kind.SYMLINK, mode, info.st_mtime_ns, 0, Content.INLINE, target)
        folder.entries[name] = encode_entry(entry)
        folder.files += 1

    def _merge_side_files(
        self, found: dict[bytes, os.stat_result], path: bytes
    ) -> dict[bytes, list[os.stat_result]]:
        """Take -wal, -shm and -journal files of databases out of a listing; they change what the database says."""
        databases: dict[bytes, list[os.stat_result]] = {}
        if not self._capture:
            return databases
        for name in [name for name in found if name.endswith(_SIDE_FILES)]:
            base = name[: name.rindex(b"-")]
            if base in databases or (base in found and _is_database(path + b"/" + base)):
                info = found.pop(name)
                # The shared-memory file changes with every reader.
                databases.setdefault(base, []).extend([] if name.endswith(b"-shm") else [info])
        return databases

    def _stamp(self, info: os.stat_result, side_files: list[os.stat_result] | None) -> bytes:
        mtime_ns = info.st_mtime_ns
        if stat.S_ISDIR(info.st_mode):
            return _STAMP.pack(info.st_mode, mtime_ns, 0, 0, 0)
        newest_ns = max(mtime_ns, info.st_ctime_ns)
        size_bytes, inode = info.st_size, info.st_ino
        for item in side_files or ():
            newest_ns = max(newest_ns, item.st_mtime_ns)
            size_bytes += item.st_size
            inode ^= item.st_ino ^ item.st_mtime_ns
        if newest_ns + (_TICK_NS if newest_ns % 1_000_000_000 else _COARSE_NS) > self._now_ns:
            return _NO_STAMP
        return _STAMP.pack(info.st_mode, mtime_ns, info.st_ctime_ns, size_bytes, inode & (2**64 - 1))

    def _excluded(self, name: bytes, path: bytes, relative: bytes) -> bool:
        if (path, name) in self._exclude_paths:
            return True
        inside = relative + b"/" + name if relative else name
        return any(pattern.match(name) or pattern.match(inside) for pattern in self._exclude)

    def _fail(self, path: bytes, error: OSError) -> None:
        with self._counters.lock:
            self._counters.errors.append(ItemError(display(path), error.strerror or str(error)))


def display(path: bytes | Path) -> str:
    """Return a path for people: what can't be decoded or would act on a terminal is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _key(relative: bytes) -> bytes:
    return hashlib.blake2b(relative, digest_size=16).digest()


def _is_database(path: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    except OSError:
        return False
