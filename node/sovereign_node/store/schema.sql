-- Generated from the migrations by `python -m sovereign_node.store.schema`; do not edit.

CREATE TABLE accruals (
    contract_id TEXT PRIMARY KEY REFERENCES storage_contracts (contract_id),
    closed_micro_vibe INTEGER NOT NULL CHECK (closed_micro_vibe >= 0),
    price_micro_vibe_per_gb_month INTEGER NOT NULL,
    price_micro_vibe_per_gb_transfer INTEGER NOT NULL,
    bonus_permille INTEGER NOT NULL,
    since_at INTEGER NOT NULL,
    since_gb_seconds INTEGER NOT NULL,
    since_rest_byte_seconds INTEGER NOT NULL CHECK (since_rest_byte_seconds BETWEEN 0 AND 999999999),
    since_bytes_in INTEGER NOT NULL,
    since_bytes_out INTEGER NOT NULL
) STRICT;

CREATE TRIGGER accruals_never_fall BEFORE UPDATE ON accruals
WHEN NEW.closed_micro_vibe < OLD.closed_micro_vibe OR NEW.since_at < OLD.since_at
BEGIN
    SELECT RAISE(ABORT, 'what accrued never falls');
END;

CREATE TABLE appointments (
    contract_id TEXT PRIMARY KEY CHECK (length(contract_id) = 64),
    revision INTEGER NOT NULL,
    customer_identity TEXT NOT NULL,
    provider_identity TEXT NOT NULL,
    provider_device TEXT NOT NULL,
    ends_at INTEGER NOT NULL,
    customer_raw BLOB NOT NULL,
    provider_raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX appointments_provider ON appointments (provider_device, ends_at);

CREATE TABLE audit_log (
    seq INTEGER PRIMARY KEY CHECK (seq >= 1),
    prev_hash TEXT NOT NULL CHECK (length(prev_hash) = 64),
    time INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    outcome TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE CHECK (length(hash) = 64)
) STRICT;

CREATE INDEX audit_log_action ON audit_log (action, time);

CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;

CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'audit_log is append-only');
END;

CREATE TABLE audits (
    audit_id INTEGER PRIMARY KEY,
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    provider_device TEXT NOT NULL CHECK (length(provider_device) = 64),
    chunk_id TEXT NOT NULL CHECK (length(chunk_id) = 64),
    method TEXT NOT NULL,
    outcome TEXT NOT NULL,
    is_sample INTEGER NOT NULL CHECK (is_sample IN (0, 1)),
    size_bytes INTEGER NOT NULL,
    moved_bytes INTEGER NOT NULL,
    passed_before_at INTEGER NOT NULL,
    audited_at INTEGER NOT NULL,
    challenge BLOB NOT NULL,
    answer BLOB NOT NULL,
    verdict BLOB NOT NULL
) STRICT;

CREATE INDEX audits_contract ON audits (contract_id, audited_at);

CREATE INDEX audits_outcome ON audits (contract_id, outcome, audited_at);

CREATE TRIGGER audits_no_update BEFORE UPDATE ON audits
BEGIN
    SELECT RAISE(ABORT, 'audits keeps what was answered');
END;

