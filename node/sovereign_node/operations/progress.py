"""Progress of a vault operation as JSON, at most a few lines per second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from sovereign_node.api.operations import ReportProgress
from sovereign_node.vault.report import ProgressNote

INTERVAL_S = 0.2


@asynccontextmanager
async def forward_progress(report: ReportProgress, **extra: Any) -> AsyncIterator[Callable[[ProgressNote], None]]:
    """Serve the block with a function that takes notes; the newest one is reported every 0.2 s.

    Args:
        report: sends one JSON object to the client.
        extra: fields that go with every note.
    """
    newest: list[ProgressNote] = []

    async def send() -> None:
        while True:
            await trio.sleep(INTERVAL_S)
            if newest:
                await report(as_json(newest.pop()) | extra)

    def take(note: ProgressNote) -> None:
        newest[:] = [note]

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            yield take
        except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it into a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def as_json(note: ProgressNote) -> dict[str, Any]:
    """Return a note as the API gives it."""
    return {
        "phase": note.phase,
        "files_done": note.files_done,
        "files_total": note.files_total,
        "bytes_done": note.bytes_done,
        "bytes_total": note.bytes_total,
        "bytes_sent": note.bytes_sent,
        "new_bytes": note.bytes_new,
        "dedup_saved_bytes": note.dedup_saved_bytes,
        "compression_saved_bytes": note.compression_saved_bytes,
        "rate_bytes_per_s": note.rate_bytes_per_s,
        "eta_s": note.eta_s,
        "errors": note.errors,
    }
