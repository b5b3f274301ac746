"""A project on a device, with everything that a test wants to change."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.facade import Vault
from sovereign_node.vault.heads import FileSeenHeads
from sovereign_node.vault.target import ChunkTarget, MemoryTarget, Sealed

START_AT = 1_800_000_000


@dataclass
class Bench:
    """Makes vaults of one project for one or more devices; the clock moves one minute per reading."""

    folder: Path
    keys: ProjectKeys = field(default_factory=ProjectKeys.generate)
    target: MemoryTarget = field(default_factory=MemoryTarget)
    device: SigningKey = field(default_factory=SigningKey.generate)
    now: int = START_AT
    opened: list[Vault] = field(default_factory=list)

    def clock(self) -> int:
        self.now += 60
        return self.now

    def vault(
        self,
        name: str = "laptop",
        *,
        targets: list[ChunkTarget] | None = None,
        device: SigningKey | None = None,
        is_author: Callable[[bytes], bool] = lambda _: True,
        remembered: Callable[[], list[bytes]] = list,
        **config: Any,
    ) -> Vault:
        base = self.folder / name
        base.mkdir(exist_ok=True)
        vault = Vault(
            self.keys,
            device or self.device,
            cache_dir=base / "cache",
            spool_dir=base / "spool",
            targets=[self.target] if targets is None else targets,
            seen=FileSeenHeads(base / "seen.cbor"),
            is_author=is_author,
            config=VaultConfig(**config),
            clock=self.clock,
            remembered=remembered,
        )
        self.opened.append(vault)
        return vault


class NoHeads(MemoryTarget):
    """Takes chunks, but fails when it is to take a head."""

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        raise TargetError(self.name, "the connection was lost")


class GraceTarget(MemoryTarget):
    """Keeps what is deleted until it is told that the grace period is over; lets tests act in the middle of a call.

    Args:
        name: for people.
    """

    def __init__(self, name: str = "memory") -> None:
        super().__init__(name)
        self.marked: set[bytes] = set()
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}

    async def have(self, ids: Sequence[bytes]) -> list[bool]:
        held = await super().have(ids)
        return [there and chunk_id not in self.marked for there, chunk_id in zip(held, ids, strict=True)]

    async def put(self, chunk_id: bytes, sealed: Sealed) -> None:
        await self._act("put")
        await super().put(chunk_id, sealed)
        self.marked.discard(chunk_id)

    async def delete(self, ids: Sequence[bytes]) -> None:
        await self._act("delete")
        self.marked.update(chunk_id for chunk_id in ids if chunk_id in self.chunks)

    async def undelete(self, ids: Sequence[bytes]) -> int:
        await self._act("undelete")
        found = self.marked.intersection(ids)
        self.marked -= found
        return len(found)

    async def set_head(self, locator: bytes, head: bytes, previous_hash: bytes) -> None:
        await self._act("set_head")
        await super().set_head(locator, head, previous_hash)

    async def list_ids(self, after: bytes, limit: int) -> list[bytes]:
        return [chunk_id for chunk_id in await super().list_ids(after, limit) if chunk_id not in self.marked]

    def end_grace(self) -> None:
        for chunk_id in self.marked:
            del self.chunks[chunk_id]
        self.marked.clear()

    async def _act(self, call: str) -> None:
        action = self.before.pop(call, None)
        if action is not None:
            await action()


def age(root: Path, to_ns: int = 1_700_000_000_123_456_789) -> None:
    """Set all times back; an entry's ctime stays, so also wait out the tick in which it was written."""
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(to_ns, to_ns), follow_symlinks=False)


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """What must survive: kinds, modes, times, contents."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        name = os.fsencode(path.relative_to(root)).hex()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path), info.st_mtime_ns)
        elif path.is_dir():
            found[name] = ("folder", stat.S_IMODE(info.st_mode), info.st_mtime_ns)
        else:
            found[name] = ("file", stat.S_IMODE(info.st_mode), info.st_mtime_ns, path.read_bytes())
    return found


def whole(path: Path) -> list[Source]:
    return [Source(path)]
