"""Where chunks go: the interface of a target, one in memory, one in a folder."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from sovereign_node.vault.errors import HeadConflictError, TargetError
from sovereign_node.vault.files import replace_file
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.head import NO_PREVIOUS, parse_head

Sealed = bytes | bytearray
_Result = TypeVar("_Result")
#: What is made of the sealed bytes of a chunk; gets them, and whether their id has been checked.
Unpack = Callable[[Payload, bool], _Result]


class ChunkTarget(Protocol):
    """A place that stores sealed chunks and heads of one project. Methods raise :class:`TargetError` only."""

    @property
    def name(self) -> str:
        """Name for people."""

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        """Tell which chunks the target holds, in the order asked."""

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        """Store a chunk; returns when it is durable. Repeating it is harmless."""

    def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield the chunks that the target has, in any order; missing ones are left out."""

    async def fetch(self, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result | None:
        """Have one chunk unpacked in a worker thread; ``None`` if the target has not got it.

        What ``unpack`` raises is raised here. It is not running any more when this returns, for whatever reason.
        """

    async def delete(self, ids: Sequence[bytes]) -> None:
        """Give chunks up; the target may keep them for a grace period."""

    async def undelete(self, ids: Sequence[bytes]) -> int:
        """Take back deletions whose grace period is not over; return of how many chunks."""

    async def heads(self, locator: bytes) -> list[bytes]:
        """Return the newest head of every device under ``locator``."""

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        """Replace the device's head if the target's current one hashes to ``previous_hash`` (zeros: none).

        Raises:
            HeadConflictError: it does not.
        """

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        """Return up to ``limit`` chunk ids above ``after`` in ascending order; for rebuilding a lost index."""


async def get_one(target: ChunkTarget, chunk_id: bytes) -> bytes | None:
    """Return one chunk as a target gives it, or ``None`` if it has not got it.

    Raises:
        TargetError: the target failed.
    """
    answer: bytes | None = None
    # To the end, although one answer is expected: an abandoned iterator would hold its stream.
    async for found, sealed in target.get([chunk_id]):
        if found == chunk_id:
            answer = sealed
    return answer


async def fetch_whole(target: ChunkTarget, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result | None:
    """Do what :meth:`ChunkTarget.fetch` promises by way of :meth:`ChunkTarget.get`."""
    sealed = await get_one(target, chunk_id)
    if sealed is None:
        return None
    return await trio.to_thread.run_sync(unpack, Payload([sealed]), False)


class MemoryTarget:
    """A target in memory, for tests and measurements."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.chunks: dict[bytes, bytes] = {}
        self.stored_heads: dict[tuple[bytes, bytes], bytes] = {}

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        return [chunk_id in self.chunks for chunk_id in ids]

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        self.chunks[chunk_id] = bytes(sealed)

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """See :class:`ChunkTarget`."""
        for chunk_id in ids:
            await trio.lowlevel.checkpoint()
            if chunk_id in self.chunks:
                yield chunk_id, self.chunks[chunk_id]

    async def fetch(self, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result | None:
        """See :class:`ChunkTarget`."""
        return await fetch_whole(self, chunk_id, unpack)

    async def delete(self, ids: Sequence[bytes]) -> None:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        for chunk_id in ids:
            self.chunks.pop(chunk_id, None)

    async def undelete(self, ids: Sequence[bytes]) -> int:
        """See :class:`ChunkTarget`. There is no grace period."""
        await trio.lowlevel.checkpoint()
        return 0

    async def heads(self, locator: bytes) -> list[bytes]:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        return [raw for key, raw in self.stored_heads.items() if key[0] == locator]

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        parsed = parse_head(head)
        key = (locator, parsed.device)
        current = self.stored_heads.get(key)
        if previous_hash != (hashlib.sha256(current).digest() if current else NO_PREVIOUS):
            raise HeadConflictError(self.name)
        self.stored_heads[key] = head

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        """See :class:`ChunkTarget`."""
        await trio.lowlevel.checkpoint()
        return sorted(chunk_id for chunk_id in self.chunks if chunk_id > after)[:limit]


class DirectoryTarget:
    """A target in a folder, such as a USB disk: one file per chunk, named by its hex id.

    Args:
        root: the folder; created when missing.
        name: name for people.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        self.name = name or root.name
        self._chunks = root / "chunks"
        self._heads = root / "heads"
        for folder in (self._chunks, self._heads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        """See :class:`ChunkTarget`."""
        return await self._run(lambda: [self._path(chunk_id).exists() for chunk_id in ids])

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        """See :class:`ChunkTarget`."""
        await self._run(lambda: _write_durably(self._path(chunk_id), sealed))

    async def get(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """See :class:`ChunkTarget`."""
        for chunk_id in ids:
            data = await self._run(lambda wanted=chunk_id: _read_if_there(self._path(wanted)))  # type: ignore[misc]
            if data is not None:
                yield chunk_id, data

    async def fetch(self, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result | None:
        """See :class:`ChunkTarget`."""
        return await fetch_whole(self, chunk_id, unpack)

    async def delete(self, ids: Sequence[bytes]) -> None:
        """See :class:`ChunkTarget`."""

        def remove() -> None:
            for chunk_id in ids:
                self._path(chunk_id).unlink(missing_ok=True)

        await self._run(remove)

    async def undelete(self, ids: Sequence[bytes]) -> int:
        """See :class:`ChunkTarget`. There is no grace period."""
        await trio.lowlevel.checkpoint()
        return 0

    async def heads(self, locator: bytes) -> list[bytes]:
        """See :class:`ChunkTarget`."""
        pattern = f"{locator.hex()}-*"
        return await self._run(lambda: [path.read_bytes() for path in sorted(self._heads.glob(pattern))])

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        """See :class:`ChunkTarget`."""
        parsed = parse_head(head)
        path = self._heads / f"{locator.hex()}-{parsed.device.hex()}"

        def replace() -> None:
            current = _read_if_there(path)
            if previous_hash != (hashlib.sha256(current).digest() if current else NO_PREVIOUS):
                raise HeadConflictError(self.name)
            _write_durably(path, head)

        await self._run(replace)

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        """See :class:`ChunkTarget`."""

        def names() -> list[bytes]:
            found = (bytes.fromhex(path.name) for path in self._chunks.glob("*/*") if len(path.name) == 64)
            return sorted(chunk_id for chunk_id in found if chunk_id > after)[:limit]

        return await self._run(names)

    def _path(self, chunk_id: bytes) -> Path:
        name = chunk_id.hex()
        return self._chunks / name[:2] / name

    async def _run(self, function: Callable[[], _Result]) -> _Result:
        try:
            return await trio.to_thread.run_sync(function)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise TargetError(self.name, error.strerror or str(error), full=full) from error


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_durably(path: Path, data: Sealed) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, data)
