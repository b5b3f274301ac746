"""The state of a node: one object that opens the database and holds every aggregate."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sovereign_node.store import marker
from sovereign_node.store.audit import AuditLog
from sovereign_node.store.audits import Audits, PlacedChunks
from sovereign_node.store.content import ContentIndex
from sovereign_node.store.contracts import Contracts
from sovereign_node.store.database import Database, create_private_file, quick_check
from sovereign_node.store.devices import Devices
from sovereign_node.store.dht_records import DhtRecords
from sovereign_node.store.errors import StateAccessError
from sovereign_node.store.evidence import EvidenceLog
from sovereign_node.store.groups import GroupCommit
from sovereign_node.store.heads import SeenHeads
from sovereign_node.store.identity_logs import IdentityLogs
from sovereign_node.store.jobs import Jobs
from sovereign_node.store.ledger import Ledger
from sovereign_node.store.meta import Meta
from sovereign_node.store.metrics import Metrics
from sovereign_node.store.migrate import migrate
from sovereign_node.store.peers import Peers
from sovereign_node.store.projects import Collaborators, Projects
from sovereign_node.store.settlement import Accruals, Meters, SettlementMessages, Vouchers
from sovereign_node.store.snapshots import Snapshots
from sovereign_node.store.uptime import Uptime

_INSTANCE_BYTES = 8
Result = TypeVar("Result")


class State:
    """Everything that a node remembers. All methods block: call them in worker threads.

    Args:
        path: a database of the newest schema; use `open_state`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)
        self._groups = GroupCommit(self._database)
        self.meta = Meta(self._database)
        self.evidence = EvidenceLog(self._database)
        self.devices = Devices(self._database)
        self.contracts = Contracts(self._database)
        self.metrics = Metrics(self._database)
        self.projects = Projects(self._database)
        self.collaborators = Collaborators(self._database)
        self.content = ContentIndex(self._database)
        self.snapshots = Snapshots(self._database)
        self.heads = SeenHeads(self._database, self.evidence)
        self.identity_logs = IdentityLogs(self._database, self.evidence)
        self.peers = Peers(self._database)
        self.dht_records = DhtRecords(self._database)
        self.jobs = Jobs(self._database)
        self.audit = AuditLog(self._database)
        self.meters = Meters(self._database)
        self.accruals = Accruals(self._database)
        self.vouchers = Vouchers(self._database)
        self.settlement = SettlementMessages(self._database)
        self.ledger = Ledger(self._database)
        self.uptime = Uptime(self._database)
        self.placed_chunks = PlacedChunks(self._database)
        self.audits = Audits(self._database)
        self._marker_path = marker.marker_path(path)
        self._closed = False
        #: Whether this database comes from a backup or another machine; see `accept_restore`.
        self.was_restored = marker.was_restored(self.meta, self._marker_path)
        if self.meta.get("writer_instance") is None:
            self._renew_writer_instance()
        if not self.was_restored:
            marker.rewrite(self.meta, self._marker_path)

    def _renew_writer_instance(self) -> None:
        self.meta.set("writer_instance", secrets.token_hex(_INSTANCE_BYTES))

    def accept_restore(self) -> bytes:
        """Go on with a restored database: begin a new writer instance, so that no sequence number is reused.

        Until this call every start reports `was_restored` again.

        Returns:
            The new writer instance, 8 bytes.
        """
        self._renew_writer_instance()
        marker.rewrite(self.meta, self._marker_path)
        self.was_restored = False
        return self.meta.writer_instance

    def refresh_marker(self) -> None:
        """Rewrite the restore marker after important writes: older copies are then recognized."""
        if not self.was_restored:
            marker.rewrite(self.meta, self._marker_path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several writes one: all happen, or none does."""
        with self._database.transaction():
            yield

    def grouped(self, work: Callable[[], Result]) -> Result:
        """Run a decision as one transaction that shares its commit with those of other threads.

        Args:
            work: reads and writes; may run in another thread, so it must not wait for one.

        Returns:
            What it returned, after its writes are durable.

        Raises:
            StateError: the commit failed.
        """
        return self._groups.run(work)

    def close(self) -> None:
        """Write everything to the file and close it; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.refresh_marker()
        finally:
            self._database.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_state(path: Path) -> State:
    """Open the state database, creating or migrating it first.

    Args:
        path: the database file; its folder must exist. One process at a time: the caller holds the lock of the
            data directory.

    Returns:
        The state, ready to use; close it in the end.

    Raises:
        StateTooNewError: a newer program wrote it; nothing was touched.
        StateForeignError: another program's database; nothing was touched.
        StateCorruptError: the file is damaged.
        StateAccessError: it cannot be opened.
        StateError: anything else that SQLite reports.
    """
    try:
        create_private_file(path)
    except OSError as error:
        raise StateAccessError(f"{path}: {error.strerror}") from error
    migrate(path)
    quick_check(path)
    return State(path)