CREATE TABLE content_index (
    project_id TEXT NOT NULL REFERENCES projects (project_id),
    device_id TEXT NOT NULL,
    path TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('file', 'dir', 'symlink')),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    modified_at INTEGER NOT NULL,
    snapshot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    PRIMARY KEY (project_id, device_id, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX content_index_modified ON content_index (project_id, modified_at);

CREATE TRIGGER content_index_touch AFTER UPDATE ON content_index
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE content_index SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE project_id = NEW.project_id AND device_id = NEW.device_id AND path = NEW.path;
END;

CREATE TABLE contract_statements (
    statement_hash TEXT PRIMARY KEY CHECK (length(statement_hash) = 64),
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    statement_type INTEGER NOT NULL,
    signer TEXT NOT NULL,
    revision INTEGER NOT NULL,
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX contract_statements_contract ON contract_statements (contract_id, revision);

CREATE TRIGGER contract_statements_keep BEFORE UPDATE ON contract_statements
BEGIN
    SELECT RAISE(ABORT, 'contract_statements keeps what was signed');
END;

CREATE TABLE device_registry (
    device_id TEXT PRIMARY KEY CHECK (length(device_id) = 64),
    device_name TEXT NOT NULL,
    device_type TEXT NOT NULL DEFAULT 'unknown'
        CHECK (device_type IN ('server', 'mobile', 'provider', 'unknown')),
    roles TEXT NOT NULL DEFAULT '[]',
    identity TEXT CHECK (length(identity) = 64),
    peer_id TEXT NOT NULL UNIQUE,
    addresses TEXT NOT NULL DEFAULT '[]',
    capabilities INTEGER NOT NULL DEFAULT 0,
    certificate BLOB,
    is_online INTEGER NOT NULL DEFAULT 0 CHECK (is_online IN (0, 1)),
    last_seen INTEGER,
    added_at INTEGER NOT NULL,
    revoked_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;

CREATE INDEX device_registry_identity ON device_registry (identity);

CREATE INDEX device_registry_last_seen ON device_registry (is_online, last_seen);

CREATE TRIGGER device_registry_touch AFTER UPDATE ON device_registry
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE device_registry SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE device_id = NEW.device_id;
END;

CREATE TABLE dht_records (
    record_key BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    sequence INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL,
    published_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE evidence (
    evidence_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    first_raw BLOB NOT NULL,
    second_raw BLOB NOT NULL,
    found_at INTEGER NOT NULL,
    UNIQUE (kind, subject, first_raw, second_raw)
) STRICT;

CREATE TABLE identity_log (
    identity TEXT NOT NULL CHECK (length(identity) = 64),
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    hash TEXT NOT NULL CHECK (length(hash) = 64),
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (identity, sequence)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER identity_log_keep BEFORE UPDATE ON identity_log
BEGIN
    SELECT RAISE(ABORT, 'an entry of identity_log never changes');
END;

CREATE TABLE jobs (
    job_id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    dedup_key TEXT NOT NULL,
    peer_id TEXT,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running')),
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before_at INTEGER NOT NULL,
    last_error TEXT,
    added_at INTEGER NOT NULL,
    UNIQUE (queue, dedup_key)
) STRICT;

CREATE INDEX jobs_due ON jobs (queue, state, not_before_at);

CREATE TABLE ledger_balances (
    account TEXT PRIMARY KEY,
    balance_micro_vibe INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_entries (
    seq INTEGER PRIMARY KEY CHECK (seq >= 1),
    prev_hash TEXT NOT NULL CHECK (length(prev_hash) = 64),
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL CHECK (length(cause) = 64),
    hash TEXT NOT NULL UNIQUE CHECK (length(hash) = 64),
    UNIQUE (kind, cause)
) STRICT;

CREATE TRIGGER ledger_entries_no_delete BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_entries_no_update BEFORE UPDATE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE ledger_postings (
    seq INTEGER NOT NULL REFERENCES ledger_entries (seq),
    line INTEGER NOT NULL CHECK (line >= 0),
    account TEXT NOT NULL,
    amount_micro_vibe INTEGER NOT NULL,
    PRIMARY KEY (seq, line)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_postings_account ON ledger_postings (account);

CREATE TRIGGER ledger_postings_balance AFTER INSERT ON ledger_postings
BEGIN
    INSERT INTO ledger_balances (account, balance_micro_vibe) VALUES (NEW.account, NEW.amount_micro_vibe)
    ON CONFLICT (account) DO UPDATE SET balance_micro_vibe = balance_micro_vibe + NEW.amount_micro_vibe;
END;

CREATE TRIGGER ledger_postings_no_delete BEFORE DELETE ON ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_postings_no_update BEFORE UPDATE ON ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE maintenance_notices (
    notice_hash TEXT PRIMARY KEY CHECK (length(notice_hash) = 64),
    provider_device TEXT NOT NULL CHECK (length(provider_device) = 64),
    contract_id TEXT NOT NULL CHECK (length(contract_id) = 64),
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX maintenance_notices_contract ON maintenance_notices (contract_id, from_at);

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER meta_touch AFTER UPDATE OF value ON meta
BEGIN
    UPDATE meta SET updated_at = CAST(strftime('%s', 'now') AS INTEGER) WHERE key = NEW.key;
END;

CREATE TABLE meters (
    contract_id TEXT PRIMARY KEY REFERENCES storage_contracts (contract_id),
    metered_at INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    stored_chunks INTEGER NOT NULL CHECK (stored_chunks >= 0),
    gb_seconds INTEGER NOT NULL CHECK (gb_seconds >= 0),
    rest_byte_seconds INTEGER NOT NULL CHECK (rest_byte_seconds BETWEEN 0 AND 999999999),
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0)
) STRICT;

CREATE TRIGGER meters_never_fall BEFORE UPDATE ON meters
WHEN NEW.metered_at < OLD.metered_at OR NEW.bytes_in < OLD.bytes_in OR NEW.bytes_out < OLD.bytes_out
    OR (NEW.gb_seconds, NEW.rest_byte_seconds) < (OLD.gb_seconds, OLD.rest_byte_seconds)
BEGIN
    SELECT RAISE(ABORT, 'a meter never falls');
END;

CREATE TABLE peer_addresses (
    peer_id TEXT NOT NULL REFERENCES peers (peer_id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    source TEXT NOT NULL,
    learned_at INTEGER NOT NULL,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (peer_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE peers (
    peer_id TEXT PRIMARY KEY,
    peer_name TEXT NOT NULL DEFAULT '',
    last_seen INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT, WITHOUT ROWID;

CREATE TABLE placed_chunks (
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    chunk_id TEXT NOT NULL CHECK (length(chunk_id) = 64),
    project_id TEXT NOT NULL CHECK (length(project_id) = 64),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    placed_at INTEGER NOT NULL,
    passed_at INTEGER NOT NULL DEFAULT 0,
    leaf_root BLOB,
    PRIMARY KEY (contract_id, chunk_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX placed_chunks_passed ON placed_chunks (contract_id, passed_at);

CREATE TABLE project_collaborators (
    project_id TEXT NOT NULL REFERENCES projects (project_id),
    identity TEXT NOT NULL CHECK (length(identity) = 64),
    role TEXT NOT NULL CHECK (role IN ('owner', 'editor', 'viewer')),
    added_at INTEGER NOT NULL,
    removed_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    PRIMARY KEY (project_id, identity)
) STRICT;

CREATE INDEX project_collaborators_identity ON project_collaborators (identity);

CREATE TRIGGER project_collaborators_touch AFTER UPDATE ON project_collaborators
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE project_collaborators SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE project_id = NEW.project_id AND identity = NEW.identity;
END;

CREATE TABLE projects (
    project_id TEXT PRIMARY KEY CHECK (length(project_id) = 64),
    name TEXT NOT NULL,
    sources TEXT NOT NULL,
    copies INTEGER NOT NULL DEFAULT 1 CHECK (copies >= 1),
    placement TEXT NOT NULL DEFAULT '[]',
    sealed_keys BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    removed_at INTEGER,
    last_backup_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;

CREATE UNIQUE INDEX projects_name ON projects (name) WHERE removed_at IS NULL;

CREATE TRIGGER projects_touch AFTER UPDATE ON projects
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE projects SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE project_id = NEW.project_id;
END;

CREATE TABLE schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    applied_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;

CREATE TABLE seen_heads (
    locator TEXT NOT NULL CHECK (length(locator) = 64),
    device_id TEXT NOT NULL CHECK (length(device_id) = 64),
    instance TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    hash TEXT NOT NULL CHECK (length(hash) = 64),
    raw BLOB NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (locator, device_id, instance)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER seen_heads_never_fall BEFORE UPDATE ON seen_heads
WHEN NEW.sequence <= OLD.sequence
BEGIN
    SELECT RAISE(ABORT, 'a head sequence never falls');
END;

CREATE TABLE settlement_messages (
    message_hash TEXT PRIMARY KEY CHECK (length(message_hash) = 64),
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64),
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    signer TEXT NOT NULL,
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

CREATE INDEX settlement_messages_content ON settlement_messages (content_hash);

CREATE INDEX settlement_messages_contract ON settlement_messages (contract_id, kind, number);

CREATE TRIGGER settlement_messages_no_delete BEFORE DELETE ON settlement_messages
BEGIN
    SELECT RAISE(ABORT, 'settlement_messages keeps what was signed');
END;

CREATE TRIGGER settlement_messages_no_update BEFORE UPDATE ON settlement_messages
BEGIN
    SELECT RAISE(ABORT, 'settlement_messages keeps what was signed');
END;

CREATE TABLE snapshots (
    snapshot_id TEXT PRIMARY KEY CHECK (length(snapshot_id) = 64),
    project_id TEXT NOT NULL REFERENCES projects (project_id),
    device_id TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    file_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    parents TEXT NOT NULL DEFAULT '[]',
    raw BLOB,
    forgotten_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;

CREATE INDEX snapshots_project ON snapshots (project_id, taken_at);

CREATE TABLE storage_contracts (
    contract_id TEXT PRIMARY KEY CHECK (length(contract_id) = 64),
    role TEXT NOT NULL CHECK (role IN ('customer', 'provider')),
    state TEXT NOT NULL CHECK (state IN ('proposed', 'active', 'renewing', 'limited', 'grace',
                                         'ending', 'closed', 'defaulted', 'terminated')),
    provider_identity TEXT NOT NULL,
    provider_device TEXT NOT NULL,
    customer_identity TEXT NOT NULL,
    customer_device TEXT NOT NULL,
    capacity_bytes INTEGER NOT NULL CHECK (capacity_bytes >= 0),
    stored_bytes INTEGER NOT NULL DEFAULT 0 CHECK (stored_bytes >= 0),
    stored_chunks INTEGER NOT NULL DEFAULT 0 CHECK (stored_chunks >= 0),
    storage_gb REAL GENERATED ALWAYS AS (capacity_bytes / 1000000000.0) VIRTUAL,
    price_micro_vibe_per_gb_month INTEGER NOT NULL CHECK (price_micro_vibe_per_gb_month >= 0),
    price_micro_vibe_per_gb_transfer INTEGER NOT NULL CHECK (price_micro_vibe_per_gb_transfer >= 0),
    budget_micro_vibe INTEGER NOT NULL DEFAULT 0,
    credit_limit_micro_vibe INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    period_s INTEGER NOT NULL,
    grace_s INTEGER NOT NULL,
    state_changed_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;

CREATE INDEX storage_contracts_customer ON storage_contracts (customer_identity, state);

CREATE INDEX storage_contracts_end ON storage_contracts (state, ends_at);

CREATE INDEX storage_contracts_provider ON storage_contracts (provider_device, state);

CREATE TRIGGER storage_contracts_touch AFTER UPDATE ON storage_contracts
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE storage_contracts SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE contract_id = NEW.contract_id;
END;

CREATE TABLE storage_metrics (
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    measured_at INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    stored_chunks INTEGER NOT NULL CHECK (stored_chunks >= 0),
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0),
    gb_seconds INTEGER NOT NULL DEFAULT 0,
    rest_byte_seconds INTEGER NOT NULL DEFAULT 0 CHECK (rest_byte_seconds BETWEEN 0 AND 999999999),
    windows_good INTEGER NOT NULL DEFAULT 0,
    windows_observed INTEGER NOT NULL DEFAULT 0,
    uptime_percent REAL GENERATED ALWAYS AS (
        CASE WHEN windows_observed > 0 THEN 100.0 * windows_good / windows_observed END) VIRTUAL,
    created_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    PRIMARY KEY (contract_id, measured_at)
) STRICT;

CREATE INDEX storage_metrics_time ON storage_metrics (measured_at);

CREATE TRIGGER storage_metrics_touch AFTER UPDATE ON storage_metrics
WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE storage_metrics SET updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE contract_id = NEW.contract_id AND measured_at = NEW.measured_at;
END;

CREATE TABLE uptime_windows (
    provider_device TEXT NOT NULL CHECK (length(provider_device) = 64),
    observer_device TEXT NOT NULL CHECK (length(observer_device) = 64),
    number INTEGER NOT NULL CHECK (number >= 0),
    is_good INTEGER NOT NULL CHECK (is_good IN (0, 1)),
    receipt BLOB,
    PRIMARY KEY (provider_device, observer_device, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER uptime_windows_stay_good BEFORE UPDATE ON uptime_windows
WHEN NEW.is_good < OLD.is_good
BEGIN
    SELECT RAISE(ABORT, 'an answer that came stays');
END;

CREATE TABLE vouchers (
    contract_id TEXT NOT NULL REFERENCES storage_contracts (contract_id),
    device_id TEXT NOT NULL CHECK (length(device_id) = 64),
    lane INTEGER NOT NULL CHECK (lane >= 0),
    seq INTEGER NOT NULL CHECK (seq >= 1),
    cumulative_micro_vibe INTEGER NOT NULL CHECK (cumulative_micro_vibe >= 0),
    covers_until INTEGER NOT NULL,
    content_hash TEXT NOT NULL UNIQUE CHECK (length(content_hash) = 64),
    raw BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (contract_id, device_id, lane, seq)
) STRICT;

CREATE TRIGGER vouchers_follow BEFORE INSERT ON vouchers
WHEN NEW.seq != 1 + (SELECT coalesce(max(seq), 0) FROM vouchers
        WHERE contract_id = NEW.contract_id AND device_id = NEW.device_id AND lane = NEW.lane)
    OR NEW.cumulative_micro_vibe < (SELECT coalesce(max(cumulative_micro_vibe), 0) FROM vouchers
        WHERE contract_id = NEW.contract_id AND device_id = NEW.device_id AND lane = NEW.lane)
BEGIN
    SELECT RAISE(ABORT, 'vouchers of a lane count up by one and never fall');
END;

CREATE TRIGGER vouchers_no_delete BEFORE DELETE ON vouchers
BEGIN
    SELECT RAISE(ABORT, 'vouchers keeps what was signed');
END;

CREATE TRIGGER vouchers_no_update BEFORE UPDATE ON vouchers
BEGIN
    SELECT RAISE(ABORT, 'vouchers keeps what was signed');
END;
