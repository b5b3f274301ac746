"""Reading heads from all targets: the newest of each writer, checked against what was seen before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.errors import ForkError, NoTargetError, RollbackError, TargetError
from sovereign_node.vault.files import replace_file
from sovereign_node.vault.target import ChunkTarget
from sovereign_protocols.vault.head import NO_PREVIOUS, Head, HeadPayload, open_payload, parse_head
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import SeenHead

Slot = tuple[bytes, bytes]


class SeenHeads(Protocol):
    """Durable memory of the highest head of every writer; called from worker threads."""

    def highest(self, locator: bytes) -> list[SeenHead]:
        """Return the highest head seen of every writer of a project."""

    def record(self, locator: bytes, head: SeenHead, raw: bytes) -> None:
        """Remember a head that is higher than the one before; durable on return."""

    def forget(self, locator: bytes) -> None:
        """Forget all heads of a project, when a person accepts an older state."""


class FileSeenHeads:
    """Seen heads in one small file, replaced atomically.

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heads: dict[tuple[bytes, Slot], SeenHead] = {}
        if path.exists():
            for locator, value in cbor.decode(path.read_bytes(), max_bytes=4 * 1024 * 1024):
                head = SeenHead.from_value(value)
                self._heads[locator, (head.device, head.instance)] = head

    def highest(self, locator: bytes) -> list[SeenHead]:
        """See :class:`SeenHeads`."""
        return [head for (of, _), head in self._heads.items() if of == locator]

    def record(self, locator: bytes, head: SeenHead, raw: bytes) -> None:
        """See :class:`SeenHeads`."""
        self._heads[locator, (head.device, head.instance)] = head
        self._write()

    def forget(self, locator: bytes) -> None:
        """See :class:`SeenHeads`."""
        self._heads = {key: head for key, head in self._heads.items() if key[0] != locator}
        self._write()

    def _write(self) -> None:
        rows = [[locator, head.to_list()] for (locator, _), head in sorted(self._heads.items())]
        replace_file(self._path, cbor.encode(rows))


@dataclass(frozen=True)
class OpenHead:
    """A head with its payload."""

    head: Head
    payload: HeadPayload

    @property
    def seen(self) -> SeenHead:
        """The form in which others refer to it."""
        return SeenHead(self.head.device, self.head.instance, self.head.sequence, self.head.hash)


@dataclass
class HeadsView:
    """All writers' newest heads, as the targets show them together.

    Args:
        newest: per writer.
        current: per target name and device, the hash of the head that the target holds.
        failures: targets that did not answer.
    """

    newest: dict[Slot, OpenHead] = field(default_factory=dict)
    current: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    failures: list[TargetError] = field(default_factory=list)

    @property
    def effective(self) -> list[OpenHead]:
        """Heads whose content no other head has taken over, oldest first."""
        kept: list[OpenHead] = []
        absorbed: dict[Slot, int] = {}
        for item in sorted(
            self.newest.values(), key=lambda item: (item.payload.created_at, item.head.hash), reverse=True
        ):
            if absorbed.get(item.head.slot, 0) < item.head.sequence:
                kept.append(item)
                for seen in item.payload.absorbed:
                    slot = (seen.device, seen.instance)
                    absorbed[slot] = max(absorbed.get(slot, 0), seen.sequence)
        return kept[::-1]

    @property
    def segment_ids(self) -> set[bytes]:
        """Ids of all segments that effective heads list."""
        return {ref.segment_id for item in self.effective for ref in item.payload.segments}

    def previous_at(self, target: str, device: bytes) -> bytes:
        """Hash of the head that a target holds of a device."""
        return self.current.get(target, {}).get(device, NO_PREVIOUS)


def overtaken(before: HeadsView, now: HeadsView, device: bytes, absorbed: Iterable[SeenHead]) -> bool:
    """Tell whether what a device decided by an earlier view of the heads no longer holds.

    Args:
        before: the view that it decided by.
        now: a later one.
        device: 32 bytes, public key.
        absorbed: heads that it is about to take over.

    Returns:
        True if another device has collected garbage since, so that chunks may be gone, or has taken over heads of
        this one, or if one of ``absorbed`` was the newest of its writer and no longer is.
    """
    for slot, item in now.newest.items():
        known = before.newest.get(slot)
        if slot[0] == device or (known is not None and known.head.sequence >= item.head.sequence):
            continue
        if item.payload.sweep > (known.payload.sweep if known else 0):
            return True
        taken = set(item.payload.absorbed) - set(known.payload.absorbed if known else ())
        if any(seen.device == device for seen in taken):
            return True
    was_newest = {item.seen for item in before.newest.values()}
    newest = {slot: item.head.sequence for slot, item in now.newest.items()}
    return any(
        newest.get((seen.device, seen.instance), 0) > seen.sequence for seen in was_newest.intersection(absorbed)
    )


