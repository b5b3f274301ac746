"""Protect, back up, list, restore."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress, error_document
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.operations.progress import forward_progress
from sovereign_node.operations.quotes import QuoteParameters, make_quote
from sovereign_node.services.projects import BackupOutcome, OpenProject
from sovereign_node.store.projects import Project
from sovereign_node.translate import translated
from sovereign_node.vault.report import ItemError
from sovereign_node.vault.run_restore import RestoreReport
from sovereign_node.vault.safe_fs import Existing
from sovereign_protocols.vault.tree import Entry, Kind

EXISTING = {
    None: Existing.REFUSE,
    "never": Existing.KEEP,
    # Entries of equal size and time count as unchanged and are not written again.
    "changed": Existing.REPLACE,
    "always": Existing.REPLACE,
}
KIND_NAMES = {Kind.FILE: "file", Kind.DIRECTORY: "dir", Kind.SYMLINK: "symlink"}
MAX_LISTED = 200_000


@dataclass(frozen=True)
class ProtectParameters:
    """What `protect` takes; the path is absolute."""

    path: str
    name: str | None = None
    copies: int | None = None


@dataclass(frozen=True)
class ProjectParameters:
    """What `unprotect` takes."""

    project: str


@dataclass(frozen=True)
class BackupParameters:
    """What `backup` takes; without a project, all of them."""

    project: str | None = None


@dataclass(frozen=True)
class SnapshotParameters:
    """What `snapshots` takes; without a project, all of them."""

    project: str | None = None


@dataclass(frozen=True)
class ListParameters:
    """What `ls` takes."""

    project: str
    snapshot: str | None = None
    path: str | None = None
    recursive: bool = False


@dataclass(frozen=True)
class RestoreParameters:
    """What `restore` takes; the folder is absolute."""

    project: str
    to: str
    snapshot: str | None = None
    path: str | None = None
    overwrite: str | None = None
    dry_run: bool = False


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""
    return [
        Operation("protect", "Make a project of a folder or a file", ProtectParameters, partial(_protect, node)),
        Operation(
            "unprotect", "Stop protecting a project on this device", ProjectParameters, partial(_unprotect, node)
        ),
        Operation("project_list", "List projects", NoParameters, partial(_project_list, node)),
        Operation("backup", "Store what is new", BackupParameters, partial(_backup, node), streams=True),
        Operation("snapshots", "List snapshots", SnapshotParameters, partial(_snapshots, node)),
        *_reading(node),
    ]


async def _protect(node: Node, parameters: ProtectParameters, _report: ReportProgress) -> Any:
    if parameters.copies is not None and not 1 <= parameters.copies <= 16:
        raise NodeError("bad_request", "copies go from 1 to 16", "use --copies 2", ExitCode.USAGE)
    project = await trio.to_thread.run_sync(
        node.projects.protect, parameters.path, parameters.name, parameters.copies
    )
    node.recovery.publish_soon()
    return {"id": project.project_id.hex(), "name": project.name, "sources": list(project.sources)}


async def _unprotect(node: Node, parameters: ProjectParameters, _report: ReportProgress) -> Any:
    project = await trio.to_thread.run_sync(node.projects.find, parameters.project)
    await trio.to_thread.run_sync(node.projects.unprotect, project)
    return {"id": project.project_id.hex(), "name": project.name}


async def _project_list(node: Node, _: NoParameters, _report: ReportProgress) -> Any:
    return await trio.to_thread.run_sync(
        lambda: [node.projects.summary(project) for project in node.state.projects.all()]
    )


async def _backup(node: Node, parameters: BackupParameters, report: ReportProgress) -> Any:
    projects = await trio.to_thread.run_sync(node.projects.chosen, parameters.project)
    if parameters.project is None:
        projects = [project for project in projects if project.sources]
    if not projects:
        raise NodeError(
            "no_project", "nothing is protected on this device", "sovereign protect PATH", ExitCode.NOT_FOUND
        )
    await node.recovery.settle()
    if len(projects) == 1:
        return await _backup_one(node, projects[0], report)
    return {"projects": await _backup_each(node, projects, report)}


async def _snapshots(node: Node, parameters: SnapshotParameters, _report: ReportProgress) -> Any:
    projects = await trio.to_thread.run_sync(node.projects.chosen, parameters.project)
    names = await trio.to_thread.run_sync(
        lambda: {device.device_id: device.device_name for device in node.state.devices.all()}
    )
    return [
        {
            "id": row.snapshot_id.hex(),
            "project": project.project_id.hex(),
            "project_name": project.name,
            "time": row.taken_at,
            "files": row.file_count,
            "bytes": row.size_bytes,
            "device": row.device_id.hex(),
            "device_name": names.get(row.device_id, ""),
        }
        for project in projects
        for row in await node.projects.snapshots(project)
    ]


async def _backup_each(node: Node, projects: list[Project], report: ReportProgress) -> list[dict[str, Any]]:
    """Back up several projects; one that fails keeps none of the others from it."""
    results: list[dict[str, Any]] = []
    failures: list[NodeError] = []
    for project in projects:
        try:
            with translated():
                results.append(await _backup_one(node, project, report))
        except NodeError as error:
            failures.append(error)
            results.append(
                {"project": project.project_id.hex(), "project_name": project.name} | error_document(error)
            )
    if len(failures) == len(projects):
        raise failures[0]
    return results


def _reading(node: Node) -> list[Operation]:
    async def ls(parameters: ListParameters, _report: ReportProgress) -> Any:
        project = await trio.to_thread.run_sync(node.projects.find, parameters.project)
        async with node.projects.open(project) as opened:
            listing = _Listing(opened.vault.list_tree, parameters.snapshot or "", parameters.recursive)
            return await listing.run((parameters.path or "").strip("/"))

    async def restore(parameters: RestoreParameters, report: ReportProgress) -> Any:
        project = await trio.to_thread.run_sync(node.projects.find, parameters.project)
        if parameters.overwrite not in EXISTING:
            raise NodeError("bad_request", "overwrite is never, changed or always", "", ExitCode.USAGE)
        target = Path(parameters.to)
        if not target.is_absolute():
            raise NodeError("bad_request", "the folder must be an absolute path", "", ExitCode.USAGE)
        async with node.projects.open(project) as opened:
            if parameters.dry_run:
                plan = await _plan_restore(opened, parameters)
                wanted = QuoteParameters(kind="restore", stored_bytes=plan["bytes"])
                return plan | {"price": await make_quote(node, wanted)}
            async with forward_progress(report) as on_progress:
                done = await opened.vault.restore(
                    target,
                    snapshot=parameters.snapshot or "",
                    paths=[parameters.path] if parameters.path else [],
                    existing=EXISTING[parameters.overwrite],
                    on_progress=on_progress,
                )
            if opened.is_local_only and opened.targets.missing and done.errors and not done.files:
                raise NodeError(
                    "no_provider_reached",
                    f"no provider that holds the data could be reached: {', '.join(opened.targets.missing)}",
                    "try again when one of them is on line",
                    ExitCode.UNREACHABLE,
                )
        return _restore_row(project, done, target)

    return [
        Operation("ls", "List the files of a snapshot", ListParameters, ls),
        Operation("restore", "Write a snapshot into a folder", RestoreParameters, restore, streams=True),
    ]


async def _plan_restore(opened: OpenProject, parameters: RestoreParameters) -> dict[str, Any]:
    """Say what a restore would write."""
    snapshot = await opened.vault.snapshot(parameters.snapshot or "")
    listing = _Listing(opened.vault.list_tree, snapshot.snapshot_id.hex(), recursive=True)
    rows = await listing.run((parameters.path or "").strip("/"))
    return {
        "project": opened.project.project_id.hex(),
        "project_name": opened.project.name,
        "snapshot": snapshot.snapshot_id.hex(),
        "files": sum(row["kind"] != "dir" for row in rows),
        "directories": sum(row["kind"] == "dir" for row in rows),
        "bytes": sum(row["size"] for row in rows),
        "seconds": 0.0,
        "errors": [],
        "skipped": 0,
        "partial": False,
        "to": parameters.to,
        "dry_run": True,
    }


def _restore_row(project: Project, done: RestoreReport, target: Path) -> dict[str, Any]:
    return {
        "project": project.project_id.hex(),
        "project_name": project.name,
        "snapshot": done.snapshot,
        "files": done.files + done.symlinks,
        "directories": done.directories,
        "bytes": done.bytes_written,
        "bytes_fetched": done.bytes_fetched,
        "seconds": round(done.seconds, 3),
        "errors": item_errors(done.errors),
        "skipped": done.present,
        "partial": done.partial,
        "to": str(target),
    }


def item_errors(errors: tuple[ItemError, ...]) -> list[dict[str, str]]:
    """Return errors of single entries as JSON."""
    return [{"path": item.path, "reason": item.reason} for item in errors]


async def _backup_one(node: Node, project: Project, report: ReportProgress) -> dict[str, Any]:
    async with forward_progress(report, project_name=project.name) as on_progress:
        outcome = await node.projects.backup(project, on_progress)
    return _backup_row(project, outcome)


def _backup_row(project: Project, outcome: BackupOutcome) -> dict[str, Any]:
    done = outcome.report
    return {
        "project": done.project,
        "project_name": project.name,
        "snapshot": done.snapshot,
        "files": done.files,
        "files_changed": done.files_changed,
        "bytes_total": done.bytes_total,
        "bytes_read": done.bytes_read,
        "bytes_sent": done.bytes_sent,
        "chunks_sent": done.chunks_sent,
        "new_bytes": done.bytes_new,
        "dedup_saved_bytes": done.dedup_saved_bytes,
        "compression_saved_bytes": done.compression_saved_bytes,
        "seconds": round(done.seconds, 3),
        "partial": done.partial,
        "errors": [*item_errors(done.errors), *item_errors(done.failed_targets)],
        "targets": list(outcome.targets),
        "missing": list(outcome.missing),
        "queued": outcome.queued,
    }


class _Listing:
    """One `ls`: a folder, or everything below it."""

    def __init__(self, list_tree: Any, snapshot: str, recursive: bool) -> None:
        self._list_tree = list_tree
        self._snapshot = snapshot
        self._recursive = recursive
        self._rows: list[dict[str, Any]] = []

    async def run(self, path: str) -> list[dict[str, Any]]:
        """Return the entries at and, if asked for, below ``path``."""
        pending = [path]
        while pending:
            folder = pending.pop()
            entries: list[Entry] = await self._list_tree(self._snapshot, os.fsencode(folder))
            is_file = len(entries) == 1 and folder and os.fsdecode(entries[0].name) == folder.rpartition("/")[2]
            prefix = folder.rpartition("/")[0] if is_file and entries[0].kind is not Kind.DIRECTORY else folder
            for entry in entries:
                name = os.fsdecode(entry.name)
                entry_path = f"{prefix}/{name}" if prefix else name
                self._rows.append(_entry_row(entry, entry_path))
                if self._recursive and entry.kind is Kind.DIRECTORY:
                    pending.append(entry_path)
            if len(self._rows) > MAX_LISTED:
                raise NodeError(
                    "too_many_entries", "too many entries", "list a folder: --path FOLDER", ExitCode.USAGE
                )
        return sorted(self._rows, key=lambda row: row["path"])


def _entry_row(entry: Entry, path: str) -> dict[str, Any]:
    row = {
        "path": path,
        "kind": KIND_NAMES[entry.kind],
        "mode": entry.mode,
        "size": entry.size_bytes,
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind is Kind.SYMLINK:
        row["target"] = os.fsdecode(entry.content)
    return row
