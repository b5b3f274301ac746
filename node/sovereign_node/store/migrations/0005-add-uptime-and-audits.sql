-- What observers measured and what auditors asked. Messages are kept as they were signed.

-- One row for each ten-minute window in which an observer asked a provider; number = Unix seconds div 600.
-- The receipt is signed by the provider, or by the observer at the provider; none where there was no answer.
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

-- Maintenance that a provider announced before it began.
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

-- The chunks that a provider acknowledged under a contract, as far as this node knows them from its own index:
-- a provider that lists its chunks itself could leave out what it lost.
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

-- outcome: passed, failed, no_answer. is_sample: drawn at random from all chunks, so it counts in statistics.
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
