"""The node's state: one SQLite file, and the only place where SQL is written.

`open_state` gives a `State`; it has one attribute per *aggregate* (`devices`, `contracts`, `projects`, ...), each
of which reads and writes its tables and returns frozen dataclasses. `State.transaction` makes several writes one.
Ids are bytes here and lower-case hexadecimal in the tables, so that `sqlite3 state.sqlite` reads well.
"""

from sovereign_node.store.audit import AuditEntry, AuditLog, AuditVerdict
from sovereign_node.store.audits import AuditCount, AuditRecord, Audits, PlacedChunk, PlacedChunks
from sovereign_node.store.content import ContentEntry, ContentIndex
from sovereign_node.store.contracts import LIVE_STATES, Contract, Contracts, ContractStatement
from sovereign_node.store.devices import Device, Devices
from sovereign_node.store.dht_records import DhtRecord, DhtRecords
from sovereign_node.store.errors import (
    StateAccessError,
    StateBusyError,
    StateConflictError,
    StateCorruptError,
    StateError,
    StateForeignError,
    StateFullError,
    StateTooNewError,
    StateUnsupportedError,
)
from sovereign_node.store.evidence import Evidence, EvidenceLog
from sovereign_node.store.heads import HeadVerdict, SeenHead, SeenHeads
from sovereign_node.store.identity_logs import IdentityLogEntry, IdentityLogs
from sovereign_node.store.jobs import Job, Jobs
from sovereign_node.store.ledger import Ledger
from sovereign_node.store.meta import Meta
from sovereign_node.store.metrics import Metric, Metrics
from sovereign_node.store.peers import PeerAddress, Peers
from sovereign_node.store.projects import Collaborator, Collaborators, Project, Projects
from sovereign_node.store.settlement import Accruals, Meters, SettlementMessages, Vouchers
from sovereign_node.store.snapshots import SnapshotRow, Snapshots
from sovereign_node.store.state import State, open_state
from sovereign_node.store.uptime import Appointment, MaintenanceNotice, Uptime

__all__ = [
    "LIVE_STATES",
    "Accruals",
    "Appointment",
    "AuditCount",
    "AuditEntry",
    "AuditLog",
    "AuditRecord",
    "AuditVerdict",
    "Audits",
    "Collaborator",
    "Collaborators",
    "ContentEntry",
    "ContentIndex",
    "Contract",
    "ContractStatement",
    "Contracts",
    "Device",
    "Devices",
    "DhtRecord",
    "DhtRecords",
    "Evidence",
    "EvidenceLog",
    "HeadVerdict",
    "IdentityLogEntry",
    "IdentityLogs",
    "Job",
    "Jobs",
    "Ledger",
    "MaintenanceNotice",
    "Meta",
    "Meters",
    "Metric",
    "Metrics",
    "PeerAddress",
    "Peers",
    "PlacedChunk",
    "PlacedChunks",
    "Project",
    "Projects",
    "SeenHead",
    "SeenHeads",
    "SettlementMessages",
    "SnapshotRow",
    "Snapshots",
    "State",
    "StateAccessError",
    "StateBusyError",
    "StateConflictError",
    "StateCorruptError",
    "StateError",
    "StateForeignError",
    "StateFullError",
    "StateTooNewError",
    "StateUnsupportedError",
    "Uptime",
    "Vouchers",
    "open_state",
]
