"""Verification: structure from the snapshots down, presence at every target, and the data itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.errors import TargetError
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.mark import mark
from sovereign_node.vault.report import ProgressNote
from sovereign_node.vault.rewrite import forget_lost, replace_segments
from sovereign_node.vault.session import Session
from sovereign_node.vault.target import ChunkTarget, get_one
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.blobs import BlobDecoder
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.index import ChunkLines, decode_segment
from sovereign_protocols.vault.sealing import ProjectSealer

_IDS_PER_REQUEST = 1024
_PARALLEL_READS = 4
_PROGRESS_EVERY_S = 0.25
_sample = random.SystemRandom().sample


@dataclass(frozen=True, slots=True)
class VerifyError:
    """One thing that is wrong.

    Args:
        kind: ``missing``, ``damaged``, ``tree`` or ``target``.
        target: the target's name; empty where it is about no single one.
        subject: hex chunk id or a path.
        reason: for people.
    """

    kind: str
    target: str
    subject: str
    reason: str


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Args:
        snapshots: snapshots whose trees were followed.
        entries: folders and files followed, equal folders once.
        chunks_total: chunks in the index.
        chunks_checked: chunks whose presence was checked, each counted once.
        chunks_read: copies whose content was read, counted per target.
        bytes_read: their sealed bytes.
        errors: what is wrong, found errors that were repaired included.
        repaired: hex ids of chunks put back at a target.
        lost: hex ids of chunks of which no good copy is left; the next backup stores their content again if the
            source still has it.
        seconds: duration.
    """

    snapshots: int
    entries: int
    chunks_total: int
    chunks_checked: int
    chunks_read: int
    bytes_read: int
    errors: tuple[VerifyError, ...]
    repaired: tuple[str, ...]
    lost: tuple[str, ...]
    seconds: float


@dataclass
class _State:
    """What has been found so far."""

    errors: list[VerifyError] = field(default_factory=list)
    bad: dict[bytes, set[str]] = field(default_factory=dict)
    chunks_checked: int = 0
    chunks_read: int = 0
    bytes_read: int = 0
    chunks_to_read: int = 0

    @property
    def failed_targets(self) -> set[str]:
        """Names of targets that failed."""
        return {error.target for error in self.errors if error.kind == "target"}

    def add(self, kind: str, target: str, chunk_id: bytes, reason: str) -> None:
        """Note a bad or missing copy."""
        self.errors.append(VerifyError(kind, target, chunk_id.hex(), reason))
        self.bad.setdefault(chunk_id, set()).add(target)


async def run_verify(
    session: Session,
    *,
    read_data: float,
    repair: bool,
    on_progress: Callable[[ProgressNote], None] | None,
) -> VerifyReport:
    """Verify; see :meth:`Vault.verify <sovereign_node.vault.facade.Vault.verify>`."""
    started = trio.current_time()
    state = _State()
    index = session.context.index
    snapshots = await session.snapshots()
    async with trio.open_nursery() as nursery:
        if on_progress is not None:
            nursery.start_soon(_tell, state, on_progress)
        marked = await mark(session, snapshots)
        state.errors += [VerifyError("tree", "", path, reason) for path, reason in marked.broken]
        chunks = await trio.to_thread.run_sync(_all_chunks, index)
        segments = list(index.segments())
        ids = [*chunks, *segments]
        present = {target.name: await _present(target, ids, state) for target in session.context.targets}
        _note_missing(ids, present, session.context.config.copies, state)
        state.chunks_checked = len(chunks)
        # Segments are few, and one bad segment hides many chunks: all are read.
        chosen = _sample(sorted(chunks), math.ceil(len(chunks) * read_data)) + segments if read_data else []
        state.chunks_to_read = sum(len(present[target.name] & set(chosen)) for target in session.context.targets)
        for target in session.context.targets:
            await _read_all(
                session, target, [item for item in chosen if item in present[target.name]], chunks, state
            )
        repaired, lost = await _repair(session, state, present) if repair else ([], [])
        nursery.cancel_scope.cancel()
    return VerifyReport(
        len(snapshots),
        marked.entries,
        len(chunks),
        state.chunks_checked,
        state.chunks_read,
        state.bytes_read,
        tuple(state.errors),
        tuple(repaired),
        tuple(lost),
        trio.current_time() - started,
    )


def _all_chunks(index: LocalIndex) -> dict[bytes, int]:
    return {chunk.chunk_id: number for batch in index.chunks() for number, chunk in batch}


async def _present(target: ChunkTarget, ids: list[bytes], state: _State) -> set[bytes]:
    """Ask a target what it holds."""
    present: set[bytes] = set()
    try:
        for at in range(0, len(ids), _IDS_PER_REQUEST):
            batch = ids[at : at + _IDS_PER_REQUEST]
            answers = await target.have(batch)
            present.update(chunk_id for chunk_id, held in zip(batch, answers, strict=True) if held)
    except TargetError as error:
        state.errors.append(VerifyError("target", target.name, "", error.reason))
    return present