class HeadReader:
    """Fetches and checks heads.

    Args:
        targets: where to look.
        sealer: the project's sealer.
        seen: durable memory.
        is_author: whether a device may write to the project.
        network_id: 32 bytes.
        remembered: heads that count beside those of the targets, because a target that may hold them is away.
    """

    def __init__(
        self,
        targets: list[ChunkTarget],
        sealer: ProjectSealer,
        seen: SeenHeads,
        is_author: Callable[[bytes], bool],
        network_id: bytes,
        remembered: Callable[[], list[bytes]] = list,
    ) -> None:
        self._targets = targets
        self._sealer = sealer
        self._seen = seen
        self._is_author = is_author
        self._network_id = network_id
        self._remembered = remembered

    async def read(self, *, accept_rollback: bool = False) -> HeadsView:
        """Return what all reachable targets show together.

        Args:
            accept_rollback: forget what was seen before.

        Raises:
            NoTargetError: no target answered.
            RollbackError: the newest head of a writer is older than one seen before, or gone.
            ForkError: two heads of one writer have the same sequence.
        """
        answers: dict[str, list[bytes]] = {}
        view = HeadsView()

        async def ask(target: ChunkTarget) -> None:
            try:
                answers[target.name] = await target.heads(self._sealer.locator)
            except TargetError as error:
                view.failures.append(error)

        async with trio.open_nursery() as nursery:
            for target in self._targets:
                nursery.start_soon(ask, target)
        if not answers:
            raise NoTargetError(view.failures)
        await trio.to_thread.run_sync(self._judge, answers, view, accept_rollback)
        return view

    def _judge(self, answers: dict[str, list[bytes]], view: HeadsView, accept_rollback: bool) -> None:
        newest: dict[Slot, Head] = {}
        for name, raws in answers.items():
            held = view.current.setdefault(name, {})
            for raw in raws:
                head = self._parse(raw)
                if head is None:
                    continue
                held[head.device] = head.hash
                other = newest.get(head.slot)
                if other and other.sequence == head.sequence and other.hash != head.hash:
                    raise ForkError(head.device, other.raw, head.raw)
                if other is None or other.sequence < head.sequence:
                    newest[head.slot] = head
        if accept_rollback:
            self._seen.forget(self._sealer.locator)
        else:
            self._add_remembered(newest)
        for head in newest.values():
            view.newest[head.slot] = OpenHead(head, open_payload(self._sealer, head))
        self._compare_seen(newest, view)

    def _add_remembered(self, newest: dict[Slot, Head]) -> None:
        for head in filter(None, map(self._parse, self._remembered())):
            if head.slot not in newest or newest[head.slot].sequence < head.sequence:
                newest[head.slot] = head

    def _parse(self, raw: bytes) -> Head | None:
        try:
            head = parse_head(raw, self._network_id)
        except CryptoError:
            # A provider may hand out anything; what nobody of the project signed does not count.
            return None
        return head if head.locator == self._sealer.locator and self._is_author(head.device) else None

    def _compare_seen(self, newest: dict[Slot, Head], view: HeadsView) -> None:
        absorbed = {
            (seen.device, seen.instance): seen.sequence
            for item in view.newest.values()
            for seen in item.payload.absorbed
        }
        before = {(item.device, item.instance): item for item in self._seen.highest(self._sealer.locator)}
        for slot, item in before.items():
            head = newest.get(slot)
            if head is None and absorbed.get(slot, 0) >= item.sequence:
                continue
            if head is None or head.sequence < item.sequence:
                raise RollbackError(*slot, item.sequence, head.sequence if head else 0)
            if head.sequence == item.sequence and head.hash != item.head_hash:
                raise ForkError(head.device, head.raw, b"")
        for slot, head in newest.items():
            if slot not in before or before[slot].sequence < head.sequence:
                self._seen.record(self._sealer.locator, SeenHead(*slot, head.sequence, head.hash), head.raw)