def _note_missing(ids: list[bytes], present: dict[str, set[bytes]], copies: int, state: _State) -> None:
    """Note chunks of which there are fewer copies than wanted, at as many targets as ought to have one more."""
    wanted = min(copies or len(present), len(present))
    for chunk_id in ids:
        without = [name for name, held in present.items() if chunk_id not in held]
        copies_held = len(present) - len(without)
        if copies_held < wanted:
            asked = [name for name in without if name not in state.failed_targets]
            for name in asked[: wanted - copies_held] if copies_held else asked:
                state.add("missing", name, chunk_id, "the target does not have the chunk")


async def _read_all(
    session: Session, target: ChunkTarget, ids: list[bytes], chunks: dict[bytes, int], state: _State
) -> None:
    """Read chunks of one target, some at once."""
    pending = iter(ids)
    sealer, index = session.context.sealer, session.context.index

    def check(decoder: BlobDecoder, chunk_id: bytes, sealed: Payload, id_checked: bool) -> int:
        if chunk_id in chunks:
            expected = index.chunk_lines(chunks[chunk_id])
            check_chunk(sealer, decoder, expected, sealed, id_checked=id_checked)
        else:
            check_segment(sealer, chunk_id, sealed.to_bytes())
        return len(sealed)

    async def read() -> None:
        decoder = BlobDecoder(sealer.dedup_key)
        for chunk_id in pending:
            try:
                size_bytes = await target.fetch(chunk_id, partial(check, decoder, chunk_id))
                if size_bytes is None:
                    state.add(
                        "missing", target.name, chunk_id, "the target says that it has the chunk, but has not"
                    )
                    continue
                state.bytes_read += size_bytes
            except CryptoError as error:
                state.add("damaged", target.name, chunk_id, str(error))
            except TargetError as error:
                state.add("target", target.name, chunk_id, error.reason)
                continue
            state.chunks_read += 1

    async with trio.open_nursery() as nursery:
        for _ in range(_PARALLEL_READS):
            nursery.start_soon(read)


def check_chunk(
    sealer: ProjectSealer, decoder: BlobDecoder, expected: ChunkLines, sealed: Payload, *, id_checked: bool
) -> None:
    """Check everything about one chunk: id, seal, layout, index, and every blob.

    Raises:
        CryptoError: something is wrong.
    """
    container = Container(sealer.open_arrived(expected.chunk_id, sealed, id_checked=id_checked))
    if container.directory != expected.lines:
        raise ContentError("directory differs from the index")
    at = 0
    for record in container.records:
        decoder.decode(record, container.stored(at, record.stored_bytes), record.type)
        at += record.stored_bytes


def check_segment(sealer: ProjectSealer, segment_id: bytes, sealed: bytes) -> None:
    """Check everything about one index segment; errors as :func:`check_chunk`."""
    for chunk in decode_segment(sealer.open_segment(segment_id, sealed)):
        chunk.records()


async def _repair(session: Session, state: _State, present: dict[str, set[bytes]]) -> tuple[list[str], list[str]]:
    """Put good copies where bad ones are; what has no good copy is forgotten, so that it is stored again."""
    targets = {target.name: target for target in session.context.targets}
    sealer = session.context.sealer
    repaired: list[str] = []
    lost: list[bytes] = []
    for chunk_id, bad_at in state.bad.items():
        good: bytes | None = None
        for name, target in targets.items():
            if name not in bad_at and chunk_id in present[name]:
                good = await _good_copy(sealer, target, chunk_id)
            if good is not None:
                break
        if good is None:
            # A target that failed in between may have it.
            if not state.failed_targets:
                lost.append(chunk_id)
            continue
        for name in sorted(bad_at):
            try:
                await targets[name].put(chunk_id, good)
                repaired.append(chunk_id.hex())
            except TargetError as error:
                state.errors.append(VerifyError("target", name, chunk_id.hex(), error.reason))
    segments = set(lost) & set(session.context.index.segments())
    if segments:
        await replace_segments(session, segments)
    if len(segments) < len(lost):
        await forget_lost(session, set(lost) - segments)
    return repaired, [chunk_id.hex() for chunk_id in lost]


async def _good_copy(sealer: ProjectSealer, target: ChunkTarget, chunk_id: bytes) -> bytes | None:
    try:
        sealed = await get_one(target, chunk_id)
        if sealed is not None:
            await trio.to_thread.run_sync(sealer.check_id, chunk_id, sealed)
        return sealed
    except (TargetError, CryptoError):
        return None


async def _tell(state: _State, on_progress: Callable[[ProgressNote], None]) -> None:
    started = trio.current_time()

    def note() -> ProgressNote:
        seconds = trio.current_time() - started
        rate = int(state.bytes_read / seconds) if seconds > 0 else 0
        errors = len(state.errors)
        done, total = state.chunks_read, state.chunks_to_read
        return ProgressNote(
            "verify",
            done,
            total,
            state.bytes_read,
            0,
            0,
            0,
            0,
            0,
            rate,
            _eta(done, total, seconds),
            errors,
            seconds,
        )

    try:
        while True:
            on_progress(note())
            await trio.sleep(_PROGRESS_EVERY_S)
    finally:
        on_progress(note())


def _eta(done: int, total: int, seconds: float) -> int:
    return int(seconds * (total - done) / done) if done and total else -1
